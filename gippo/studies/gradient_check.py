"""An environment's gradient against central differences, over several steps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch


@dataclass(frozen=True)
class StepCheck:
    """The gradient with respect to one step's actions."""

    step: int
    magnitude: float
    """Largest absolute derivative."""
    error: float
    """Largest difference, relative to the largest derivative of that environment and step."""
    kinks: int
    """Derivatives left out, since differences over h and h/2 disagree: the function bends there."""
    count: int
    """Derivatives in all."""


def check_env_gradient(
    env: Any, *, num_steps: int, action_scale: float, step_size: float, seed: int
) -> list[StepCheck]:
    """Differentiate a random weighting of rewards and final observations of a window.

    Args:
        env: in double precision; left anywhere.
        num_steps: of the window, T.
        action_scale: actions are uniform within it, and stay where they are not clipped.
        step_size: h of the central differences.
        seed: of actions and weights.

    Returns:
        One entry per step.
    """
    generator = torch.Generator().manual_seed(seed)
    shape = (num_steps, env.num_envs, env.num_actions)
    actions = torch.rand(shape, dtype=env.dtype, generator=generator) * 2.0 - 1.0
    actions = (action_scale * actions).to(env.device)
    weights = torch.randn(num_steps, env.num_obs + 1, dtype=env.dtype, generator=generator)
    weights = weights.to(env.device)
    start = env.get_state()

    def objective(given: torch.Tensor) -> torch.Tensor:
        """(num_envs,): every environment's own sum."""
        env.set_state(start)
        env.detach()
        total = torch.zeros(env.num_envs, dtype=env.dtype, device=env.device)
        for action, weight in zip(given, weights, strict=True):
            _, reward, _, _, info = env.step(action)
            total = total + weight[0] * reward + info["final_obs"] @ weight[1:]
        return total

    leaf = actions.clone().requires_grad_(True)
    (analytic,) = torch.autograd.grad(objective(leaf).sum(), leaf)
    with torch.no_grad():
        wide, narrow = (_differences(objective, actions, h) for h in (step_size, step_size / 2))
    return [_compare(t, analytic[t], wide[t], narrow[t]) for t in range(num_steps)]


def _differences(objective: Any, actions: torch.Tensor, h: float) -> torch.Tensor:
    """Central differences, one action of every environment at a time: they do not touch."""
    result = torch.empty_like(actions)
    for t in range(actions.shape[0]):
        for k in range(actions.shape[2]):
            moved = []
            for sign in (1.0, -1.0):
                shifted = actions.clone()
                shifted[t, :, k] += sign * h
                moved.append(objective(shifted))
            result[t, :, k] = (moved[0] - moved[1]) / (2.0 * h)
    return result


def _compare(
    step: int, analytic: torch.Tensor, wide: torch.Tensor, narrow: torch.Tensor
) -> StepCheck:
    """Compare (num_envs, num_actions) derivatives."""
    scale = torch.maximum(analytic.abs(), narrow.abs()).amax(dim=1, keepdim=True)
    scale = scale.clamp_min(torch.finfo(analytic.dtype).tiny)
    kinks = (wide - narrow).abs() > 1e-3 * scale
    error = torch.where(kinks, torch.zeros_like(analytic), (analytic - narrow).abs() / scale)
    return StepCheck(
        step=step,
        magnitude=float(scale.max()),
        error=float(error.nan_to_num(nan=float("inf")).max()),
        kinks=int(kinks.sum()),
        count=analytic.numel(),
    )
