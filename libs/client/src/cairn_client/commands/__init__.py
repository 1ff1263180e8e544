"""The `cairn` command: one module for each group of subcommands."""
