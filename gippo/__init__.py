"""Gradient-informed PPO, and its baselines, on the differentiable environments of `warp_envs`."""

__version__ = "0.1.0"
