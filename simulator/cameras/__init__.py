"""Cameras for tests, demo and bench: GStreamer's RTSP server on footage that is known frame by frame, and faults."""
