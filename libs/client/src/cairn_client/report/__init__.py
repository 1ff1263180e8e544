"""A project in one self-contained HTML page."""
