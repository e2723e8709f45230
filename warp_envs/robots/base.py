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

from kernels.robots import delay, noise
from kernels.robots import shared as robot
from warp_envs.articulation.anatomy import SINGLE
from warp_envs.articulation.articulation import Articulation
from warp_envs.articulation.ground_contacts import GroundContacts
from warp_envs.articulation.parameters import Parameter, Value, choose, robot_parameters
from warp_envs.articulation.randomization import Draws, read_randomization
from warp_envs.articulation.stiffness import advised_substeps
from warp_envs.articulation.varying import Varying
from warp_envs.bridge.function import TorchFunction
from warp_envs.bridge.program import Program
from warp_envs.checks import ArgumentError, check_flag
from warp_envs.declarations import (
    DECLARED,
    UNWRITTEN,
    Quantity,
    check_declared,
    check_widths,
)
from warp_envs.options.robots import (
    MOST_SUBSTEPS,
    check_articulated,
    check_stepping,
    read_delay,
    read_noise,
)
from warp_envs.robots.actuators import drive_parameters, find_drives
from warp_envs.robots.terrain import make_ground
from warp_envs.usd.description import RobotDescription
from warp_envs.usd.ground import Ground
from warp_envs.vector_env import DRAWS, Arrays, DifferentiableVectorEnv

_OF_ROBOTS = {"asset": "the path of a USD file", "gear": "a force or torque"}
_FOUND = ("num_actions", "state_layout")
"""What an environment has to declare and a robot's finds in its file."""
_DELAY_STREAM = 1500  # of random numbers, beyond those of starts and commands
_NOISE_STREAM = 1501
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
    implicit_damping: bool = False
    """Whether the joints' damping acts at the velocity after a substep, see `docs/dynamics.md`."""
    start_tilt: float = 0.0
    """Largest turn of a free first body about a random axis, instead of `start_q`'s [rad]."""

    def __init__(
        self,
        *,
        num_envs: int,
        compiled: bool | None = None,
        mass_matrix_every: int = 1,
        parameters: Sequence[str] = (),
        randomize: Mapping[str, Any] | None = None,
        action_delay: int | Sequence[int] = 0,
        observation_noise: float | Sequence[float] = 0.0,
        device: str = "cpu",
        dtype: torch.dtype = torch.float32,
        **options: Any,
    ) -> None:
        """Load the robot and make `num_envs` copies.

        Args:
            num_envs: copies stepped together.
            compiled: True for a kernel compiled for the robot, False for the plain ones, None for
                the faster (see `Articulation.record_step`).
            mass_matrix_every: substeps from one mass matrix to the next: 1 is exact, `substeps` (or
                more) holds one for a control step, as published scores were trained; see
                `docs/dynamics.md`.
            parameters: names of what may differ from environment to environment, as
                ``["friction", "torso.mass", "*_hip.damping"]``; see `parameters`.
            randomize: how some of them are drawn for every episode, name -> spread, as
                ``{friction: [0.5, 1.2], torso.mass: {scale: [0.8, 1.2]}}``; see
                `warp_envs.articulation.randomization`. None: nothing is drawn.
            action_delay: control steps after which an action reaches the robot, or [least, most]
                of what is drawn for every episode; until the first does, there is none (zeros).
            observation_noise: added to what is observed, uniform either way, new in every step: one
                number, or one for each that is observed, in its unit.
            device: "cpu" or "cuda:0".
            dtype: torch.float32 or torch.float64.
            options: as `DifferentiableVectorEnv`.

        Raises:
            ValueError: an unsupported asset (naming the prim and the reason), an unknown joint
                name, a value out of range, or as `DifferentiableVectorEnv`.
        """
        check_declared(self, _OF_ROBOTS)
        check_stepping(self.control_step, self.substeps, self.max_speed)
        check_articulated(
            compiled=compiled,
            mass_matrix_every=mass_matrix_every,
            parameters=parameters,
            randomize=randomize,
            action_delay=action_delay,
            observation_noise=observation_noise,
        )
        if not isinstance(self.asset, (str, os.PathLike)):
            raise ArgumentError("asset", repr(self.asset), "the path of a USD file")
        self.compiled, self.mass_matrix_every = compiled, mass_matrix_every
        self.asset_path = Path(self.asset)
        try:
            description = _load(self.asset_path, self.ground)
        except ArgumentError as error:
            raise error.renamed("asset") if error.key == "path" else error from None
        check_flag("implicit_damping", self.implicit_damping)
        description = replace(description, implicit_damping=self.implicit_damping)
        drives = find_drives(description, self.actuated, self.gear, self.actuators)
        more = drive_parameters(drives)
        known = {**robot_parameters(drives.description), **more}
        spreads = read_randomization(randomize, known)
        varied = choose(known, parameters, "parameters")
        names = [*varied, *(name for name in spreads if name not in varied)]
        self.articulation = Articulation.from_description(
            drives.description, num_envs, device, dtype, self.inertia, names, more
        )
        if names:
            values = self.articulation.varied
            self.varying = Varying(values, Draws(spreads, values) if spreads else None)
        steps = self.substeps
        if not isinstance(steps, int):
            steps = advised_substeps(self.articulation.description, self.control_step)
            if steps > MOST_SUBSTEPS:
                given = f"{self.control_step} s, {steps:.3g} substeps for this robot's stiffness,"
                raise ArgumentError("control_step", given, f"one of at most {MOST_SUBSTEPS}")
        self.substeps = self._substeps = steps
        if self.max_speed is not None:
            self.state_bounds = {"joint_qd": float(self.max_speed)}
        nq, nv = self.articulation.nq, self.articulation.nv
        self._drives = drives
        self._driven = [self.articulation.qd_start[body] for body in drives.bodies]
        self.num_actions = len(self._driven)
        check_widths(f"{type(self).__name__}.extra_state", self.extra_state)
        self._delay = read_delay(action_delay)
        self._noise = read_noise(observation_noise)
        own = {**self._queue(), **({} if self._noise is None else {"noise": 2})}
        self.state_layout = {"joint_q": nq, "joint_qd": nv, **self.extra_state, **own}
        # The dynamics take some 10 ns for each degree of freedom and substep, the rest 0.4 us.
        self.rows_per_block = math.ceil(50.0 / (0.4 + 0.01 * nv * steps))
        super().__init__(num_envs=num_envs, device=device, dtype=dtype, **options)

    def record_step(
        self, program: Program, state: Arrays, action: wp.array, next_state: Arrays
    ) -> None:
        """Hold what the actions ask of the actuators over `substeps` substeps."""
        if self._delay[1]:
            rows = [state[name] for name in self._queue()]
            following = [next_state[name] for name in self._queue()]
            inputs = [action, *rows, *following]
            program.launch(delay.queue_actions, following[0].shape, inputs)
        if self._noise is not None:
            program.launch(noise.next_noise, self.num_envs, [state["noise"], next_state["noise"]])
        joint_f = self._record_drive(program, state, action)
        self.articulation.record_step(
            program,
            state["joint_q"],
            state["joint_qd"],
            joint_f,
            next_state["joint_q"],
            next_state["joint_qd"],
            dt=self.control_step,
            substeps=self._substeps,
            parameters=state.parameters,
            compiled=self.compiled,
            mass_matrix_every=self.mass_matrix_every,
        )

    def record_observed(self, program: Program, state: Arrays, obs: wp.array) -> None:
        """The observation, with its noise."""
        if self._noise is None:
            self.record_observation(program, state, obs)
            return
        spread = _per_coordinate("observation_noise", self._noise, np.ones(self.num_obs))
        clean = program.array(obs.shape, self.scalar)
        clean.fill_(UNWRITTEN)
        self.record_observation(program, state, clean)
        inputs = [wp.array(spread, dtype=self.scalar, device=program.device), state["noise"]]
        program.launch(noise.add_noise, obs.shape, [*inputs, clean, obs])

    @property
    def driven_bodies(self) -> list[int]:
        """The body whose joint each action drives."""
        return list(self._drives.bodies)

    @property
    def driven_joints(self) -> list[str]:
        """Names of these joints."""
        return [self.articulation.joint_names[body] for body in self._drives.bodies]

    def physics(self) -> TorchFunction:
        """One control step as a function of torch tensors, without clipping or ends of episodes.

        It takes the parts of `state_layout` (num_envs, n), the action (num_envs, num_actions) and,
        if any vary, the parameters as `Parameters.rows` lays them out; it gives the parts after
        the step. It is differentiable in all.
        """
        n = self.num_envs
        p = Program(self.device, num_rows=n, num_blocks=self.num_blocks, remember=True)
        return self._record_physics(p)

    def _record_physics(self, program: Program) -> TorchFunction:
        state, stepped = self._state_arrays(program), self._state_arrays(program)
        action = program.array((self.num_envs, self.num_actions), self.scalar)
        in_force = self.varying.arrays(program, self.num_envs, self.scalar)
        state.parameters = in_force[0] if in_force else None
        self.record_step(program, state, action, stepped)
        return program.function([*state.values(), action, *in_force], list(stepped.values()))

    def _queue(self) -> dict[str, int]:
        """The state of actions that have not reached the robot yet."""
        longest = self._delay[1]
        return {"action_queue": longest * self.num_actions, "action_delay": 1} if longest else {}

    def _record_drive(self, program: Program, state: Arrays, action: wp.array) -> wp.array:
        """Joint forces (num_envs, nv) at an action in a state, before what servos make of them."""
        if self._delay[1]:
            late = program.array(action.shape, self.scalar)
            rows = [state[name] for name in self._queue()]
            program.launch(delay.delay_actions, action.shape, [action, *rows, late])
            action = late
        nv = self.articulation.nv
        actuator = np.full(nv, -1, dtype=np.int32)
        actuator[self._driven] = np.arange(len(self._driven))
        slope, bias = np.zeros(nv), np.zeros(nv)
        slope[self._driven], bias[self._driven] = self._drives.slope, self._drives.bias
        column = np.full(nv, -1, dtype=np.int32)
        for dof, gain in zip(self._driven, self._drives.gain, strict=True):
            of = None if gain is None else self.articulation.columns.of(*gain[0])
            if gain is not None and of is not None:
                column[dof] = of.start
                slope[dof], bias[dof] = slope[dof] / gain[1], bias[dof] / gain[1]
        joint_f = program.array((self.num_envs, nv), self.scalar)
        inputs = [wp.array(actuator, dtype=wp.int32, device=program.device)]
        inputs += [wp.array(v, dtype=self.scalar, device=program.device) for v in (slope, bias)]
        kernel = robot.drive_joints
        if np.any(column >= 0):
            kernel = robot.drive_joints_by_gain
            inputs += [wp.array(column, dtype=wp.int32, device=program.device), state.parameters]
        program.launch(kernel, joint_f.shape, [*inputs, action, joint_f])
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
        if self._delay[1]:
            inputs = [*self._delay, _DELAY_STREAM, rng, *(state[name] for name in self._queue())]
            program.launch(delay.draw_delay, self.num_envs, inputs)
        if self._noise is not None:
            program.launch(noise.draw_key, self.num_envs, [_NOISE_STREAM, rng, state["noise"]])

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

    # Physical parameters ------------------------------------------------------------------------

    def parameters(self) -> dict[str, Parameter]:
        """The robot's physical parameters by name, with shape, unit, default and range.

        Those that may differ from environment to environment, as the option `parameters` or
        `randomize` says, have `varies`.
        """
        return self.articulation.parameters()

    def set_parameters(self, values: Mapping[str, Value]) -> None:
        """Take new values of parameters that vary, from the next step on.

        They hold until they are set again, through resets too; what is drawn for an episode takes
        the place of a value, or goes with it, as `randomize` says. Observations, rewards and states
        are differentiable in those that require a gradient.

        Args:
            values: name -> numbers or a tensor that broadcasts to (num_envs, *shape).

        Raises:
            ValueError: a name that does not vary, a value out of range or of the wrong shape, dtype
                or device. Nothing has been set then.
        """
        self.articulation.set_parameters(values)

    def get_parameters(self) -> dict[str, torch.Tensor]:
        """The values in force of those that vary, name -> (num_envs, *shape), drawn ones too."""
        return self.varying.named(self._memory.get(DRAWS))

    def _drawn(self) -> list[torch.Tensor]:
        """The parameters drawn, and the delay of actions where that is."""
        drawn = super()._drawn()
        least, most = self._delay
        if least < most:
            delay = self._state[:, self._columns["action_delay"]].detach()
            drawn.append(2.0 * (delay - least) / (most - least) - 1.0)
        return drawn

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

    @property
    def weight(self) -> float:
        """Of the robot as its file has it, and so the force that holds it up at rest [N]."""
        description = self.articulation.description
        mass = sum(body.mass for body in description.bodies)
        return float(mass * np.linalg.norm(description.gravity))

    @cached_property
    def ground_contacts(self) -> GroundContacts:
        """Which bodies can touch the ground, and how it holds them in states."""
        return GroundContacts(self.articulation)

    def contact_states(self) -> torch.Tensor:
        """Of what the ground's forces follow, a new tensor (num_envs, n) for `ground_contacts`."""
        state = self._split_state()
        varied = self.varying.in_force(self._memory.get(DRAWS))
        return torch.cat([state["joint_q"], state["joint_qd"], *varied], dim=1).detach()

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
