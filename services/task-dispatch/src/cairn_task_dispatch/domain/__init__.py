"""Decisions of task-dispatch, as pure functions."""
