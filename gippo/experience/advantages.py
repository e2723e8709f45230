"""Generalised advantages and their gradients with respect to the actions (Eq. 14 and 15)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch

from gippo.distributed import SINGLE, Ranks
from gippo.experience.rollout import Rollout
from gippo.networks.normalization import Normalizer

ValueFunction = Callable[[torch.Tensor], torch.Tensor]


@dataclass
class Values:
    """The target critic's values along a window, (H, N) each."""

    value: torch.Tensor
    """V(s_t)."""
    next_value: torch.Tensor
    """V(s_{t+1}) at the observation before any reset; not yet zeroed on termination."""
    next_value_gradient: torch.Tensor | None
    """Of `next_value` with respect to that observation, not normalised, (H, N, num_obs); None if
    the rollout recorded no gradient."""


class EntropyBonus(NamedTuple):
    """What each step's reward has more by the policy's entropy there: scale entropy + offset."""

    scale: float
    offset: float = 0.0

    def added(self, rollout: Rollout) -> torch.Tensor:
        """The window's rewards with it, (H, N)."""
        assert rollout.entropy is not None
        return rollout.reward + self.scale * rollout.entropy + self.offset


def evaluate(
    rollout: Rollout,
    value_function: ValueFunction,
    normalizer: Normalizer,
    *,
    with_gradient: bool = True,
) -> Values:
    """Value the observations that were acted on, and those reached before any reset.

    The normaliser and the value function's parameters are constants. The gradient is left out where
    the rollout recorded none, or if it is not wanted.
    """
    recorded = with_gradient and bool(rollout.action_steps)
    with torch.no_grad():
        value = value_function(rollout.for_critic(rollout.obs))
    reached = rollout.final_obs.detach().requires_grad_(recorded)
    with torch.set_grad_enabled(recorded):
        next_value = value_function(rollout.for_critic(normalizer.normalize(reached)))
    if not recorded:
        return Values(value, next_value, None)
    (gradient,) = torch.autograd.grad(next_value, reached, torch.ones_like(next_value))
    return Values(value, next_value.detach(), gradient)


def generalized_advantage(
    reward: torch.Tensor,
    values: Values,
    terminated: torch.Tensor,
    done: torch.Tensor,
    gamma: float,
    gae_lambda: float,
) -> torch.Tensor:
    """A_t = sum_k (gamma lambda)^k delta_{t+k}, delta_t = r_t + gamma V(s_{t+1}) - V(s_t) (Eq. 14).

    V(s_{t+1}) is zero on termination and bootstrapped on truncation; the sum ends with the episode
    and with the window. In double precision: De Jong's rewards come to differ by 1e-9 beside values
    of 1, and rounding them to the values' resolution leaves advantages that are all alike.

    Args:
        reward: (H, N).
        values: V(s_t) and V(s_{t+1}).
        terminated: bool (H, N), the episode ended in a state without further value.
        done: bool (H, N), terminated or truncated.
        gamma: discount.
        gae_lambda: lambda.

    Returns:
        (H, N), torch.float64.
    """
    alive, goes_on = (~terminated).double(), (~done).double()
    decay = gamma * gae_lambda * goes_on
    delta = reward.double() + gamma * alive * values.next_value.double() - values.value.double()
    advantage = torch.empty_like(delta)
    carry = torch.zeros_like(delta[0])
    for t in range(delta.shape[0] - 1, -1, -1):
        carry = torch.addcmul(delta[t], decay[t], carry, out=advantage[t])
    return advantage


def subtrajectory_steps(done: torch.Tensor) -> torch.Tensor:
    """The step number (H, N) within each sub-trajectory.

    A sub-trajectory starts with the window and after every end of an episode inside it.
    """
    time = torch.arange(done.shape[0], device=done.device).unsqueeze(1).expand(done.shape)
    starts = torch.zeros_like(time)
    starts[1:] = torch.where(done[:-1], time[1:], 0)
    return time - starts.cummax(dim=0).values


@dataclass
class ActionGradients:
    """Gradients with respect to the actions before the tanh, (H, N, num_actions) each."""

    of_first: torch.Tensor
    """Of the advantage at the first step of the action's sub-trajectory."""
    of_own: torch.Tensor
    """Of the advantage at the action's own step, dA_t/da_t."""
    discount: torch.Tensor
    """(gamma lambda)^k at step k of a sub-trajectory, (H, N): A_t's share in its A_first."""
    num_subtrajectories: torch.Tensor
    """Number of sub-trajectories in the window, 0-d."""


def action_gradients(
    rollout: Rollout,
    values: Values,
    gamma: float,
    gae_lambda: float,
    bonus: EntropyBonus | None = None,
) -> ActionGradients:
    """Gradients of all advantages from one backward pass through the window (Eq. 15).

    The sum of the advantages at the sub-trajectories' first steps is back-propagated. With k
    counting steps in a sub-trajectory, the values telescope, V(s_{k+1}) appearing in delta_k and
    delta_{k+1}:

        A_first = sum_k (gamma lambda)^k [r_k + gamma (1 - lambda) V(s_{k+1})] - V(s_0),

    where the last step has gamma V(s_{k+1}) whole, or nothing if it terminated. The seeds of the
    backward pass are these coefficients, so no graph of the advantages themselves is needed. As a_t
    does not act on delta_k for k < t, dA_t/da_t is the result divided by (gamma lambda)^t.

    A bonus for entropy is part of r_k: later actions' states bring it. What the policy's own
    parameters do to it at a given state is not in these gradients.
    """
    assert values.next_value_gradient is not None
    steps = subtrajectory_steps(rollout.done)
    discount = (gamma * gae_lambda) ** steps.to(rollout.reward.dtype)
    goes_on = ~rollout.done
    goes_on[-1] = False
    share = (1.0 - gae_lambda * goes_on.to(discount.dtype)) * ~rollout.terminated
    value_weight = discount * gamma * share
    obs_weight = value_weight.unsqueeze(-1) * values.next_value_gradient

    outputs = [*rollout.reward_steps, *rollout.final_obs_steps]
    seeds = [*discount.unbind(0), *obs_weight.unbind(0)]
    if bonus is not None:
        outputs += rollout.entropy_steps
        seeds += (bonus.scale * discount).unbind(0)
    gradients = torch.autograd.grad(outputs, rollout.action_steps, seeds)
    of_first = torch.stack(gradients)
    return ActionGradients(
        of_first=of_first,
        of_own=of_first / discount.unsqueeze(-1),
        discount=discount,
        num_subtrajectories=(steps == 0).sum(),
    )


def normalized(advantage: torch.Tensor, dtype: torch.dtype, ranks: Ranks = SINGLE) -> torch.Tensor:
    """`advantage` with zero mean and unit variance, as `dtype`; zeros if it is constant."""
    variance, mean = ranks.moments(*torch.var_mean(advantage, correction=0))
    deviation = torch.sqrt(variance)
    scaled = (advantage - mean) / deviation.where(deviation > 0.0, 1.0)
    return scaled.to(dtype)
