"""Robots from MJCF and URDF, through MuJoCo's compiler, as the UsdPhysics files used here."""
