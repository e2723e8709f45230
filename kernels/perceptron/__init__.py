"""Passes of small networks and their losses as native tasks for a CPU."""
