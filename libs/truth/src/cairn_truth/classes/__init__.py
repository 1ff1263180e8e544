"""Votes on classes joined: the published methods, our default, and its live state."""
