"""What the documentation tells people."""
