"""Recorders spoken to over a serial line before their files are read: who they are, how wrong their clock is."""
