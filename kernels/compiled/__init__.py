"""The same dynamics written once as equations and emitted as straight-line code for one robot."""
