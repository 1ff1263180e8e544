"""Decisions of inference as pure functions: nothing here reads a file, a socket or a clock."""
