"""Dynamics of articulated bodies, as plain kernels: the reference."""
