"""Articulated robots: trees of rigid bodies with their dynamics, differentiable in torch."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any, final

import numpy as np
import torch
import warp as wp

from kernels.articulation import contact_forces as contact_kernels
from kernels.articulation import dynamics as kernels
from kernels.articulation.data import scratch_type
from kernels.articulation.held import held_control_step, held_type
from kernels.precision import precision_of
from warp_envs.articulation.anatomy import check_masses
from warp_envs.articulation.columns import NOTHING, SERVO
from warp_envs.articulation.compiled import record_compiled_step
from warp_envs.articulation.model import count_slots, rest_coordinates, robot_model, start_indices
from warp_envs.articulation.parameters import Parameter, Parameters, Value, robot_parameters
from warp_envs.articulation.varied_model import Rows, record_servos, record_varied_model
from warp_envs.bridge.devices import check_device, check_tensor, scalar_type
from warp_envs.bridge.function import TorchFunction
from warp_envs.bridge.program import Program
from warp_envs.checks import ArgumentError, check_integer
from warp_envs.usd.description import RobotDescription

LARGEST_COMPILED = 100
"""Degrees of freedom up to which a robot is compiled unasked: 62 take about 48 s, once."""


@final
class Articulation:
    """Copies of a robot, a forest of rigid bodies, whose dynamics are functions of torch tensors.

    Coordinates, body after body in the description's order, SI units, quaternions (x, y, z, w):

    | joint | joint_q | joint_qd |
    |---|---|---|
    | free | pose of the body's frame in the world | velocity of its centre of mass, then angular |
    | spherical | quaternion against the parent's anchor | angular velocity in the anchor's axes |
    | revolute, prismatic | angle or travel | its rate |
    | fixed | none | none |

    A pose is a position and a quaternion; a free joint's velocities are in world axes.

    Every function is differentiable once in every argument, by the exact adjoint of the kernels.
    """

    def __init__(
        self,
        description: RobotDescription,
        num_envs: int,
        device: str = "cpu",
        dtype: torch.dtype = torch.float32,
        inertia: Mapping[str, np.ndarray] | None = None,
        parameters: Sequence[str] = (),
        more: Mapping[str, Parameter] | None = None,
    ) -> None:
        """Lay out `num_envs` copies of a robot.

        Args:
            description: the robot.
            num_envs: copies that every function takes and returns as its first dimension.
            device: "cpu" or "cuda:0".
            dtype: torch.float32 or torch.float64.
            inertia: body name -> inertia (3, 3) about the centre of mass in body axes [kg m^2], in
                place of the description's. It must be symmetric; no more is asked of it.
            parameters: names of what may differ from copy to copy, see `parameters`; the rest is
                constant.
            more: parameters that whoever drives the robot has beside its own.

        Raises:
            ValueError: `num_envs` below one, an unknown dtype, body or parameter name, an inertia
                that is not symmetric, or a free joint below another body.
        """
        check_integer("num_envs", num_envs, 1)
        self.num_envs = num_envs
        self.dtype = dtype
        self.scalar = scalar_type(dtype)
        self.device = wp.get_device(check_device(device))
        self.description = _with_inertia(description, inertia or {})
        bodies = self.description.bodies
        for body in bodies:
            if body.joint.kind == "free" and body.parent >= 0:
                raise ArgumentError(f"joint {body.joint.name}", "a free one", "free ones on roots")
        if dtype == torch.float32:
            check_masses(bodies)
        self.body_names = tuple(body.name for body in bodies)
        self.joint_names = tuple(body.joint.name for body in bodies)
        q_start, qd_start = start_indices(bodies)
        self.q_start, self.qd_start = tuple(q_start[:-1]), tuple(qd_start[:-1])
        self.nq, self.nv = q_start[-1], qd_start[-1]
        self.default_joint_q = rest_coordinates(bodies)
        known = {**robot_parameters(self.description), **(more or {})}
        where = wp.device_to_torch(self.device)
        self.varied = Parameters(known, parameters, num_envs, dtype, where)
        self.columns = self.varied.columns
        self._model = robot_model(self.description, self.scalar, self.device)

    @classmethod
    def from_usd(
        cls,
        path: str | os.PathLike[str],
        num_envs: int,
        device: str = "cpu",
        dtype: torch.dtype = torch.float32,
        inertia: Mapping[str, np.ndarray] | None = None,
        parameters: Sequence[str] = (),
        more: Mapping[str, Parameter] | None = None,
    ) -> Articulation:
        """Load a robot from a USD file with UsdPhysics; arguments as for the class.

        Raises:
            ValueError: content that is not supported (naming the prim and the reason), or as for
                the class.
        """
        from warp_envs.usd.loader import load_robot  # USD only where a file is read

        description = load_robot(Path(path))
        return cls(description, num_envs, device, dtype, inertia, parameters, more)

    @classmethod
    def from_description(
        cls,
        description: RobotDescription,
        num_envs: int,
        device: str = "cpu",
        dtype: torch.dtype = torch.float32,
        inertia: Mapping[str, np.ndarray] | None = None,
        parameters: Sequence[str] = (),
        more: Mapping[str, Parameter] | None = None,
    ) -> Articulation:
        """Take a robot that was described in Python; arguments as for the class."""
        return cls(description, num_envs, device, dtype, inertia, parameters, more)

    # Parameters ---------------------------------------------------------------------------------

    def parameters(self) -> dict[str, Parameter]:
        """All physical parameters by name; `varies` says which differ from copy to copy."""
        return dict(self.varied.known)

    def set_parameters(self, values: Mapping[str, Value]) -> None:
        """Take new values of parameters that vary, as for the functions below.

        Args:
            values: name -> numbers or a tensor that broadcasts to (num_envs, *shape). A tensor that
                requires a gradient gets one from what is computed afterwards.

        Raises:
            ValueError: a name that does not vary, a value out of range or of the wrong shape, dtype
                or device. Nothing has been set then.
        """
        self.varied.set(values)

    # Functions of torch tensors -----------------------------------------------------------------

    def forward_dynamics(
        self, joint_q: torch.Tensor, joint_qd: torch.Tensor, joint_f: torch.Tensor
    ) -> torch.Tensor:
        """Accelerations (num_envs, nv) that solve M qdd + c(q, qd) = joint_f + gravity.

        Armature is part of M; damping, drag, springs, couplings, limits and contact play no part.

        Raises:
            ValueError: an argument of the wrong shape, dtype or device.
        """
        self._check("joint_q", joint_q, self.nq)
        self._check("joint_qd", joint_qd, self.nv)
        self._check("joint_f", joint_f, self.nv)
        return self._forward_dynamics(joint_q, joint_qd, joint_f, *self._given())[0]

    def mass_matrix(self, joint_q: torch.Tensor) -> torch.Tensor:
        """Joint-space inertia M (num_envs, nv, nv), armature included.

        Raises:
            ValueError: an argument of the wrong shape, dtype or device.
        """
        self._check("joint_q", joint_q, self.nq)
        return self._mass_matrix(joint_q, *self._given())[0]

    def body_poses(self, joint_q: torch.Tensor) -> torch.Tensor:
        """World poses (num_envs, bodies, 7) of the body frames: position [m], then quaternion.

        Raises:
            ValueError: an argument of the wrong shape, dtype or device.
        """
        self._check("joint_q", joint_q, self.nq)
        return self._body_poses(joint_q, *self._given())[0]

    # Launches in a program ----------------------------------------------------------------------

    def record_step(
        self,
        program: Program,
        joint_q: wp.array,
        joint_qd: wp.array,
        joint_f: wp.array,
        next_joint_q: wp.array,
        next_joint_qd: wp.array,
        dt: float,
        substeps: int,
        parameters: wp.array | None = None,
        compiled: bool | None = None,
        mass_matrix_every: int = 1,
    ) -> None:
        """Append one control step: `dt` seconds in `substeps` semi-implicit steps.

        Each substep adds damping, drag, springs, couplings, limits and ground contact to the
        constant `joint_f`.

        Args:
            program: where the launch and its scratch arrays go.
            joint_q: coordinates before, (num_envs, nq).
            joint_qd: velocities before, (num_envs, nv).
            joint_f: applied joint forces [N, N m], (num_envs, nv).
            next_joint_q: coordinates after.
            next_joint_qd: velocities after.
            dt: length of the control step [s].
            substeps: integration steps in it.
            parameters: the numbers that vary, (num_envs, columns.count), where any do.
            compiled: True for a kernel compiled for this robot, many times faster on a CPU; False
                for the plain kernels, the reference it is held against; None compiles except for
                robots so large that it takes long.
            mass_matrix_every: substeps from one mass matrix to the next, counted from the control
                step's first: 1 is exact, `substeps` (or more) holds one for the whole control step,
                as published scores were trained; see `kernels.articulation.held`.

        Raises:
            ValueError: `dt`, `substeps` or `mass_matrix_every` is not positive, or `compiled` is
                True for a robot without a joint that moves.
        """
        if not 0.0 < dt < float("inf"):
            raise ArgumentError("dt", repr(dt), "a positive number of seconds")
        check_integer("substeps", substeps, 1)
        check_integer("mass_matrix_every", mass_matrix_every, 1)
        every = min(mass_matrix_every, substeps)
        if compiled is None:
            compiled = 0 < self.nv <= LARGEST_COMPILED
        if compiled:
            record_compiled_step(
                program,
                self.description,
                joint_q,
                joint_qd,
                joint_f,
                next_joint_q,
                next_joint_qd,
                dt,
                substeps,
                columns=self.columns,
                parameters=parameters,
                mass_matrix_every=every,
            )
            return
        scratch, kernel = [self._scratch(program, substeps)], kernels.control_step
        model = [self._record_model(program, parameters), self.scalar(dt / substeps), substeps]
        if every > 1:
            kernel, model = held_control_step, [*model, every]
            scratch.append(self._held(program, substeps, every))
        program.launch(
            kernel[self.scalar],
            self.num_envs,
            [*model, joint_q, joint_qd, joint_f, *scratch, next_joint_q, next_joint_qd],
            repeated=True,
        )

    def record_kinematics(
        self,
        program: Program,
        joint_q: wp.array,
        joint_qd: wp.array,
        body_q: wp.array,
        body_qd: wp.array,
        parameters: wp.array | None = None,
    ) -> None:
        """Append the bodies' world poses and velocities.

        Args:
            program: where the launch and its scratch arrays go.
            joint_q: coordinates, (num_envs, nq).
            joint_qd: velocities, (num_envs, nv).
            body_q: position [m] and quaternion of each body frame, (num_envs, bodies, 7).
            body_qd: velocity of each centre of mass [m/s] and angular velocity [rad/s] in world
                axes, (num_envs, bodies, 6).
            parameters: the numbers that vary, (num_envs, columns.count), where any do.
        """
        model = self._record_model(program, parameters)
        program.launch(
            kernels.body_kinematics[self.scalar],
            self.num_envs,
            [model, joint_q, joint_qd, self._scratch(program, 1), body_q, body_qd],
            repeated=True,
        )

    def record_masses(
        self, program: Program, parameters: wp.array | None = None
    ) -> tuple[wp.array, int]:
        """Append what the bodies' masses need, and return them (rows, bodies) [kg], and a stride.

        Environment `env` has the row `env * stride`.
        """
        if parameters is None or not self.columns.any_of("mass"):
            return self._model.mass, 0
        return Rows(program, self.columns, parameters).masses(self.description), 1

    def record_centers(
        self, program: Program, parameters: wp.array | None = None
    ) -> tuple[wp.array, int]:
        """As `record_masses`, of their centres in the bodies' frames [m]."""
        if parameters is None or not self.columns.any_of("com"):
            return self._model.com, 0
        return Rows(program, self.columns, parameters).centers(self.description), 1

    def record_servos(
        self, program: Program, bodies: Sequence[int], parameters: wp.array | None = None
    ) -> tuple[wp.array, int]:
        """As `record_masses`, of the servos on the joints of `bodies`, (rows, 4 of each body).

        Of each kp, kd, least and greatest force.
        """
        varied = self.columns.any_of(*SERVO)
        columns = self.columns if varied else NOTHING
        if parameters is None or not varied:
            parameters = wp.zeros((1, 1), dtype=self.scalar, device=program.device)
        servos = record_servos(program, self.description, columns, parameters, bodies)
        return servos, int(varied)

    def record_contact_forces(
        self,
        program: Program,
        joint_q: wp.array,
        joint_qd: wp.array,
        force: wp.array,
        parameters: wp.array | None = None,
    ) -> None:
        """Append the ground's force on each body.

        Args:
            program: where the launch and its scratch arrays go.
            joint_q: coordinates, (num_envs, nq).
            joint_qd: velocities, (num_envs, nv).
            force: in world axes [N], (num_envs, bodies, 3).
            parameters: the numbers that vary, (num_envs, columns.count), where any do.
        """
        vector = precision_of(self.scalar).vec6
        bias = program.array((self.num_envs, len(self.body_names)), vector, shared=True)
        scratch = self._scratch(program, 1)
        program.launch(
            contact_kernels.contact_forces[self.scalar],
            self.num_envs,
            [self._record_model(program, parameters), joint_q, joint_qd, scratch, bias, force],
            repeated=True,
        )

    def record_touching(
        self,
        program: Program,
        joint_q: wp.array,
        joint_qd: wp.array,
        force: wp.array,
        point: wp.array,
        pressure: wp.array,
        parameters: wp.array | None = None,
    ) -> None:
        """Append the ground's force at each contact of `robot_contacts`, without gradients.

        Args:
            program: where the launch and its scratch arrays go.
            joint_q: coordinates, (num_envs, nq).
            joint_qd: velocities, (num_envs, nv).
            force: in world axes [N], zero where nothing touches, (num_envs, contacts, 3).
            point: where in the world [m], (num_envs, contacts, 3).
            pressure: its part along the ground's normal [N], (num_envs, contacts).
            parameters: the numbers that vary, (num_envs, columns.count), where any do.
        """
        model, scratch = self._record_model(program, parameters), self._scratch(program, 1)
        program.launch(
            contact_kernels.touching_points[self.scalar],
            self.num_envs,
            [model, joint_q, joint_qd, scratch, force, point, pressure],
        )

    # Inside -------------------------------------------------------------------------------------

    def _given(self) -> list[torch.Tensor]:
        """What the functions take beside their arguments."""
        return [self.varied.rows()] if self.columns.keys else []

    def _varied_rows(self, program: Program) -> list[wp.array]:
        """The arrays of what `_given` gives."""
        return [self._rows(program, self.columns.count)] if self.columns.keys else []

    def _record_model(self, program: Program, parameters: wp.array | None) -> Any:
        """The struct of constants, filled from what varies."""
        if parameters is None:
            return self._model
        return record_varied_model(program, self.description, self._model, self.columns, parameters)

    @cached_property
    def _forward_dynamics(self) -> TorchFunction:
        program = Program(str(self.device))
        q, qd, f, qdd = (self._rows(program, n) for n in (self.nq, self.nv, self.nv, self.nv))
        varied = self._varied_rows(program)
        model, scratch = self._record_model(program, *varied or [None]), self._scratch(program, 1)
        program.launch(
            kernels.forward_dynamics[self.scalar], self.num_envs, [model, q, qd, f, scratch, qdd]
        )
        return program.function([q, qd, f, *varied], [qdd])

    @cached_property
    def _mass_matrix(self) -> TorchFunction:
        program = Program(str(self.device))
        q = self._rows(program, self.nq)
        matrix = program.array((self.num_envs, self.nv, self.nv), self.scalar)
        varied = self._varied_rows(program)
        model, scratch = self._record_model(program, *varied or [None]), self._scratch(program, 1)
        program.launch(kernels.mass_matrix[self.scalar], self.num_envs, [model, q, scratch, matrix])
        return program.function([q, *varied], [matrix])

    @cached_property
    def _body_poses(self) -> TorchFunction:
        program = Program(str(self.device))
        q, qd = (self._rows(program, n) for n in (self.nq, self.nv))
        count = len(self.body_names)
        body_q = program.array((self.num_envs, count, 7), self.scalar)
        body_qd = program.array((self.num_envs, count, 6), self.scalar)
        varied = self._varied_rows(program)
        self.record_kinematics(program, q, qd, body_q, body_qd, *varied)
        return program.function([q, *varied], [body_q])

    def _rows(self, program: Program, width: int) -> wp.array:
        return program.array((self.num_envs, width), self.scalar)

    def _scratch(self, program: Program, substeps: int) -> Any:
        """Intermediates, which take so much memory that all calls share them.

        The launch that fills them must be `repeated`.
        """
        types = precision_of(self.scalar)
        bodies, dofs = len(self.body_names), self.nv
        slots = count_slots(self.description.bodies)
        scratch = scratch_type(self.scalar)()

        def allocate(width: int, dtype: Any, steps: int = substeps) -> wp.array:
            return program.array((self.num_envs, steps, width), dtype, shared=True)

        scratch.joint_q = allocate(self.nq, self.scalar, substeps + 1)
        scratch.joint_qd = allocate(dofs, self.scalar, substeps + 1)
        scratch.orientation = allocate(bodies, types.quat)
        scratch.rotation = allocate(bodies, types.mat33)
        scratch.origin = allocate(bodies, types.vec3)
        scratch.position = allocate(bodies, types.vec3)
        scratch.velocity = allocate(bodies, types.vec6)
        scratch.velocity_product = allocate(bodies, types.vec6)
        scratch.inertia = allocate(slots, types.mat66)
        scratch.bias_force = allocate(slots, types.vec6)
        scratch.axis = allocate(dofs, types.vec6)
        scratch.joint_force = allocate(dofs, self.scalar)
        scratch.axis_force = allocate(dofs, types.vec6)
        scratch.axis_inertia = allocate(dofs, self.scalar)
        scratch.free_force = allocate(dofs, self.scalar)
        scratch.joint_qdd = allocate(dofs, self.scalar)
        couplings = len(self.description.couplings) + len(self.description.cords)
        couplings = max(1, couplings)  # an array without width has no rows
        scratch.stretch = allocate(couplings, self.scalar)
        scratch.stretch_rate = allocate(couplings, self.scalar)
        scratch.acceleration = allocate(dofs + bodies, types.vec6)
        return scratch

    def _held(self, program: Program, substeps: int, every: int) -> Any:
        """As `_scratch`, what a mass matrix adds that is held for `every` substeps."""
        types, held = precision_of(self.scalar), held_type(self.scalar)()
        bodies, renewals = len(self.body_names), -(-substeps // every)

        def allocate(steps: int, width: int, dtype: Any) -> wp.array:
            return program.array((self.num_envs, steps, width), dtype, shared=True)

        held.composite = allocate(renewals, bodies, types.mat66)
        for name in ("matrix", "rest", "lower"):
            setattr(held, name, allocate(renewals, self.nv * self.nv, self.scalar))
        held.wrench = allocate(substeps, bodies, types.vec6)
        for name in ("force", "forward_rest", "forward", "backward_rest", "acceleration"):
            setattr(held, name, allocate(substeps, self.nv, self.scalar))
        return held

    def _check(self, name: str, tensor: torch.Tensor, width: int) -> None:
        shape, device = (self.num_envs, width), wp.device_to_torch(self.device)
        check_tensor(name, tensor, shape, self.dtype, torch.device(device))


def _with_inertia(
    description: RobotDescription, inertia: Mapping[str, np.ndarray]
) -> RobotDescription:
    """The robot with the inertia of the named bodies replaced."""
    names = [body.name for body in description.bodies]
    for name, value in inertia.items():
        if name not in names:
            raise ArgumentError("inertia", f"body {name!r}", str(names))
        matrix = np.asarray(value, dtype=np.float64)
        if matrix.shape != (3, 3) or not np.array_equal(matrix, matrix.T):
            raise ArgumentError(f"inertia[{name!r}]", repr(value), "a symmetric (3, 3)")
    bodies = tuple(
        replace(body, inertia=np.asarray(inertia[body.name], dtype=np.float64))
        if body.name in inertia
        else body
        for body in description.bodies
    )
    return replace(description, bodies=bodies)
