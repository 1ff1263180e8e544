"""The chassis that every Cairn service stands on."""
