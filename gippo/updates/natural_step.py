"""Steps of a given length, measured by how far they move the policy (Amari 1998; Kakade 2001).

The length is the divergence between the policies before and after, to second order

    KL = d^T F d / 2,    F = E[J^T M J],

with J the derivative of the actor's output (mu, log sigma) by its parameters and M the Fisher
matrix of a diagonal Gaussian, sigma^-2 for mu and 2 for log sigma. The direction that gains most
for its length is F^-1 g. It is found by conjugate gradients, which need products with F alone
(Martens 2010; Schulman et al. 2015, TRPO, appendix C). One length serves every network and every
unit, a policy of standard deviation 1 as one of 1e-8.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from gippo.distributed import Ranks
from gippo.networks import graphs
from gippo.networks.jacobian import Jacobian, jacobian_of
from gippo.networks.perceptron import GaussianActor, kl_divergence
from gippo.seeding import stream_seed
from gippo.updates.window import Context, Samples
from warp_envs.checks import check_integer, check_positive


@dataclass
class NaturalStepConfig:
    """The search of the natural gradient's direction."""

    iterations: int = 10
    """Of conjugate gradients."""
    states: int = 256
    """That the divergence is the mean over."""
    memory: int = 8
    """Windows that they are of, about, or an episode's if that is more: so many epochs until all
    have been replaced."""
    damping: float = 1e-3
    """Added to its diagonal, in nats."""

    def __post_init__(self) -> None:
        """Raise ValueError naming a key out of range."""
        check_integer("natural.iterations", self.iterations, 1)
        check_integer("natural.states", self.states, 1, 10**6)
        check_integer("natural.memory", self.memory, 1)
        check_positive("natural.damping", self.damping)


Product = Callable[[torch.Tensor], torch.Tensor]

_STREAM = 4  # the learner has 1 and 2, PE 3
_DIAGONAL_MEMORY = 0.9
_TOLERANCE = 1e-4
_SLACK = 2.0
_HALVINGS = 10


def conjugate_gradients(
    product: Product, target: torch.Tensor, preconditioner: torch.Tensor, iterations: int
) -> torch.Tensor:
    """Solve A x = `target` about, A symmetric and positive (Hestenes & Stiefel 1952).

    Args:
        product: v -> A v, of vectors (n,).
        target: (n,).
        preconditioner: about the inverse of A's diagonal, (n,).
        iterations: at most; fewer once the residual's square has fallen to 1e-4 of the first.
    """
    x = torch.zeros_like(target)
    residual = target.clone()
    scaled = preconditioner * residual
    direction = scaled.clone()
    power = first = residual @ scaled
    for _ in range(iterations):
        goes_on = power > _TOLERANCE * first
        if not graphs.on_gpu(goes_on) and not bool(goes_on):
            break  # which a GPU would be waited for: there the rest is done in steps of length 0
        along = product(direction)
        length = torch.where(goes_on, power / (direction @ along), 0.0)
        x = x + length * direction
        residual = residual - length * along
        scaled = preconditioner * residual
        before, power = power, residual @ scaled
        direction = scaled + torch.where(goes_on, power / before, 0.0) * direction
    return x


class Fisher:
    """The Fisher matrix of a policy over some states, by its products with vectors.

    In double precision: with a standard deviation of 1e-6 the matrix's entries differ by 1e12.
    """

    def __init__(self, jacobian: Jacobian, parameters: torch.Tensor, obs: torch.Tensor) -> None:
        """Pass states through the actor once.

        Args:
            jacobian: of the actor's network, in double precision; linearised here.
            parameters: the actor's, (P,).
            obs: the states, (n, num_obs).
        """
        self._jacobian = jacobian
        _, log_sigma = GaussianActor.split(jacobian.at(parameters, obs))
        precision = torch.exp(-2.0 * log_sigma)
        self._weight = torch.cat([precision, torch.full_like(precision, 2.0)], -1) / len(obs)

    def times(self, vector: torch.Tensor) -> torch.Tensor:
        """F v."""
        return self._jacobian.transposed(self._weight * self._jacobian.times(vector))

    def diagonal_sample(self, generator: torch.Generator) -> torch.Tensor:
        """(J^T M^(1/2) z)^2 with z standard normal, whose mean is F's diagonal."""
        weight = self._weight
        z = torch.randn(weight.shape, dtype=weight.dtype, device=weight.device, generator=generator)
        return self._jacobian.transposed(torch.sqrt(weight) * z).square()


class NaturalStep:
    """Takes steps of given divergence over states of the last windows, of an episode at least.

    Where environments are at one time of their episodes, a window sees one part of what the policy
    does, and a step that is short there can undo all of the rest.
    """

    def __init__(self, context: Context, config: NaturalStepConfig) -> None:
        """Prepare steps of the context's actor."""
        self._config = config
        self._actor = context.actor
        self._parameters = context.parameters
        self._ranks: Ranks = context.ranks
        self._seed = context.seed
        windows = max(float(config.memory), context.episode_windows)
        self._renewed = math.ceil(config.states / windows)
        """States that a window replaces."""
        vector = context.parameters.vector
        self._diagonal = torch.zeros_like(vector, dtype=torch.float64)
        self._memory = vector.new_zeros(config.states, context.actor.mlp.sizes[0])
        """The states kept, of which those at the end are filled."""
        self._filled = 0
        self._jacobian = jacobian_of(context.actor.mlp, context.parameters, torch.float64)
        self._fisher: Fisher | None = None

    def look(self, samples: Samples, epoch: int) -> torch.Tensor:
        """Take some of the window's states in, and the Fisher matrix at all that are kept.

        Returns:
            The inverse of its running, damped diagonal, (num_parameters,), float64: the metric of
            gradients.
        """
        generator = torch.Generator(samples.obs.device)
        generator.manual_seed(stream_seed(self._seed, _STREAM, epoch))
        keep = _DIAGONAL_MEMORY if self._filled > 0 else 0.0
        self._renew(samples.obs, generator)
        self._fisher = Fisher(self._jacobian, self._parameters.vector, self._states)
        diagonal = torch.lerp(self._fisher.diagonal_sample(generator), self._diagonal, keep)
        self._diagonal = diagonal
        return 1.0 / (diagonal + self._config.damping)

    @property
    def _states(self) -> torch.Tensor:
        """Those there are, the oldest first, (n, num_obs)."""
        return self._memory[len(self._memory) - self._filled :]

    def _renew(self, obs: torch.Tensor, generator: torch.Generator) -> None:
        """Put some of a window's states in the place of the oldest, the same in all processes."""
        config = self._config
        number = self._renewed if self._filled > 0 else config.states
        chosen = torch.randperm(len(obs), device=obs.device, generator=generator)
        own = obs[chosen[: math.ceil(number / self._ranks.size)]]
        new = self._ranks.joined(own)[:number]
        self._memory = torch.cat([self._memory, new])[-config.states :]
        self._filled = min(self._filled + len(new), config.states)

    def direction(self, gradient: torch.Tensor, metric: torch.Tensor) -> torch.Tensor:
        """F^-1 g, scaled to d^T F d / 2 = 1; zero for a gradient of zero.

        Args:
            gradient: of what is to rise, (num_parameters,), float64.
            metric: from `look`, which comes first.
        """
        fisher, damping = self._fisher, self._config.damping
        assert fisher is not None, "look comes first"

        def product(vector: torch.Tensor) -> torch.Tensor:
            return fisher.times(vector) + damping * vector

        norm = torch.linalg.vector_norm(gradient)
        unit = gradient / torch.where(norm > 0.0, norm, 1.0)
        found = conjugate_gradients(product, unit, metric, self._config.iterations)
        square = found @ product(found)
        return found * torch.sqrt(torch.where(norm > 0.0, 2.0 / square, 0.0))

    def move(self, direction: torch.Tensor, radius: float) -> tuple[float, bool]:
        """Move the actor along a direction until the divergence is `radius`.

        The matrix knows the divergence to second order. If it exceeds twice the radius, the step is
        halved, and undone after ten halvings.

        Args:
            direction: from `direction`.
            radius: mean over states of the divergence, nats.

        Returns:
            The divergence that there is now, and whether the actor has moved.
        """
        vector = self._parameters.vector
        before = vector.clone()
        policy = self._policy(self._states)
        length = radius**0.5
        for _ in range(_HALVINGS):
            vector.copy_(before.double() + length * direction)
            divergence = float(kl_divergence(*self._policy(self._states), *policy).mean())
            if divergence <= _SLACK * radius:  # not so if it is not a number
                return divergence, True
            length *= 0.5
        vector.copy_(before)
        return 0.0, False

    @torch.no_grad()
    def _policy(self, obs: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return self._actor.forward(obs)

    def state_dict(self) -> dict[str, Any]:
        """A copy of the diagonal and the states, and the seed of what is drawn."""
        return {
            "diagonal": self._diagonal.clone(),
            "memory": self._memory.clone(),
            "filled": self._filled,
            "seed": self._seed,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go back to what `state_dict` returned.

        Raises:
            ValueError: more states than are kept.
        """
        check_integer("step.filled", state["filled"], 0, len(self._memory))
        self._diagonal = state["diagonal"].to(self._diagonal, copy=True)
        self._memory = state["memory"].to(self._memory, copy=True)
        self._filled, self._seed = int(state["filled"]), int(state["seed"])
