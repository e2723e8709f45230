"""Warp functions and kernels of gippo: dynamics, contact, rewards, traffic, landscapes.

This package imports Warp and, where it writes kernels for a robot, numpy. `GIPPO_KERNELS` marks it
as gippo's own: an unrelated distribution on PyPI is also called ``kernels``, and `warp_envs`
refuses to run on that one.
"""

GIPPO_KERNELS = True
