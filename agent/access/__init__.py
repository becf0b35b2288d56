"""Makes from an original what people look at (查阅副本, pictures), and finds out what is wrong with it."""
