"""Trajectories of a road network as SUMO's FCD XML and as CSV."""
