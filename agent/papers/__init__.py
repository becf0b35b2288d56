"""Papers for people: one frame of HTML, read on a screen or printed as PDF, with QR codes."""
