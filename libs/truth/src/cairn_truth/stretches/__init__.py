"""Answers that are stretches of a line: spans of text and their relations, segments of time."""
