"""The traffic simulator and the environments on it."""
