"""Tests of the robots in assets/."""
