"""One function a command or event: load, decide, store, announce."""
