"""Machine labelers: leases ahead, judging, and submissions behind, as one loop."""
