"""The Cairn SDK and the cairn command."""
