"""The plain kernels' constants of a robot that varies from environment to environment."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import warp as wp

from kernels.articulation import data
from kernels.articulation import variation as kernels
from kernels.precision import precision_of
from warp_envs.articulation.columns import SERVO, Columns
from warp_envs.articulation.model import VARYING, dof_constants, start_indices
from warp_envs.bridge.program import Program
from warp_envs.usd.description import RobotDescription

_CONTACT = {"ke": "contact_ke", "kd": "contact_kd", "kf": "contact_kf", "mu": "friction"}
"""Field of `ContactMaterial` -> quantity, in the kernels' order."""
BOUNDS = {"servo_least": -1.0, "servo_most": 1.0}
"""Of a servo's force, and their sign."""


def record_varied_model(
    program: Program,
    description: RobotDescription,
    model: Any,
    columns: Columns,
    parameters: wp.array,
) -> Any:
    """Append what fills the constants that vary, and return the struct that reads them.

    Args:
        program: where the launches go.
        description: the robot.
        model: its constants with one row for all environments.
        columns: what varies.
        parameters: its numbers, (num_envs, columns.count).
    """
    rows = Rows(program, columns, parameters)
    varied = data.model_type(parameters.dtype)()
    for name in varied._cls.vars:
        setattr(varied, name, getattr(model, name))
    varied.stride = 1
    bodies = description.bodies
    for name, constants in dof_constants(bodies, start_indices(bodies)[0]).items():
        if name in VARYING:
            setattr(varied, name, _dof_rows(rows, description, name, constants))
    varied.mass, varied.com = rows.masses(description), rows.centers(description)
    varied.inertia = rows.inertias(description)
    varied.gravity = rows.vectors([description.gravity], [("gravity", 0)])
    material = description.contact
    values = [0.0 if material is None else getattr(material, field) for field in _CONTACT]
    varied.contact_material = rows.numbers(values, [(name, 0) for name in _CONTACT.values()])
    return varied


def _dof_rows(
    rows: Rows, description: RobotDescription, name: str, constants: Sequence[float]
) -> wp.array:
    """A constant of each degree of freedom; damping is a joint's own and that of its limits."""
    owner = [i for i, body in enumerate(description.bodies) for _ in range(body.joint.nv)]
    if name in BOUNDS:  # of the servo's force, which is one number either way where it varies
        keys = [("servo_force", i) for i in owner]
        return rows.numbers(constants, keys, sign=BOUNDS[name])
    keys = [(name, i) for i in owner]
    if name != "damping":
        return rows.numbers(constants, keys)
    joints = [description.bodies[i].joint for i in owner]
    own = [0.0 if joint.kind == "free" else joint.damping for joint in joints]
    added = [joint.limit_kd if joint.nv == 1 else 0.0 for joint in joints]
    return rows.numbers(own, keys, added, [("limit_kd", i) for i in owner])


def record_servos(
    program: Program,
    description: RobotDescription,
    columns: Columns,
    parameters: wp.array,
    bodies: Sequence[int],
) -> wp.array:
    """Append what fills kp, kd, least and greatest force of the servos on the joints of `bodies`.

    Returns (num_envs, 4 of each body).
    """
    constants, keys, signs = [], [], []
    for index in bodies:
        joint = description.bodies[index].joint
        constants += [joint.servo_kp, joint.servo_kd, *joint.servo_range]
        keys += [(name, index) for name in (*SERVO, SERVO[-1])]
        signs += [1.0, 1.0, *BOUNDS.values()]
    return Rows(program, columns, parameters).numbers(constants, keys, sign=signs)


class Rows:
    """Arrays with a row per environment, shared by all calls and filled in each."""

    def __init__(self, program: Program, columns: Columns, parameters: wp.array) -> None:
        self._program, self._columns, self._parameters = program, columns, parameters
        self._num_envs, self._scalar = parameters.shape[0], parameters.dtype
        self._types = precision_of(self._scalar)

    def masses(self, description: RobotDescription) -> wp.array:
        """The bodies' masses (num_envs, bodies)."""
        masses = [body.mass for body in description.bodies]
        return self.numbers(masses, [("mass", i) for i in range(len(masses))])

    def centers(self, description: RobotDescription) -> wp.array:
        """Their centres of mass (num_envs, bodies), three-vectors."""
        centers = [body.com for body in description.bodies]
        return self.vectors(centers, [("com", i) for i in range(len(centers))])

    def numbers(
        self,
        constants: Sequence[float],
        keys: Sequence[tuple[str, int]],
        added: Sequence[float] | None = None,
        added_keys: Sequence[tuple[str, int]] = (),
        sign: float | Sequence[float] = 1.0,
    ) -> wp.array:
        """(num_envs, n): what varies in place of constants, of one kind or the sum of two.

        `sign` is that of what varies, of all or of each.
        """
        column = np.full((len(constants), 2), -1, dtype=np.int32)
        constant = np.zeros(len(constants))
        parts = [(constants, keys)] if added is None else [(constants, keys), (added, added_keys)]
        for k, (values, names) in enumerate(parts):
            column[:, k] = [self._first(key) for key in names]
            constant += np.where(column[:, k] < 0, np.asarray(values, dtype=np.float64), 0.0)
        signs = np.broadcast_to(sign, constant.shape)
        of_each = wp.array(signs, dtype=self._scalar, device=self._program.device)
        return self._rows(kernels.spread_numbers, constant, self._scalar, [column], [of_each])

    def vectors(self, constants: Sequence[Any], keys: Sequence[tuple[str, int]]) -> wp.array:
        """(num_envs, n) of three-vectors."""
        column = [self._first(key) for key in keys]
        return self._rows(kernels.spread_vectors, np.array(constants), self._types.vec3, [column])

    def inertias(self, description: RobotDescription) -> wp.array:
        """Their inertias (num_envs, bodies), (3, 3); a mass that varies takes its inertia along."""
        bodies = description.bodies
        of_mass, scale, moment = (
            np.array([self._first((name, i)) for i in range(len(bodies))])
            for name in ("mass", "inertia_scale", "second_moment")
        )
        masses = np.array([body.mass for body in bodies])
        columns = [np.where(masses > 0.0, of_mass, -1), scale, moment]
        per_mass = 1.0 / np.where(masses > 0.0, masses, 1.0)
        constant = np.array([body.inertia for body in bodies])
        numbers = wp.array(per_mass, dtype=self._scalar, device=self._program.device)
        dtype = self._types.mat33
        return self._rows(kernels.spread_inertias, constant, dtype, columns, [numbers])

    def _first(self, key: tuple[str, int]) -> int:
        return self._columns.start.get(key, -1)

    def _rows(
        self,
        kernel: wp.Kernel,
        constant: np.ndarray,
        dtype: Any,
        columns: Sequence[Any],
        more: Sequence[wp.array] = (),
    ) -> wp.array:
        program, shape = self._program, (self._num_envs, len(constant))
        varies = any(np.any(np.asarray(column) >= 0) for column in columns)
        rows = program.array(shape, dtype, requires_grad=varies, shared=True)
        if not varies:
            rows.assign(np.broadcast_to(constant, (self._num_envs, *constant.shape)))
            return rows
        indices = [
            wp.array(np.asarray(column, dtype=np.int32), dtype=wp.int32, device=program.device)
            for column in columns
        ]
        model = wp.array(constant, dtype=dtype, device=program.device)
        inputs = [model, *more, *indices, self._parameters, rows]
        program.launch(kernel, shape, inputs, repeated=True)
        return rows
