"""What was said about an item, and which label stands."""
