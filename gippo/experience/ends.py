"""States in which episodes terminated, for the critic and through it for the actor's gradient.

Where an episode terminates the value drops to 0 within a step. The derivative of the return along
the simulation does not see this, as little as that of any other jump (Lee, Yu & Yang 2018), and a
critic fit on the states acted on is never told of what lies beyond. So policies drift towards such
states as long as every step before still pays: a robot that runs lower and lower, a car that comes
ever nearer. With them among what the critic is fit to, at the value 0, its value slopes down
towards them, and the objective, which bootstraps from it at every step, is told before the jump.
At the jump itself it bootstraps from nothing: there the slope is that of a cliff.
"""

from __future__ import annotations

from typing import Any

import torch

from gippo.distributed import SINGLE, Ranks
from gippo.experience.rollout import Rollout
from gippo.networks.normalization import Normalizer
from gippo.seeding import stream_seed
from warp_envs.checks import check_integer

KEPT = 256
"""States, the last ones."""
_STREAM = 5  # the learner has 1 and 2, PE 3, natural steps 4


class TerminalStates:
    """The last states in which episodes terminated, and draws from them.

    No operation waits for a GPU: how many there are is told to it from outside, an epoch late.
    """

    def __init__(
        self,
        num_inputs: int,
        dtype: torch.dtype,
        device: torch.device | str,
        *,
        seed: int,
        ranks: Ranks = SINGLE,
    ) -> None:
        """Begin without any.

        Args:
            num_inputs: of the critic: observation and what it alone is told.
            dtype: of observations.
            device: where they lie.
            seed: of the draws.
            ranks: the processes, all of which keep the states of all.
        """
        self._states = torch.zeros((KEPT, num_inputs), dtype=dtype, device=device)
        """Not normalised, the oldest first, those that are filled at the end."""
        self.count = torch.zeros((), dtype=torch.int64, device=device)
        """Of those that are filled, 0-d."""
        self.any = False
        """Whether there were any when last told."""
        self._seed = seed
        self._ranks = ranks

    def take(self, rollout: Rollout) -> None:
        """Take in a window's, the most recent where there are more than `KEPT`."""
        ended = (rollout.terminated & ~rollout.diverged).flatten()
        reached = torch.cat([rollout.final_obs, rollout.privileged], dim=-1).flatten(0, 1)
        chosen, filled = _last(ended, min(KEPT, len(ended)))
        joined = self._ranks.joined
        kept = torch.arange(KEPT, device=ended.device) >= KEPT - self.count
        states = torch.cat([self._states, joined(reached[chosen])])
        chosen, filled = _last(torch.cat([kept, joined(filled)]), KEPT)
        self._states, self.count = states[chosen], filled.sum()

    def join(
        self,
        obs: torch.Tensor,
        target: torch.Tensor,
        share: float,
        normalizer: Normalizer,
        epoch: int,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """A window's samples with draws of terminal states beside them, whose value is 0.

        They come at each step as more environments, so that every minibatch has some. Of few
        environments it is one, in which a draw has its chance and the step's own are repeated
        otherwise.

        Args:
            obs: normalised, as the critic sees it, (H, N, num_inputs).
            target: (H, N).
            share: of terminal states in what is returned.
            normalizer: of observations.
            epoch: of the draws' seed.

        Returns:
            Both with more environments; as they were while `any` is false.
        """
        if not self.any:
            return obs, target
        length, num_envs = target.shape
        more = max(1, round(num_envs * share / (1.0 - share)))
        generator = torch.Generator(obs.device)
        generator.manual_seed(stream_seed(self._seed, _STREAM, epoch, self._ranks.rank))
        draws = torch.rand((3, length, more), device=obs.device, generator=generator)
        place = KEPT - 1 - (draws[0] * self.count).long()
        observed = len(normalizer.mean) if normalizer.mean.ndim else self._states.shape[-1]
        state = self._states[place]
        told = state[..., observed:]
        state = torch.cat([normalizer.normalize(state[..., :observed]), told], dim=-1)
        own = (draws[1] * num_envs).long()
        row = torch.arange(length, device=obs.device).unsqueeze(-1)
        ends = draws[2] * more < share * (num_envs + more)
        beside = torch.where(ends.unsqueeze(-1), state, obs[row, own])
        value = torch.where(ends, 0.0, target[row, own])
        return torch.cat([obs, beside], dim=1), torch.cat([target, value], dim=1)

    def state_dict(self) -> dict[str, Any]:
        """A copy of the states, zeros where there are none yet, and the seed of the draws.

        The same number of them always, so that any run's checkpoint fits any other's.
        """
        filled = torch.arange(KEPT, device=self._states.device) >= KEPT - self.count
        return {
            "states": torch.where(filled.unsqueeze(-1), self._states, 0.0),
            "count": int(self.count),
            "seed": self._seed,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go back to what `state_dict` returned.

        Raises:
            ValueError: more states than are kept.
        """
        count, self._seed = int(state["count"]), int(state["seed"])
        check_integer("ends.count", count, 0, KEPT)
        self._states = state["states"].to(self._states, copy=True)
        self.count = torch.full_like(self.count, count)
        self.any = count > 0


def _last(flags: torch.Tensor, number: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Where the last of some flags (n,) are, in order, and behind which of them there is one.

    Returns:
        Indices (number,), those of no flag first, and whether each is of one.
    """
    place = torch.arange(len(flags), device=flags.device)
    key = torch.where(flags, place, place - len(flags)).topk(number).values.flip(0)
    return torch.where(key < 0, key + len(flags), key), key >= 0
