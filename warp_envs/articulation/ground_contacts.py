"""The ground's forces on a robot's bodies in many states at once, for those who show them."""

from __future__ import annotations

import numpy as np
import torch
import warp as wp

from warp_envs.articulation.articulation import Articulation
from warp_envs.articulation.contacts import robot_contacts
from warp_envs.bridge.function import TorchFunction
from warp_envs.bridge.program import Program

_ROWS = 128  # states at once


class GroundContacts:
    """The forces by which the ground holds a robot's bodies, and where.

    Attributes:
        bodies: indices of the bodies that can touch the ground.
    """

    def __init__(self, robot: Articulation) -> None:
        """Of a robot, with the parameters that vary there."""
        owners = np.array([body for body, _ in robot_contacts(robot.description)], dtype=int)
        self.bodies = tuple(sorted(set(owners.tolist())))
        device = wp.device_to_torch(robot.device)
        mine = np.array(self.bodies, dtype=int)[:, None] == owners
        self._mine = torch.tensor(mine, dtype=robot.dtype, device=device)
        varying = [robot.columns.count] if robot.columns.keys else []
        self._widths = [robot.nq, robot.nv, *varying]
        self._robot = Articulation.from_description(
            robot.description,
            _ROWS,
            device,
            robot.dtype,
            parameters=tuple(robot.varied.chosen),
            more=robot.varied.known,
        )
        self._touch: TorchFunction | None = None

    def at(self, states: torch.Tensor) -> torch.Tensor:
        """The ground's force on each of `bodies`, at its centre of pressure.

        The centre of pressure is the mean of the body's touching points, each weighted by the part
        of its force along the ground's normal.

        Args:
            states: (rows, n), as many as there may be: joint_q, joint_qd and, if any vary, the
                parameters in force.

        Returns:
            (rows, bodies, 6): force [N] and place [m] in the world; zeros where a body does not
            touch.
        """
        if self._touch is None:
            self._touch = self._make_touch()
        missing = -len(states) % _ROWS
        rows = torch.cat([states, states[-1:].expand(missing, -1)])
        found = []
        for block in rows.split(_ROWS):
            parts = block.split(self._widths, dim=1)
            force, point, pressure = self._touch(*(part.contiguous() for part in parts))
            total = pressure @ self._mine.T
            moment = torch.einsum("rc,rci,bc->rbi", pressure, point, self._mine)
            place = moment / torch.where(total > 0.0, total, 1.0)[..., None]
            found.append(torch.cat([torch.einsum("rci,bc->rbi", force, self._mine), place], dim=2))
        return torch.cat(found)[: len(states)]

    def _make_touch(self) -> TorchFunction:
        robot, count = self._robot, self._mine.shape[1]
        program = Program(str(robot.device))

        def rows(*shape: int) -> wp.array:
            return program.array((_ROWS, *shape), robot.scalar, requires_grad=False)

        given = [rows(width) for width in self._widths]
        found = [rows(count, 3), rows(count, 3), rows(count)]
        with program.without_gradient():
            robot.record_touching(program, *given[:2], *found, *given[2:])
        return program.function(given, found)
