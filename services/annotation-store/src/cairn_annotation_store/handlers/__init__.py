"""What the service does, one function a command or event: load, decide, store, announce."""
