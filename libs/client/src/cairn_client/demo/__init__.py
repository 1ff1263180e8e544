"""The demonstration: real handwritten digits, a simulated crowd, and the whole loop in a minute or two."""
