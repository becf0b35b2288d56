"""Measures the agent against plain commands that keep the same promise, in the same run on the same machine."""
