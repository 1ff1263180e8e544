"""Audit's decisions as pure functions: hashing, signing, sampling, judging. Nothing here does I/O."""
