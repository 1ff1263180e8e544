"""Answers of one value: numbers and ratings, rankings and preferences, text."""
