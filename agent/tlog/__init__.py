"""Transparency-log formats without any I/O: the Merkle tree of RFC 9162 and the notes and proofs of C2SP."""
