"""Vehicles on a road: car-following, lane changes, motion, the pace-car problem."""
