"""Inboxes (收件夹): folders in which others put recordings, and when a file there is complete."""
