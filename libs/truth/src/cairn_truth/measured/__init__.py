"""Recorded crowds: played back for the stop rule, and every method scored on them."""
