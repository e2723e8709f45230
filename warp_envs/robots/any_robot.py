"""Any robot from a USD file as an environment, its task put together from a library of terms."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any

import numpy as np
import warp as wp

from kernels.robots import contact_terms, task
from kernels.robots import shared as robot
from kernels.robots.terms import BASE_WIDTH, WIDTHS
from warp_envs.articulation.anatomy import SINGLE, base_body, base_joints, horizontal_coordinates
from warp_envs.articulation.articulation import Articulation
from warp_envs.articulation.contacts import ground_notes, robot_contacts
from warp_envs.bridge.function import TorchFunction
from warp_envs.bridge.program import Program
from warp_envs.checks import ArgumentError
from warp_envs.declarations import Quantity
from warp_envs.options.robots import check_robot, split_start
from warp_envs.options.terms import read_task
from warp_envs.robots import tasks
from warp_envs.robots.assets import usd_file
from warp_envs.robots.base import ArticulatedEnv
from warp_envs.robots.start import start_pose
from warp_envs.robots.term_arrays import TermArrays, term_arrays
from warp_envs.vector_env import Arrays

_COMMAND_STREAM = 1000  # of random numbers, beyond those of the start's coordinates


class RobotEnv(ArticulatedEnv):
    """Any robot: actions drive its joints, and terms of a library say what is observed and earned.

    | | what | unit |
    |---|---|---|
    | action (one per driven joint) | see `ArticulatedEnv` | 1 |
    | obs | the terms of `observe`; joint_q, then joint_qd | |
    | reward | the terms of `reward`; velocity along x less 0.1 times the squared action | |
    | end | the terms of `terminate`; none | |

    An episode is 1000 steps of 1/60 s. It starts at the asset's rest pose, hinges and slides
    scattered by ±0.1, velocities by ±0.1. State: ``joint_q``, ``joint_qd``, ``last_action`` and,
    with commands, ``command`` (3) and ``command_draws`` (2: the key of its random numbers, steps).
    """

    name = "robot"
    max_episode_steps = 1000
    start_q_spread = 0.1
    start_qd_spread = 0.1

    def __init__(
        self,
        *,
        asset: str | os.PathLike[str],
        reward: Mapping[str, Any] | None = None,
        terminate: Mapping[str, Any] | None = None,
        observe: Sequence[Any] | None = None,
        task: str | type | None = None,
        command: Mapping[str, Any] | None = None,
        base: str | None = None,
        gear: float | Sequence[float] | None = None,
        actuators: Mapping[str, Any] | None = None,
        actuated: Sequence[str] | None = None,
        control_step: float = 1.0 / 60.0,
        substeps: int | str = "auto",
        ground: Any = None,
        implicit_damping: bool = False,
        max_speed: float | None = 500.0,
        start: str | Mapping[str, Any] | None = None,
        **options: Any,
    ) -> None:
        """Make copies of the robot in the file `asset`.

        Args:
            asset: a USD file with one UsdPhysics articulation, or an MJCF or URDF file, which is
                converted; ``package:path`` is a file in an installed Python package.
            reward: terms and weights, as ``{progress: 1, height: {above: 0.3, weight: 10}}``; all
                terms stand in `kernels.robots.terms`. None: ``{progress: 1, effort: -0.1}``.
            terminate: what ends an episode, as ``{height_below: 0.25, tilt_above: 60}``; None:
                nothing.
            observe: what is observed, as ``[height, {joint_velocities: {scale: 0.1}}]``; None:
                ``[joint_q, joint_qd]``.
            task: instead of these three, a class in torch, or ``module:Class`` of one; see
                `warp_envs.robots.tasks`.
            command: velocities to follow, as ``{forward: [0, 1], turn: [-1, 1], every: 5,
                standing: 0.1}``; None: none.
            base: name of the body that counts as the robot's trunk; None: the first with mass.
            gear: force or torque at full action of motors, of all or of each action [N or N m];
                None: the file's, or 1.
            actuators: what drives joints beyond what the file says, as ``{"*_knee": {kind:
                position, kp: 50, kd: 1, range: [-1, 1], force: 40}}``, by name or pattern.
            actuated: names of the driven joints in the actions' order; None: those that `actuators`
                or the file drive; where there are none, every hinge and slide but those by which
                the base moves in the world.
            control_step: time between two actions [s].
            substeps: integration steps per control step; "auto": what `gippo inspect` advises, 16
                at least.
            ground: in place of the asset's: "flat", "rough", "slope", "stairs", these with options,
                as ``{kind: rough, height: 0.1, seed: 1}``, or a file of heights, ``{file: x.npy,
                cell: 0.1}``; see `warp_envs.robots.terrain`. None: the asset's own.
            implicit_damping: whether the joints' damping acts at the velocity after a substep, so
                that it cannot make the robot shake, however stiff; see `docs/dynamics.md`.
            max_speed: velocity of any coordinate beyond which an environment counts as diverged
                [m/s, rad/s]; None: no such bound.
            start: name of one of the asset's keyframes, or a mapping with ``keyframe``, ``joints``
                (name or pattern -> value), ``height`` (of the body that floats [m], or "auto": the
                lowest point on the ground), and how far starts are scattered either way, ``spread``
                (of hinges and slides [rad, m]) and ``speed_spread`` (of all velocities), 0.1 each;
                None: the asset's rest pose. See `warp_envs.robots.start`.
            options: as `ArticulatedEnv`.

        Raises:
            ValueError: as `ArticulatedEnv` and `start_pose`, or a term, parameter or name that
                there is not.
        """
        given = {"reward": reward, "terminate": terminate, "observe": observe}
        check_robot(
            asset=asset,
            task=task,
            command=command,
            gear=gear,
            actuators=actuators,
            control_step=control_step,
            substeps=substeps,
            ground=ground,
            implicit_damping=implicit_damping,
            max_speed=max_speed,
            start=start,
            **given,
        )
        try:
            self.asset, left_out = usd_file(asset)
        except ArgumentError as error:
            raise error.renamed("asset") if error.key == "source" else error from None
        self.gear = gear
        self.actuated, self.actuators = actuated, actuators
        self.control_step, self.substeps = control_step, substeps
        self.ground, self.max_speed = ground, max_speed
        self.implicit_damping = implicit_damping
        self.torch_task = None if task is None else tasks.load_task(task)
        self._rewards, self._ends, self._observed, self._commands = read_task(
            **given, command=command
        )
        self._base_name = base
        self.start, scatter = split_start(start)
        for attribute, spread in scatter.items():
            setattr(self, attribute, spread)
        self._placed: dict[int, tuple[wp.array, wp.array]] = {}
        self._touched: dict[int, wp.array] = {}
        super().__init__(**options)
        self.notes = [*left_out, *ground_notes(self.articulation.description)]

    def _start_pose(self) -> tuple[np.ndarray, np.ndarray]:
        """As `start` says, inside the joints' limits."""
        _, spread = super()._start_pose()
        return start_pose(self.articulation, self.start, spread)

    @property
    def extra_state(self) -> dict[str, int]:
        """The last action, and the command with what renews it."""
        commanded = {"command": 3, "command_draws": 2} if self._commands else {}
        aloft = {"air_time": len(self.articulation.body_names)} if "air" in self._needs else {}
        return {"last_action": self.num_actions, **commanded, **aloft}

    @property
    def num_obs(self) -> int:
        """Numbers observed, those of all terms."""
        return sum(self._widths()) if self.torch_task is None else self._trial[0]

    @property
    def reward_terms(self) -> tuple[str, ...]:
        """What the terms of the reward are called."""
        if self.torch_task is not None:
            return self._trial[1]
        return tuple(choice.label for choice in self._rewards)

    # What the kernels are told of the robot -----------------------------------------------------

    @cached_property
    def _base(self) -> int:
        return base_body(self.articulation.description, self._base_name)

    @cached_property
    def _rest(self) -> np.ndarray:
        return self._start_pose()[0]

    @cached_property
    def _joints(self) -> list[int]:
        """The bodies on hinges and slides but those by which the base moves in the world."""
        description = self.articulation.description
        own = base_joints(description, self._base)
        kinds = [body.joint.kind for body in description.bodies]
        return [i for i, kind in enumerate(kinds) if kind in SINGLE and i not in own]

    @cached_property
    def _anatomy(self) -> dict[str, list[int]]:
        """The index lists of the kernels' struct, by its names."""
        articulation = self.articulation
        description = articulation.description
        where = horizontal_coordinates(description, self._base)
        return {
            "joint_coordinate": [articulation.q_start[i] for i in self._joints],
            "joint_dof": [articulation.qd_start[i] for i in self._joints],
            "pose_coordinate": [i for i in range(articulation.nq) if i not in where],
            "coordinate_of": list(articulation.q_start),
            "dof_of": list(articulation.qd_start),
            "driven": list(self._driven),
            "touching": sorted({index for index, _ in robot_contacts(description)}),
        }

    def _widths(self) -> list[int]:
        """Numbers of each term observed."""
        joints = len(self._anatomy["joint_dof"])
        own = {
            "joint_positions": joints,
            "joint_velocities": joints,
            "joints": 2 * joints,
            "joint_q": self.articulation.nq,
            "joint_qd": self.articulation.nv,
            "pose": len(self._anatomy["pose_coordinate"]),
            "action": self.num_actions,
            "contact": 3 * len(self._anatomy["touching"]),
        }
        return [own.get(c.term.name, WIDTHS.get(c.term.name, 0)) for c in self._observed]

    @cached_property
    def _terms(self) -> TermArrays:
        bodies = self.articulation.description.bodies
        single = [(i, b.joint) for i, b in enumerate(bodies) if b.joint.kind in SINGLE]
        names = {
            "joint": {joint.name: i for i, joint in single},
            "body": {body.name: i for i, body in enumerate(bodies)},
        }
        choices = (self._rewards, self._ends, self._observed)
        return term_arrays(*choices, self._widths(), names, self.scalar, self.articulation.device)

    @cached_property
    def _needs(self) -> set[str]:
        """What the terms read beyond the state: "bodies", "forces", "contacts", "air"."""
        terms = [choice.term for choice in (*self._rewards, *self._ends, *self._observed)]
        names = ("bodies", "forces", "contacts", "air")
        return {name for name in names if any(getattr(term, name) for term in terms)}

    @cached_property
    def _placing(self) -> Articulation:
        """The robot, or as much of it as carries the base where no term asks for all bodies."""
        if "bodies" in self._needs or self.articulation.columns.any_of("com"):
            return self.articulation
        description = self.articulation.description
        part = replace(
            description,
            bodies=description.bodies[: self._base + 1],
            actuators=(),
            couplings=(),
            cords=(),
        )
        device = wp.device_to_torch(self.articulation.device)
        return Articulation.from_description(part, self.num_envs, device, self.dtype)

    @property
    def obs_quantities(self) -> tuple[Quantity, ...]:
        """The terms of `observe`; of a task in torch, nothing is known."""
        if self.torch_task is not None:
            return ()
        names = [c.label if c.scale == 1.0 else f"{c.scale:g} * {c.label}" for c in self._observed]
        units = [choice.term.unit for choice in self._observed]
        return tuple(map(Quantity, names, units, self._widths()))

    # Launches -----------------------------------------------------------------------------------

    def record_step(
        self, program: Program, state: Arrays, action: wp.array, next_state: Arrays
    ) -> None:
        """The articulation's step; the action is kept, the command renewed in its time."""
        super().record_step(program, state, action, next_state)
        program.launch(robot.copy_rows, action.shape, [action, next_state["last_action"], 0])
        if self._commands is not None:
            every = self._commands.every
            steps = 0 if every is None else max(1, round(every / self.control_step))
            names = ("command", "command_draws")
            rows = [arrays[name] for arrays in (state, next_state) for name in names]
            inputs = [*self._command_ranges(program), steps, *rows]
            program.launch(task.keep_command, self.num_envs, inputs)
        if "air" in self._needs:
            touched = self._contacts(program, next_state)
            rows = [state["air_time"], next_state["air_time"]]
            inputs = [self.scalar(self.control_step), touched, *rows]
            program.launch(contact_terms.count_air_time, touched.shape[:2], inputs)

    def record_initial_state(self, program: Program, rng: wp.array, state: Arrays) -> None:
        """The robot's start, and its first command."""
        super().record_initial_state(program, rng, state)
        if self._commands is not None:
            rows = [state["command"], state["command_draws"]]
            inputs = [*self._command_ranges(program), _COMMAND_STREAM, rng, *rows]
            program.launch(task.draw_command, self.num_envs, inputs)

    def _command_ranges(self, program: Program) -> list[Any]:
        assert self._commands is not None
        low, high = (
            wp.array(values, dtype=self.scalar, device=program.device)
            for values in (self._commands.low, self._commands.high)
        )
        return [low, high, self.scalar(self._commands.standing)]

    def record_observation(self, program: Program, state: Arrays, obs: wp.array) -> None:
        """The terms of `observe`."""
        told = self._tell(program, state, state, state["last_action"])
        terms = self._terms
        inputs = [told, terms.scale, terms.clip, terms.start, obs]
        program.launch(terms.kernels.observe, self.num_envs, inputs)

    def record_outcome(
        self,
        program: Program,
        state: Arrays,
        action: wp.array,
        next_state: Arrays,
        reward_terms: wp.array,
        terminated: wp.array,
    ) -> None:
        """The terms of `terminate`, then those of `reward`."""
        told = self._tell(program, state, next_state, action)
        terms = self._terms
        inputs = [told, terms.end_parameters, terminated]
        program.launch(terms.kernels.end, self.num_envs, inputs)
        told.terminated = terminated
        if "forces" in self._needs:
            told.force = self._record_forces(program, state, next_state, action)
        inputs = [told, terms.parameters, terms.weights, reward_terms]
        program.launch(terms.kernels.judge, self.num_envs, inputs)

    def _tell(self, program: Program, before: Arrays, after: Arrays, action: wp.array) -> Any:
        """The struct that the terms read."""
        articulation = self.articulation
        bodies = articulation.description.bodies
        told = task.robot_type(self.scalar)()

        def numbers(values: Any) -> wp.array:
            return wp.array(
                np.asarray(values, np.float64), dtype=self.scalar, device=program.device
            )

        def nothing(dimensions: int, dtype: Any = self.scalar) -> wp.array:
            return wp.empty((0,) * dimensions, dtype=dtype, device=program.device)

        told.time = self.scalar(self.control_step)
        for name, indices in self._anatomy.items():
            setattr(told, name, wp.array(indices, dtype=wp.int32, device=program.device))
        told.rest = numbers(self._rest[self._anatomy["joint_coordinate"]])
        told.lower = numbers([bodies[i].joint.lower for i in self._joints])
        told.upper = numbers([bodies[i].joint.upper for i in self._joints])
        told.mass_share, told.mass_stride = self._record_mass_shares(program, after)
        told.joint_q, told.joint_qd = after["joint_q"], after["joint_qd"]
        told.joint_qd_before = before["joint_qd"]
        told.base, told.com = self._place(program, after)
        told.base_before, told.com_before = self._place(program, before)
        told.action, told.action_before = action, before["last_action"]
        told.command = before.get("command", nothing(2))
        told.force, told.terminated = nothing(2), nothing(1, wp.bool)
        needed = "contacts" in self._needs
        told.contact = self._contacts(program, after) if needed else nothing(3)
        told.air_time = before.get("air_time", nothing(2))
        return told

    def _contacts(self, program: Program, state: Arrays) -> wp.array:
        """The ground's forces on all bodies in a state (num_envs, bodies, 3), found once."""
        key = id(state["joint_q"])
        if key not in self._touched:
            shape = (self.num_envs, len(self.articulation.body_names), 3)
            found = self._touched[key] = program.array(shape, self.scalar)
            joints = (state["joint_q"], state["joint_qd"])
            self.articulation.record_contact_forces(program, *joints, found, state.parameters)
        return self._touched[key]

    def _place(self, program: Program, state: Arrays) -> tuple[wp.array, wp.array]:
        """The base's row and, where a term asks for bodies, their centres of mass, found once."""
        key = id(state["joint_q"])
        if key not in self._placed:
            self._placed[key] = self._record_place(program, state)
        return self._placed[key]

    def _record_place(self, program: Program, state: Arrays) -> tuple[wp.array, wp.array]:
        placing, n = self._placing, self.num_envs
        bodies = placing.description.bodies
        com_in, stride = placing.record_centers(program, state.parameters)
        body_q = program.array((n, len(bodies), 7), self.scalar)
        body_qd = program.array((n, len(bodies), 6), self.scalar)
        base = program.array((n, BASE_WIDTH), self.scalar)
        varied = state.parameters if placing is self.articulation else None
        joints = (state["joint_q"], state["joint_qd"])
        placing.record_kinematics(program, *joints, body_q, body_qd, varied)
        inputs = [self._base, com_in, stride, body_q, body_qd, base]
        program.launch(task.place_base, n, inputs)
        if "bodies" not in self._needs:
            return base, wp.empty((0, 0, 0), dtype=self.scalar, device=program.device)
        com = program.array((n, len(bodies), 3), self.scalar)
        inputs = [com_in, stride, body_q, com]
        program.launch(task.place_masses, (n, len(bodies)), inputs)
        return base, com

    def _record_mass_shares(self, program: Program, state: Arrays) -> tuple[wp.array, int]:
        """Each body's share of the robot's mass (rows, bodies), and the stride of the rows."""
        robot = self.articulation
        if "bodies" in self._needs and robot.columns.any_of("mass"):
            mass, stride = robot.record_masses(program, state.parameters)
            share = program.array(mass.shape, self.scalar)
            total = program.array(self.num_envs, self.scalar)
            program.launch(task.sum_masses, self.num_envs, [mass, total])
            program.launch(task.share_masses, mass.shape, [mass, total, share])
            return share, stride
        masses = np.array([[body.mass for body in robot.description.bodies]])
        shares = wp.array(masses / masses.sum(), dtype=self.scalar, device=program.device)
        return shares, 0

    def _record_forces(
        self, program: Program, before: Arrays, state: Arrays, action: wp.array
    ) -> wp.array:
        """The actuators' forces (num_envs, num_actions) in a state that a step led to."""
        bodies = self._drives.bodies
        servo, stride = self.articulation.record_servos(program, bodies, state.parameters)
        coordinate = [self.articulation.q_start[index] for index in bodies]
        indices = [
            wp.array(values, dtype=wp.int32, device=program.device)
            for values in (self._driven, coordinate)
        ]
        force = program.array(action.shape, self.scalar)
        joint_f = self._record_drive(program, before, action)
        inputs = [*indices, servo, stride, joint_f, state["joint_q"], state["joint_qd"], force]
        program.launch(robot.actuator_forces, action.shape, inputs)
        return force

    # A task in torch ----------------------------------------------------------------------------

    @cached_property
    def _trial(self) -> tuple[int, tuple[str, ...]]:
        """Numbers observed and names of the reward's terms, found by trying the task once."""
        assert self.torch_task is not None
        num_commands = 0 if self._commands is None else 3
        return tasks.try_task(
            self.torch_task,
            self.articulation,
            self._rest,
            self.num_actions,
            num_commands,
            self._view,
        )

    @cached_property
    def _view(self) -> tasks.View:
        bodies = self.articulation.description.bodies
        single = [i for i, body in enumerate(bodies) if body.joint.kind in SINGLE]
        q, qd = self.articulation.q_start, self.articulation.qd_start
        return tasks.View(
            base=self._base,
            control_step=self.control_step,
            joints={bodies[i].joint.name: (q[i], qd[i]) for i in single},
            bodies={body.name: i for i, body in enumerate(bodies)},
        )

    def _build_step(self) -> None:
        """The one program of all environments, or physics alone with a task in torch."""
        if self.torch_task is None:
            super()._build_step()
            return
        if self._noise is not None:
            raise ArgumentError("observation_noise", str(self._noise), "0 beside a task in torch")
        n = self.num_envs
        p = Program(self.device, num_rows=n, num_blocks=self.num_blocks, remember=True)
        self._make_memory(p)
        physics = self._record_physics(p)
        self._program, self._sizes_at_step = p, None  # the task checks what it gives
        self._step = tasks.TorchStep(self, self.torch_task, self._view, physics, self._kinematics())

    def _build_observe(self) -> None:
        """As `_build_step`."""
        if isinstance(self._step, tasks.TorchStep):
            self._observe = self._step.observe
        else:
            super()._build_observe()

    def _kinematics(self) -> TorchFunction:
        """Poses, velocities and contact forces of bodies by q, qd and the parameters in force."""
        n, robot = self.num_envs, self.articulation
        count = len(robot.body_names)
        p = Program(self.device, num_rows=n, num_blocks=self.num_blocks, remember=True)
        q, qd = (p.array((n, width), self.scalar) for width in (robot.nq, robot.nv))
        body_q, body_qd = (p.array((n, count, width), self.scalar) for width in (7, 6))
        contact = p.array((n, count, 3), self.scalar)
        in_force = self.varying.arrays(p, n, self.scalar)
        robot.record_kinematics(p, q, qd, body_q, body_qd, *in_force)
        robot.record_contact_forces(p, q, qd, contact, *in_force)
        return p.function([q, qd, *in_force], [body_q, body_qd, contact])
