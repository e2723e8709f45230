"""Figure 1: alpha-policies of one-dimensional functions, from their environments' gradients."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure

import warp_envs
from gippo.runs.plots import save_figure, tidy

POLICIES = {"dejong": (0.4, 0.15), "ackley": (0.02, 0.012)}
"""Mean and standard deviation of the policy that alpha-policies are made of, over actions. Ackley's
spans two of its waves, beside the best one."""
ALPHAS = {"dejong": (2e-3, 6e-3, 1.2e-2), "ackley": (1e-6, 3e-6, 2e-5)}
TITLES = {"dejong": "De Jong, 1 dimension", "ackley": "Ackley, 1 dimension"}
_POINTS = 4001
_REACH = 4.0
"""Standard deviations to either side of the mean that are looked at."""


@dataclass(frozen=True)
class AlphaPolicy:
    """pi_alpha at the images of a grid of actions (Definition 4.1)."""

    alpha: float
    action: np.ndarray
    """a + alpha dA/da, (points,)."""
    density: np.ndarray
    determinant: np.ndarray
    """1 + alpha d2A/da2, (points,)."""

    folded: float
    """Probability of the policy's actions at which the determinant is not positive."""

    @property
    def valid(self) -> bool:
        """Next to no action shares its image with another.

        Not none at all: Ackley's kink at zero folds its neighbourhood for any alpha above zero.
        """
        return self.folded < 0.01


def reward_and_gradient(env_id: str, action: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A one-dimensional function's reward and its derivative, from its environment in float64."""
    env = warp_envs.make(env_id, num_envs=len(action), device="cpu", seed=0, dtype=torch.float64)
    env.reset()
    leaf = torch.from_numpy(action).unsqueeze(1).requires_grad_(True)
    reward = env.step(leaf)[1]
    (gradient,) = torch.autograd.grad(reward.sum(), leaf)
    return reward.detach().numpy(), gradient.squeeze(1).numpy()


def alpha_policy(env_id: str, alpha: float) -> AlphaPolicy:
    """The alpha-policy of the function's policy; the advantage is the reward less its mean."""
    action = _actions(env_id)
    _, gradient = reward_and_gradient(env_id, action)
    image = action + alpha * gradient
    determinant = np.gradient(image, action)
    with np.errstate(divide="ignore"):
        density = normal_density(env_id, action) / np.abs(determinant)
    weight = normal_density(env_id, action)
    folded = float(weight[determinant <= 0.0].sum() / weight.sum())
    return AlphaPolicy(alpha, image, density, determinant, folded)


def _actions(env_id: str) -> np.ndarray:
    mean, std = POLICIES[env_id]
    return np.linspace(mean - _REACH * std, mean + _REACH * std, _POINTS)


def normal_density(env_id: str, action: np.ndarray) -> np.ndarray:
    """Of the function's policy."""
    mean, std = POLICIES[env_id]
    z = (action - mean) / std
    return np.exp(-0.5 * z * z) / (std * np.sqrt(2.0 * np.pi))


def expected_reward(env_id: str, alpha: float) -> float:
    """Under the alpha-policy, by the change of variables to the policy's own actions."""
    action = _actions(env_id)
    _, gradient = reward_and_gradient(env_id, action)
    reward, _ = reward_and_gradient(env_id, np.clip(action + alpha * gradient, -1.0, 1.0))
    weight = normal_density(env_id, action)
    return float((weight * reward).sum() / weight.sum())


def rows() -> list[list[str]]:
    """A line for every alpha: whether its policy is valid and what it gains."""
    return [
        [
            TITLES[env_id],
            f"{alpha:g}",
            "valid" if policy.valid else "not valid",
            f"{policy.folded:.2%}",
            f"{policy.determinant.min():.3g} to {policy.determinant.max():.3g}",
            f"{expected_reward(env_id, alpha) - expected_reward(env_id, 0.0):+.4g}",
        ]
        for env_id, alphas in ALPHAS.items()
        for alpha, policy in ((alpha, alpha_policy(env_id, alpha)) for alpha in alphas)
    ]


HEADER = ("function", "alpha", "policy", "folded", "determinant", "gain in reward")


def plot_alpha_policies(path: Path) -> None:
    """The function in black, the policy in blue, its alpha-policies in orange to red."""
    figure = Figure(figsize=(11, 4.2), layout="constrained")
    for axis, env_id in zip(figure.subplots(1, 2), ALPHAS, strict=True):
        mean, std = POLICIES[env_id]
        reach = min(1.0, abs(mean) + _REACH * std)
        action = np.linspace(-reach, reach, _POINTS)
        axis.plot(action, normal_density(env_id, action), color="#0072B2", label="policy")
        colours = ("#E69F00", "#D55E00", "#8B0000")
        for alpha, colour in zip(ALPHAS[env_id], colours, strict=True):
            policy = alpha_policy(env_id, alpha)
            style = {"lw": 1.4} if policy.valid else {"lw": 0.5, "alpha": 0.6}
            name = f"alpha = {alpha:g}" + ("" if policy.valid else ", not valid")
            axis.plot(policy.action, policy.density, color=colour, label=name, **style)
        axis.set_xlim(-reach, reach)
        axis.set_ylim(0.0, 3.5 * float(normal_density(env_id, action).max()))
        axis.set_xlabel("action")
        axis.set_ylabel("density")
        axis.set_title(TITLES[env_id])
        axis.legend(loc="upper left", framealpha=0.9, edgecolor="none")
        tidy(axis)
        values = axis.twinx()
        values.plot(action, reward_and_gradient(env_id, action)[0], color="black", lw=1)
        values.set_ylabel("reward")
        values.spines[["top"]].set_visible(False)
    figure.suptitle("Figure 1: alpha-policies")
    save_figure(figure, path)
