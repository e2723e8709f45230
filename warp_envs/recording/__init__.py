"""Rollouts written as USD."""
