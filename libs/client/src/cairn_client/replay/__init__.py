"""A recorded crowd, played through the public API: what Cairn would have made of these very answers."""
