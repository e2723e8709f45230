"""Environments whose human drivers may differ: their numbers by vehicle, varied and drawn."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
import warp as wp

from kernels.traffic import drivers as kernels
from kernels.traffic.idm import MODEL as IDM
from warp_envs.articulation.parameters import Parameter, Parameters, Value, choose
from warp_envs.articulation.randomization import Draws, read_randomization
from warp_envs.articulation.varying import Varying
from warp_envs.bridge.program import Program
from warp_envs.options.parameters import check_varying
from warp_envs.traffic.programs import driver_type
from warp_envs.vector_env import DRAWS, DifferentiableVectorEnv


class HumanDriversEnv(DifferentiableVectorEnv):
    """Traffic of human drivers after the IDM, all alike but for what `parameters` say.

    A subclass says before `__init__` what the numbers of its drivers are, `driver_numbers`, how
    many vehicles a road has, `num_slots`, and which of them, the last ones, have a human driver
    with numbers of its own, from `first_human` on. It reads them by `record_drivers`.
    """

    driver_numbers: Mapping[str, float]
    """The human drivers' numbers by name, as `kernels.traffic.idm.MODEL` has them."""
    num_slots: int
    """Vehicles of a road, or room for them."""
    first_human: int = 0
    """How many vehicles come before those whose drivers may differ."""

    def __init__(
        self,
        *,
        num_envs: int,
        parameters: Sequence[str] = (),
        randomize: Mapping[str, Any] | None = None,
        device: str = "cpu",
        dtype: torch.dtype = torch.float32,
        **options: Any,
    ) -> None:
        """Make roads.

        Args:
            num_envs: copies stepped together.
            parameters: names of the drivers' numbers that may differ from driver to driver, as
                ``["T", "a"]``; see `parameters`.
            randomize: how some of them are drawn for every episode, name -> spread, as
                ``{T: [0.8, 1.6], v0: {scale: [0.8, 1.2]}}``, each driver's for itself; see
                `warp_envs.articulation.randomization`. None: nothing is drawn.
            device: "cpu" or "cuda:0".
            dtype: torch.float32 or torch.float64.
            options: as `DifferentiableVectorEnv`.

        Raises:
            ValueError: an unknown name or a spread out of range, or as `DifferentiableVectorEnv`.
        """
        check_varying(parameters=parameters, randomize=randomize)
        known = self._known_parameters()
        spreads = read_randomization(randomize, known)
        varied = choose(known, parameters, "parameters")
        names = [*varied, *(name for name in spreads if name not in varied)]
        self._known = known
        if names:
            values = Parameters(known, names, num_envs, dtype, device)
            self.varying = Varying(values, Draws(spreads, values) if spreads else None)
        super().__init__(num_envs=num_envs, device=device, dtype=dtype, **options)

    def _known_parameters(self) -> dict[str, Parameter]:
        count = self.num_slots - self.first_human
        found = {}
        for number in IDM.parameters:
            default = np.full(count, self.driver_numbers[number.name])
            keys = tuple((number.name, i) for i in range(count))
            bounds = (0.0, math.inf, not number.may_be_zero)
            item = Parameter(number.name, (count,), number.unit, default, *bounds, keys)
            found[number.name] = item
        return found

    def record_drivers(self, program: Program, parameters: wp.array | None) -> Any:
        """The numbers of the human drivers, for kernels that read them by `driver_of`.

        Args:
            program: takes the launch, where drivers differ.
            parameters: in force, as a state's `parameters` are.

        Returns:
            One vector of numbers for all; where some vary an array (num_envs, num_slots) of them.
        """
        driver = driver_type(IDM, self.scalar)(*[self.driver_numbers[n.name] for n in IDM.numbers])
        if parameters is None or self.varying.parameters is None:
            return driver
        column = np.full((self.num_slots, len(IDM.numbers)), -1, dtype=np.int32)
        for name, i, columns in self.varying.parameters.columns:
            column[self.first_human + i, IDM.place(name)] = columns.start
        drivers = program.array((self.num_envs, self.num_slots), type(driver))
        kernel = kernels.vary_drivers(len(IDM.numbers))
        columns = wp.array(column, dtype=wp.int32, device=program.device)
        program.launch(kernel, drivers.shape, [driver, columns, parameters, drivers])
        return drivers

    def parameters(self) -> dict[str, Parameter]:
        """The drivers' numbers by name, with shape, unit, default and range.

        Their shape is (drivers,), in the order of the vehicles. Those that may differ, as the
        options `parameters` or `randomize` say, have `varies`.
        """
        varied = self.varying.parameters
        return dict(self._known if varied is None else varied.known)

    def set_parameters(self, values: Mapping[str, Value]) -> None:
        """Take new values of numbers that vary, from the next step on.

        They hold until they are set again, through resets too; what is drawn for an episode takes
        the place of a value, or goes with it, as `randomize` says. Observations, rewards and states
        are differentiable in those that require a gradient.

        Args:
            values: name -> numbers or a tensor that broadcasts to (num_envs, drivers).

        Raises:
            ValueError: a name that does not vary, a value out of range or of the wrong shape, dtype
                or device. Nothing has been set then.
        """
        varied = self.varying.parameters
        if varied is None:
            varied = Parameters(self._known, (), self.num_envs, self.dtype, self.device)
        varied.set(values)

    def get_parameters(self) -> dict[str, torch.Tensor]:
        """The values in force of those that vary, name -> (num_envs, drivers), drawn ones too."""
        return self.varying.named(self._memory.get(DRAWS))
