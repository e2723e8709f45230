"""What an update is given, and what it reports."""

from __future__ import annotations

import math
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from numbers import Real
from typing import Any

import torch

from gippo.distributed import SINGLE, Ranks
from gippo.errors import TrainingFailedError
from gippo.experience.advantages import ActionGradients
from gippo.experience.rollout import Rollout
from gippo.networks.adam import ParameterVector
from gippo.networks.perceptron import GaussianActor, log_prob

Metrics = dict[str, torch.Tensor | float]


@dataclass
class Window:
    """A rollout with its advantages: all that an actor's update may use."""

    rollout: Rollout
    advantage: torch.Tensor
    """(H, N), torch.float64."""
    gradients: ActionGradients | None
    """Present if the method has a `gradient_lambda`."""
    objective: torch.Tensor
    """Sum over sub-trajectories of A_first + V_first, over their number, 0-d."""
    last_advantage: float = math.nan
    """Mean advantage of the window before by this one's critic; NaN in the first, and where the
    method does not look back."""
    last_residual: float = math.nan
    """Mean over the window before of advantage + value, as they were then, less the value by this
    one's critic, which was fit to them; NaN as well."""

    @cached_property
    def samples(self) -> Samples:
        """The window as one batch."""
        r = self.rollout
        obs, eps, action, mu, log_sigma = (
            _by_environment(x) for x in (r.obs, r.eps, r.action, r.mu, r.log_sigma)
        )
        own = self.gradients.of_own if self.gradients is not None else None
        return Samples(
            obs=obs,
            eps=eps,
            action=action,
            mu=mu,
            log_sigma=log_sigma,
            log_prob=log_prob(action, mu, log_sigma),
            advantage=_by_environment(self.advantage),
            action_gradient=_by_environment(own) if own is not None else None,
        )


@dataclass
class Samples:
    """A window flattened to B = N H samples, each environment's steps together.

    A minibatch of neighbours then spans all times of some environments rather than some times of
    all: robots that started together would fill the latter with one phase of their episode.
    """

    obs: torch.Tensor
    """Normalised, (B, num_obs)."""
    eps: torch.Tensor
    """(B, num_actions)."""
    action: torch.Tensor
    mu: torch.Tensor
    log_sigma: torch.Tensor
    log_prob: torch.Tensor
    """Of the action under the policy that took it, (B,)."""
    advantage: torch.Tensor
    """(B,), torch.float64, not normalised."""
    action_gradient: torch.Tensor | None
    """dA_t/da_t, (B, num_actions)."""


def _by_environment(x: torch.Tensor) -> torch.Tensor:
    return x.transpose(0, 1).flatten(0, 1)


@dataclass
class UpdateReport:
    """How an actor's update went."""

    metrics: Metrics
    """Numbers of the epoch by name, floats or 0-d tensors. One whose name ends in "loss" and that
    is not finite is a problem, and the update is undone."""
    problem: str | None = None
    """A sentence on what was not finite, the actor then being as before; None if all was."""


RESERVED = (
    *("epoch", "env_steps", "wall_time", "episode_return", "episode_length", "best_return"),
    *("num_episodes", "num_diverged", "skipped_updates", "sigma_mean", "horizon"),
)
"""Numbers of an epoch that the learner tells by itself."""


def as_floats(metrics: Metrics) -> dict[str, float]:
    """All that lie on a device at once, so that it is waited for once."""
    tensors = {n: torch.as_tensor(value, dtype=torch.float64) for n, value in metrics.items()}
    values = dict.fromkeys(metrics, 0.0)
    for device in {tensor.device for tensor in tensors.values()}:
        there = {name: tensor for name, tensor in tensors.items() if tensor.device == device}
        stacked = torch.stack([tensor.detach() for tensor in there.values()])
        values.update(zip(there, stacked.tolist(), strict=True))
    return values


def check_report(key: str, report: Any) -> UpdateReport:
    """What a method's `update` has returned, if it is a report.

    Args:
        key: the method's name for it, for the error.
        report: what is given.

    Raises:
        TrainingFailedError: it is something else, or tells what is no number.
    """
    accepted = 'UpdateReport({"actor_loss": loss}) accepted'
    if not isinstance(report, UpdateReport):
        raise TrainingFailedError(f"{key}: a {type(report).__name__} returned, {accepted}")
    if not isinstance(report.metrics, dict):
        found = type(report.metrics).__name__
        raise TrainingFailedError(f"{key}: a {found} of metrics, a dict accepted")
    if report.problem is not None and not isinstance(report.problem, str):
        raise TrainingFailedError(f"{key}: problem {report.problem!r}, a sentence or None accepted")
    for name, value in report.metrics.items():
        if not isinstance(name, str) or name in RESERVED:
            raise TrainingFailedError(f"{key}: a metric {name!r}, a name of its own accepted")
        tensor = isinstance(value, torch.Tensor)
        if tensor and (value.ndim != 0 or value.is_complex()):
            found = f"a tensor {tuple(value.shape)} of {value.dtype}"
        elif tensor or isinstance(value, Real):
            continue
        else:
            found = f"a {type(value).__name__}"
        raise TrainingFailedError(f"{key}: metric {name!r} is {found}, a number accepted")
    return report


def nonfinite_input(window: Window) -> str | None:
    """The first of a window's tensors that is not finite, None if all are."""
    rollout, gradients = window.rollout, window.gradients
    tensors = {
        "observation": rollout.raw_obs,
        "reward": rollout.reward,
        "action": rollout.action,
        "advantage": window.advantage,
    }
    if gradients is not None:
        tensors["advantage's action gradient"] = gradients.of_own
    # The device is waited for once.
    finite = torch.stack([torch.isfinite(tensor).all() for tensor in tensors.values()]).tolist()
    return next((name for name, good in zip(tensors, finite, strict=True) if not good), None)


def nonfinite_update(report: UpdateReport, parameters: ParameterVector) -> str | None:
    """What is not finite of a report's losses and of the parameters after it."""
    names = [name for name in report.metrics if name.endswith("loss")]
    losses = [torch.as_tensor(report.metrics[name]).detach() for name in names]
    # A sum of all is finite only if each is; the device is waited for once.
    if math.isfinite(sum(losses, parameters.vector.sum())):
        return None
    for name, loss in zip(names, losses, strict=True):
        if not math.isfinite(loss):
            return f"the method's {name} is {loss.item()}"
    name = parameters.nonfinite()
    return None if name is None else f"the parameter {name!r} is not finite after the update"


@dataclass(frozen=True)
class Context:
    """What a method is made for."""

    actor: GaussianActor
    parameters: ParameterVector
    """The actor's."""
    num_epochs: int
    """Of the whole training, for falling rates."""
    gae_lambda: float
    """The learner's."""
    seed: int
    """Of whatever a method draws by itself."""
    episode_windows: float = 1.0
    """Windows that an episode takes which lasts to its time limit, at least 1."""
    helper: ThreadPoolExecutor | None = None
    """One more thread, for updates that can share out their work."""
    ranks: Ranks = SINGLE
    """The processes that train the actor together; a window holds this one's environments."""
    graphs: bool = True
    """Whether a GPU may capture what an update does again and again."""
