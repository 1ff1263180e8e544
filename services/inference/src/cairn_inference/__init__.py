"""What a model says, and whether that is sure enough to skip people."""
