"""The commands, one file each, with `help_text() -> str` and `run(arguments) -> exit status`."""
