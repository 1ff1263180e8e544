"""Whether the labels are as good as claimed, and whether history is intact."""
