"""What every method is given, and what it must do with it."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import Any, ClassVar

import torch

from gippo.experience.advantages import EntropyBonus
from gippo.experience.rollout import Rollout
from gippo.updates.window import Context, UpdateReport, Window
from warp_envs.checks import ArgumentError, check_integer, check_number


class Method(ABC):
    """A way to update the actor from a window. A subclass names itself and its config."""

    name: ClassVar[str]
    config_class: ClassVar[type]
    least_samples: ClassVar[int] = 1
    """Samples that a process's windows must have."""

    @abstractmethod
    def __init__(self, context: Context, config: Any) -> None:
        """Make the method for an actor, with a `config_class`."""

    @property
    def gradient_lambda(self) -> float | None:
        """The lambda of the advantages whose action gradients are wanted; None: no gradients."""
        return None

    @property
    def looks_back(self) -> bool:
        """Whether windows are to tell what their critic makes of the one before."""
        return False

    @property
    def horizon(self) -> int | None:
        """Steps of the next window, asked before each epoch; None: the learner's.

        Of several processes all must give the same.
        """
        return None

    @property
    def entropy_bonus(self) -> EntropyBonus | None:
        """What the actor's rewards have more by the policy's entropy; None: nothing.

        Asked for before each window, which tells entropies only if this is not None.
        """
        return None

    def critic_bonus(self, rollout: Rollout) -> EntropyBonus | None:
        """The same for the rewards that the critic's targets are made of."""
        return self.entropy_bonus

    @abstractmethod
    def update(self, window: Window, epoch: int) -> UpdateReport:
        """Update the actor's parameters in place; `epoch` counts from zero."""

    @abstractmethod
    def state_dict(self) -> dict[str, Any]:
        """A copy of everything but the actor that the next update depends on."""

    @abstractmethod
    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go back to what `state_dict` returned."""


def check_made(method: Method) -> None:
    """Raise ArgumentError if a method wants or keeps what no run can give or hold."""
    kind = type(method).__qualname__
    if method.gradient_lambda is not None:
        key = f"{kind}.gradient_lambda"
        check_number(key, method.gradient_lambda, 0.0, 1.0, open_low=True)
    own_horizon(method)
    state = method.state_dict()
    culprit = "" if isinstance(state, dict) else f"a {type(state).__name__}"
    culprit = culprit or _unstorable(state, "state")
    if culprit:
        accepted = "a dict of tensors, numbers, strings, and lists and dicts of these"
        raise ArgumentError(f"{kind}.state_dict", culprit, accepted)


def check_samples(method: Method, num_envs: int, horizon: int) -> None:
    """Raise ArgumentError if a process's environments make fewer samples than a method needs."""
    horizon = own_horizon(method) or horizon
    if num_envs * horizon < method.least_samples:
        given = f"{num_envs} in windows of {horizon} (learner.horizon)"
        least = f"at least {method.least_samples} samples in a process's window"
        raise ArgumentError("env.num_envs", given, f"for {method.name} {least}")


def check_discount(
    method: Method, gamma: float, horizon: int, episode: int, dtype: torch.dtype
) -> None:
    """Raise ArgumentError if the last step's weight is too small to divide gradients by (Eq. 15).

    Args:
        method: a method.
        gamma: discount.
        horizon: steps of a window, where the method has no length of its own.
        episode: steps of the longest one.
        dtype: of gradients, whose digits are lost below its smallest normal number.
    """
    gradient_lambda = method.gradient_lambda
    if gradient_lambda is None:
        return
    rate = gamma * gradient_lambda
    steps = min(own_horizon(method) or horizon, episode)
    least = torch.finfo(dtype).tiny / torch.finfo(dtype).eps
    if rate ** (steps - 1) < least:
        most = 1 + math.floor(math.log(least) / math.log(rate))
        given = f"{steps} steps in a row"
        accepted = f"with gamma gae_lambda = {rate:.4g} at most {most} in {dtype}"
        raise ArgumentError("learner.horizon", given, accepted)


def own_horizon(method: Method) -> int | None:
    """The length that a method wants the next window to have; ArgumentError if there is none."""
    horizon = method.horizon
    if horizon is None:
        return None
    return check_integer(f"{type(method).__qualname__}.horizon", horizon, 1)


def _unstorable(value: Any, name: str) -> str:
    """What of a state a checkpoint cannot hold, "" if nothing."""
    if isinstance(value, dict):
        parts = [_unstorable(part, f"{name}[{key!r}]") for key, part in value.items()]
    elif type(value) in (list, tuple):
        parts = [_unstorable(part, f"{name}[{index}]") for index, part in enumerate(value)]
    elif type(value) in (bool, int, float, str, torch.Tensor):
        return ""
    else:
        return f"a {type(value).__name__} as {name}"
    return next((part for part in parts if part), "")
