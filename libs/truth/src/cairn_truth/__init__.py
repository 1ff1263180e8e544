"""Label aggregation and label statistics in pure NumPy."""
