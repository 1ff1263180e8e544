"""Inference with an echo in the same process, for what a call costs by itself."""

SERVICE_NAME = "bench.Echo"
DIM, CLASSES = 1552, 10
"""Of the models that are asked by vectors: as long as those of images, and digits."""
