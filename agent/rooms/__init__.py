"""Records the cameras and microphones of a room: a recorder process per room, and what the daemon knows of it."""
