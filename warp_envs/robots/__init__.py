"""Environments with a robot, one file each."""
