"""What the answers, taken together, say."""
