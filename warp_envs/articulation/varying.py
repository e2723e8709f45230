"""What varies from environment to environment, as the programs of an environment take it."""

from __future__ import annotations

from collections.abc import Callable

import torch
import warp as wp

from warp_envs.articulation.parameters import Parameters
from warp_envs.articulation.randomization import Draws
from warp_envs.bridge.function import TorchFunction
from warp_envs.bridge.program import Program


class Varying:
    """Parameters that vary, if any do, and how some of them are drawn for every episode.

    *Given* are the parameters as they were set, *in force* those with what was drawn.
    """

    def __init__(self, parameters: Parameters | None = None, draws: Draws | None = None) -> None:
        """Nothing varies without `parameters`, nothing is drawn without `draws`."""
        self.parameters = parameters
        self.draws = draws
        self._apply: TorchFunction | None = None

    def given(self) -> list[torch.Tensor]:
        """The parameters as they were set, one tensor (num_envs, n) or none."""
        return [] if self.parameters is None else [self.parameters.rows()]

    def in_force(self, draws: torch.Tensor | None) -> list[torch.Tensor]:
        """The parameters in force, one tensor (num_envs, n) or none."""
        given = self.given()
        if draws is None or self.draws is None:
            return given
        if self._apply is None:
            self._apply = self._make_apply(given[0], draws)
        # a copy, which the end of an episode leaves as it is
        return list(self._apply(*given, draws.clone()))

    def named(self, draws: torch.Tensor | None) -> dict[str, torch.Tensor]:
        """The values in force of those that vary, name -> (num_envs, *shape), drawn ones too."""
        if self.parameters is None:
            return {}
        (rows,) = self.in_force(draws)
        return self.parameters.named(rows)

    def _make_apply(self, given: torch.Tensor, draws: torch.Tensor) -> TorchFunction:
        program = Program(str(wp.device_from_torch(given.device)))
        scalar = wp.dtype_from_torch(given.dtype)
        arrays = [
            program.array(tuple(given.shape), scalar),
            program.array(tuple(draws.shape), scalar, requires_grad=False),
        ]
        in_force = self.record_in_force(program, *arrays)
        return program.function(arrays, [in_force])

    def arrays(self, program: Program, num_envs: int, scalar: type) -> list[wp.array]:
        """What takes the parameters given, one array (num_envs, n) or none."""
        if self.parameters is None:
            return []
        return [program.array((num_envs, self.parameters.columns.count), scalar)]

    def draw_arrays(self, program: Program, num_envs: int, scalar: type) -> list[wp.array]:
        """What keeps the draws from step to step, one array (num_envs, draws) or none."""
        if self.draws is None:
            return []
        shape = (num_envs, self.draws.count)
        return [program.array(shape, scalar, requires_grad=False, shared=True)]

    def record_draws(
        self,
        program: Program,
        record_rng: Callable[[wp.array], wp.array],
        reset_count: wp.array,
        scalar: type,
    ) -> list[wp.array]:
        """Append the draws of episodes that begin; one array of them, or none.

        Args:
            program: takes the launches.
            record_rng: appends random-number states after so many resets (num_envs,).
            reset_count: resets so far, (num_envs,).
            scalar: of the draws.
        """
        drawn = self.draw_arrays(program, len(reset_count), scalar)
        if self.draws is not None:
            none = program.array(len(reset_count), wp.int32, requires_grad=False, shared=True)
            states = [record_rng(count) for count in (reset_count, none)]
            self.draws.record_draw(program, *states, *drawn)
        return drawn

    def record_in_force(self, program: Program, *arrays: wp.array) -> wp.array | None:
        """The array of the parameters in force, None if none vary.

        Args:
            program: takes the launches.
            arrays: the parameters given, if any vary, and the draws, if any are drawn.
        """
        if self.draws is not None:
            return self.draws.record_apply(program, *arrays)
        return arrays[0] if arrays else None
