"""Training a head on frozen features, in a process of its own: `python -m cairn_inference.training`.

It can be killed at any time; nothing but its output folder knows of it.
"""
