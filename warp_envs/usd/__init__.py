"""Robots read from USD, and from what Newton imports."""
