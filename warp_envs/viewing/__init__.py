"""Recorded rollouts shown: in a browser, as pictures, by Newton's viewers."""
