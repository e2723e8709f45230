"""From a command line and files to a checked configuration."""
