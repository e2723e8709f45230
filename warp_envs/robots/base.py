"""The base of robot environments: an articulation from a USD file, driven by its joints."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from itertools import count
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar

import numpy as np
import torch
import warp as wp

from kernels.robots import shared as robot
from warp_envs.articulation.articulation import Articulation
from warp_envs.articulation.stiffness import advised_substeps
from warp_envs.bridge.program import Program
from warp_envs.checks import ArgumentError, check_integer, check_positive
from warp_envs.declarations import DECLARED, Quantity, check_declared, check_widths
from warp_envs.robots.actuators import find_drives
from warp_envs.robots.anatomy import SINGLE
from warp_envs.robots.terrain import make_ground
from warp_envs.usd.description import RobotDescription
from warp_envs.usd.ground import Ground
from warp_envs.vector_env import Arrays, DifferentiableVectorEnv

_OF_ROBOTS = {"asset": "the path of a USD file", "gear": "a force or torque"}
_FOUND = ("num_actions", "state_layout")
"""What an environment has to declare and a robot's finds in its file."""
_ROWS = 128  # posed at once, see `ArticulatedEnv.body_poses_at`


def asset_path(name: str) -> Path:
    """The USD file of a robot that comes with this package.

    Assets lie beside the packages in a checkout and inside this package in a wheel.
    """
    package = Path(__file__).resolve().parents[1]
    inside = package / "assets" / name
    return inside if inside.exists() else package.parent / "assets" / name


class ArticulatedEnv(DifferentiableVectorEnv):
    """A robot whose joints are driven by actions; what it observes and earns, a subclass says.

    The subclass declares the attributes below, of `DifferentiableVectorEnv`'s ``name``,
    ``num_obs``, ``max_episode_steps`` and ``reward_terms``, and records the launches of observation
    and outcome. The number of actions is that of its driven joints.

    State: ``joint_q`` (nq) and ``joint_qd`` (nv), in the coordinates of `Articulation`, and
    `extra_state`. An episode starts at ``start_q`` and at rest, scattered uniformly by the spreads;
    a spread is one number, or one for each coordinate.
    """

    declares: ClassVar[Mapping[str, str]] = {
        **{name: what for name, what in DECLARED.items() if name not in _FOUND},
        **_OF_ROBOTS,
    }
    asset: str | os.PathLike[str]
    """Path of a USD file with one UsdPhysics articulation."""
    gear: float | Sequence[float] | None
    """Force or torque at full action of motors, of all or of each action [N or N m]."""
    actuated: Sequence[str] | None = None
    """Names of the driven joints, an action each; None: those that the asset or `actuators` drive,
    else all hinges and slides but those that move the base."""
    actuators: Mapping[str, Any] | None = None
    """Joint or pattern -> settings of what drives it, beyond the asset's: see `find_drives`."""
    substeps: int | str = 16
    """Integration steps per control step; "auto": as many as the robot's stiffness asks for."""
    control_step: float = 1.0 / 60.0
    """Time between two actions [s]."""
    inertia: Mapping[str, np.ndarray] = MappingProxyType({})
    """Body name -> inertia (3, 3) about its centre of mass [kg m^2], in place of the asset's."""
    extra_state: Mapping[str, int] = MappingProxyType({})
    """Further state, name -> numbers per environment; zero at the start of an episode."""
    start_q: Sequence[float] | None = None
    """joint_q (nq) about which episodes start; None: the asset's rest pose."""
    start_q_spread: float | Sequence[float] = 0.0
    """Either way about it [m, rad]; one number is that of every hinge and slide."""
    start_qd_spread: float | Sequence[float] = 0.0
    """Either way about rest [m/s, rad/s]; one number is that of every degree of freedom."""
    ground: Any = None
    """In place of the asset's ground, see `warp_envs.robots.terrain.make_ground`."""
    max_speed: float | None = None
    """Velocity of any coordinate beyond which an environment diverges [m/s, rad/s]; None: none."""
    start_tilt: float = 0.0
    """Largest turn of a free first body about a random axis, instead of `start_q`'s [rad]."""

    def __init__(
        self,
        *,
        num_envs: int,
        compiled: bool | None = None,
        device: str = "cpu",
        dtype: torch.dtype = torch.float32,
        **options: Any,
    ) -> None:
        """Load the robot and make `num_envs` copies.

        Args:
            num_envs: copies stepped together.
            compiled: True for a kernel compiled for the robot, False for the plain ones, None for
                the faster (see `Articulation.record_step`).
            device: "cpu" or "cuda:0".
            dtype: torch.float32 or torch.float64.
            options: as `DifferentiableVectorEnv`.

        Raises:
            ValueError: an unsupported asset (naming the prim and the reason), an unknown joint
                name, a value out of range, or as `DifferentiableVectorEnv`.
        """
        check_declared(self, _OF_ROBOTS)
        if self.substeps != "auto":
            check_integer("substeps", self.substeps, 1)
        check_positive("control_step", self.control_step)
        if compiled not in (True, False, None):
            raise ArgumentError("compiled", repr(compiled), "True, False or None")
        if not isinstance(self.asset, (str, os.PathLike)):
            raise ArgumentError("asset", repr(self.asset), "the path of a USD file")
        self.compiled = compiled
        self.asset_path = Path(self.asset)
        try:
            description = _load(self.asset_path, self.ground)
        except ArgumentError as error:
            raise error.renamed("asset") if error.key == "path" else error from None
        drives = find_drives(description, self.actuated, self.gear, self.actuators)
        self.articulation = Articulation.from_description(
            drives.description, num_envs, device=device, dtype=dtype, inertia=self.inertia
        )
        steps = self.substeps
        if not isinstance(steps, int):
            steps = advised_substeps(self.articulation.description, self.control_step)
        self.substeps = self._substeps = steps
        if self.max_speed is not None:
            check_positive("max_speed", self.max_speed)
            self.state_bounds = {"joint_qd": float(self.max_speed)}
        nq, nv = self.articulation.nq, self.articulation.nv
        self._drives = drives
        self._driven = [self.articulation.qd_start[body] for body in drives.bodies]
        self.num_actions = len(self._driven)
        check_widths(f"{type(self).__name__}.extra_state", self.extra_state)
        self.state_layout = {"joint_q": nq, "joint_qd": nv, **self.extra_state}
        # The dynamics take some 10 ns for each degree of freedom and substep, the rest 0.4 us.
        self.rows_per_block = math.ceil(50.0 / (0.4 + 0.01 * nv * steps))
        super().__init__(num_envs=num_envs, device=device, dtype=dtype, **options)

    def record_step(
        self, program: Program, state: Arrays, action: wp.array, next_state: Arrays
    ) -> None:
        """Hold what the actions ask of the actuators over `substeps` substeps."""
        joint_f = self._record_drive(program, action)
        self.articulation.record_step(
            program,
            state["joint_q"],
            state["joint_qd"],
            joint_f,
            next_state["joint_q"],
            next_state["joint_qd"],
            dt=self.control_step,
            substeps=self._substeps,
            compiled=self.compiled,
        )

    def _record_drive(self, program: Program, action: wp.array) -> wp.array:
        """Joint forces (num_envs, nv) at an action, before what servos make of them."""
        nv = self.articulation.nv
        actuator = np.full(nv, -1, dtype=np.int32)
        actuator[self._driven] = np.arange(len(self._driven))
        slope, bias = np.zeros(nv), np.zeros(nv)
        slope[self._driven], bias[self._driven] = self._drives.slope, self._drives.bias
        joint_f = program.array((self.num_envs, nv), self.scalar)
        inputs = [wp.array(actuator, dtype=wp.int32, device=program.device)]
        inputs += [wp.array(v, dtype=self.scalar, device=program.device) for v in (slope, bias)]
        program.launch(robot.drive_joints, joint_f.shape, [*inputs, action, joint_f])
        return joint_f

    def record_initial_state(self, program: Program, rng: wp.array, state: Arrays) -> None:
        """The start that the class declares; each draw takes a stream of its own."""
        streams = count()

        def scatter(rows: wp.array, rest: np.ndarray, spread: np.ndarray) -> None:
            model = [wp.array(v, dtype=self.scalar, device=program.device) for v in (rest, spread)]
            inputs = [*model, next(streams), rng, rows]
            program.launch(robot.scatter_coordinates, self.num_envs, inputs)

        scatter(state["joint_q"], *self._start_pose())
        if self.start_tilt:
            inputs = [self.scalar(self.start_tilt), next(streams), rng, state["joint_q"]]
            program.launch(robot.tilt_root, self.num_envs, inputs)
        nv = self.articulation.nv
        spread = _per_coordinate("start_qd_spread", self.start_qd_spread, np.ones(nv))
        scatter(state["joint_qd"], np.zeros(nv), spread)
        for name, width in self.extra_state.items():
            scatter(state[name], np.zeros(width), np.zeros(width))

    def _start_pose(self) -> tuple[np.ndarray, np.ndarray]:
        """joint_q (nq) about which episodes start, and its spread (nq)."""
        articulation = self.articulation
        kinds = [body.joint.kind for body in articulation.description.bodies]
        single = np.zeros(articulation.nq)
        for kind, start in zip(kinds, articulation.q_start, strict=True):
            single[start : start + 1] = kind in SINGLE
        rest = articulation.default_joint_q
        if self.start_q is not None:
            rest = _per_coordinate("start_q", self.start_q, np.zeros(articulation.nq))
        if self.start_tilt and kinds[0] != "free":
            raise ArgumentError("start_tilt", repr(self.start_tilt), "0 without a free first body")
        return rest, _per_coordinate("start_q_spread", self.start_q_spread, single)

    # What its numbers are -----------------------------------------------------------------------

    @property
    def action_quantities(self) -> tuple[Quantity, ...]:
        """The driven joints; of one with a servo an action is a share of its range."""
        bodies = self.articulation.description.bodies
        found = []
        for index, slope in zip(self._drives.bodies, self._drives.slope, strict=True):
            joint = bodies[index].joint
            servo = joint.servo_kp or joint.servo_kd
            unit = "1" if servo else f"{slope:g} {'N' if joint.kind == 'prismatic' else 'N m'}"
            found.append(Quantity(joint.name, unit))
        return tuple(found)

    def _of_joints(self, what: str, unit: str, slide_unit: str = "") -> tuple[Quantity, ...]:
        """A quantity of every hinge and slide, in the order of their coordinates."""
        joints = [body.joint for body in self.articulation.description.bodies]
        return tuple(
            Quantity(f"{what} {j.name}", unit if j.kind == "revolute" else slide_unit or unit)
            for j in joints
            if j.kind in SINGLE
        )

    # What a recorder reads ----------------------------------------------------------------------

    @property
    def body_paths(self) -> tuple[str, ...]:
        """Prim paths of the bodies in the asset, in the order of `body_poses`."""
        return tuple(body.path for body in self.articulation.description.bodies)

    @property
    def ground_surface(self) -> Ground | None:
        """The ground, None where nothing of the robot touches it."""
        description = self.articulation.description
        return description.ground if description.touches_ground else None

    def body_poses(self) -> torch.Tensor:
        """World poses (num_envs, bodies, 7): position [m] and quaternion (x, y, z, w)."""
        return self.articulation.body_poses(self._split_state()["joint_q"].detach())

    def joint_positions(self) -> torch.Tensor:
        """A copy (num_envs, nq), in the coordinates of `Articulation`."""
        return self._state[:, self._columns["joint_q"]].detach().clone()

    def body_poses_at(self, joint_positions: torch.Tensor) -> torch.Tensor:
        """World poses (rows, bodies, 7) of any number of joint positions (rows, nq)."""
        count = len(joint_positions)
        missing = -count % self._posed.num_envs
        rows = torch.cat([joint_positions, joint_positions[:1].expand(missing, -1)])
        poses = [self._posed.body_poses(part) for part in rows.split(self._posed.num_envs)]
        return torch.cat(poses)[:count]

    @cached_property
    def _posed(self) -> Articulation:
        """The same robot in a number of its own."""
        robot = self.articulation
        device = wp.device_to_torch(robot.device)
        return Articulation.from_description(robot.description, _ROWS, device, robot.dtype)


def _load(path: Path, ground: Any) -> RobotDescription:
    """The robot of a USD file, on its own ground or another."""
    from warp_envs.usd.loader import load_robot  # USD only where a file is read

    description = load_robot(path)
    return description if ground is None else replace(description, ground=make_ground(ground))


def _per_coordinate(
    attribute: str, values: float | Sequence[float], where: np.ndarray
) -> np.ndarray:
    """`values` (n) as they are, or one number times `where` (n)."""
    numbers = np.asarray(values, dtype=np.float64)
    if numbers.ndim == 0:
        return numbers * where
    if numbers.shape != where.shape:
        raise ArgumentError(attribute, f"{len(numbers)} numbers", f"{len(where)}")
    return numbers
