"""Who answers next: when to stop asking people, when a model may answer alone, which item is worth an answer."""
