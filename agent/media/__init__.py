"""What the content of an original says: read by a locked child, checked by the daemon."""
