"""Decisions as pure functions and states; nothing here does I/O."""
