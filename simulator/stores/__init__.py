"""Real servers of central storage on loopback, for tests, demo and bench; nothing here is shipped."""
