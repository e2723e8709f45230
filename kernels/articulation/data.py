"""What the articulation kernels read and write: a robot's constants, a run's intermediates."""

from functools import cache
from typing import Any

import warp as wp

from kernels.precision import precision_of

FIXED = wp.constant(0)
REVOLUTE = wp.constant(1)
PRISMATIC = wp.constant(2)
SPHERICAL = wp.constant(3)
FREE = wp.constant(4)

BALL = wp.constant(0)
ELLIPSOID = wp.constant(1)
RIM = wp.constant(2)


@cache
def model_type(scalar: type) -> Any:
    """The struct of a robot's constants, on one scalar type.

    Bodies are in topological order. Quaternions are (x, y, z, w). `slot` numbers the articulated
    inertias: one per axis that is eliminated, at least one per body. What can vary has rows:
    environment `env` reads row `env * stride`, with a stride of 0 where all share one.
    """
    types = precision_of(scalar)

    class Model:
        num_bodies: wp.int32
        num_coordinates: wp.int32
        num_dofs: wp.int32
        num_contacts: wp.int32
        stride: wp.int32
        implicit_damping: scalar  # 1 where the joints' damping acts at the velocity after a substep
        gravity: wp.array2d(dtype=types.vec3)  # [rows, 1], m/s^2
        # per body, and one end entry for the three starts
        parent: wp.array(dtype=wp.int32)  # -1: the world
        joint_kind: wp.array(dtype=wp.int32)
        q_start: wp.array(dtype=wp.int32)
        qd_start: wp.array(dtype=wp.int32)
        slot: wp.array(dtype=wp.int32)
        parent_position: wp.array(dtype=types.vec3)  # the joint's anchor in the parent's frame [m]
        child_position: wp.array(dtype=types.vec3)  # the same in the body's frame [m]
        child_rotation: wp.array(dtype=types.quat)  # joint frame in the body's frame
        rest_rotation: wp.array(dtype=types.quat)  # body in the parent's frame at coordinate zero
        axis: wp.array(dtype=types.vec3)  # unit, in the body's frame
        # the same, with rows
        mass: wp.array2d(dtype=scalar)  # [kg]
        com: wp.array2d(dtype=types.vec3)  # in the body's frame [m]
        inertia: wp.array2d(dtype=types.mat33)  # about com, body axes [kg m^2]
        # per degree of freedom, with rows
        armature: wp.array2d(dtype=scalar)  # [kg m^2] or [kg]
        damping: wp.array2d(dtype=scalar)  # limit damping included, it always acts
        stiffness: wp.array2d(dtype=scalar)
        rest: wp.array2d(dtype=scalar)
        limit_ke: wp.array2d(dtype=scalar)
        servo_kp: wp.array2d(dtype=scalar)
        servo_kd: wp.array2d(dtype=scalar)
        servo_least: wp.array2d(dtype=scalar)
        servo_most: wp.array2d(dtype=scalar)
        # per degree of freedom
        coordinate: wp.array(dtype=wp.int32)  # index in joint_q of a hinge or slide, else -1
        lower: wp.array(dtype=scalar)
        upper: wp.array(dtype=scalar)
        moves: wp.array2d(dtype=wp.int32)  # (num_dofs, num_bodies): 1 where the dof moves the body
        # per contact point, and the ground's material
        contact_body: wp.array(dtype=wp.int32)
        contact_kind: wp.array(dtype=wp.int32)
        contact_position: wp.array(dtype=types.vec3)  # in the body's frame [m]
        contact_radius: wp.array(dtype=scalar)  # [m]
        contact_frame: wp.array(dtype=types.mat33)  # see `kernels.articulation.contact.reach`
        contact_material: wp.array2d(dtype=scalar)  # [rows, 4], ke, kd, kf and mu
        # what carries bodies against gravity
        num_lifts: wp.int32
        lift_body: wp.array(dtype=wp.int32)
        lift_position: wp.array(dtype=types.vec3)  # in the body's frame [m]
        lift_mass: wp.array(dtype=scalar)  # whose weight is taken off [kg]
        # drag, see `warp_envs.usd.passive`
        num_drags: wp.int32
        drag_body: wp.array(dtype=wp.int32)
        drag_position: wp.array(dtype=types.vec3)  # in the body's frame [m]
        drag_axes: wp.array(dtype=types.mat33)  # as columns, in the body's frame
        drag_linear: wp.array(dtype=scalar)
        drag_angular: wp.array(dtype=scalar)
        drag_linear_square: wp.array(dtype=types.vec3)
        drag_angular_square: wp.array(dtype=types.vec3)
        drag_wind: wp.array(dtype=types.vec3)  # [m/s]
        # couplings of joints, see `warp_envs.usd.passive`
        num_couplings: wp.int32
        coupling_start: wp.array(dtype=wp.int32)  # [couplings + 1], in the two arrays below
        coupling_dof: wp.array(dtype=wp.int32)
        coupling_weight: wp.array(dtype=scalar)
        coupling_stiffness: wp.array(dtype=scalar)
        coupling_damping: wp.array(dtype=scalar)
        coupling_low: wp.array(dtype=scalar)
        coupling_high: wp.array(dtype=scalar)
        # cords from point to point, see `warp_envs.usd.passive`
        num_cords: wp.int32
        cord_start: wp.array(dtype=wp.int32)  # [cords + 1], in the three arrays below
        cord_body: wp.array(dtype=wp.int32)  # -1: the world
        cord_position: wp.array(dtype=types.vec3)  # in the body's frame [m]
        cord_weight: wp.array(dtype=scalar)  # of the piece from a point to the next
        cord_stiffness: wp.array(dtype=scalar)
        cord_damping: wp.array(dtype=scalar)
        cord_low: wp.array(dtype=scalar)
        cord_high: wp.array(dtype=scalar)
        # the ground: a plane, unless a grid has rows
        ground_plane: types.vec3  # height at x = y = 0 [m], slopes along x and y
        ground_rows: wp.int32  # of the grid, along x
        ground_columns: wp.int32
        ground_corner: types.vec3  # x and y of its first point [m]
        ground_cell: types.vec3  # edges of a cell along x and y [m]
        ground: wp.array2d(dtype=types.vec3)  # height [m] and slopes at its points

    return _struct(Model, scalar)


@cache
def scratch_type(scalar: type) -> Any:
    """The struct of what one run computes, on one scalar type.

    Indices are (environment, substep, item). Vectors and inertias are spatial, in world-aligned
    axes about the root's centre of mass. Every element is written once or completed before it is
    read, so the arrays hold what the adjoint needs.
    """
    types = precision_of(scalar)

    class Scratch:
        joint_q: wp.array3d(dtype=scalar)  # substeps + 1
        joint_qd: wp.array3d(dtype=scalar)  # substeps + 1
        # per body
        orientation: wp.array3d(dtype=types.quat)
        rotation: wp.array3d(dtype=types.mat33)
        origin: wp.array3d(dtype=types.vec3)  # the tree's origin in the world [m]
        position: wp.array3d(dtype=types.vec3)  # body frame relative to the origin [m]
        velocity: wp.array3d(dtype=types.vec6)
        velocity_product: wp.array3d(dtype=types.vec6)  # c
        # per slot
        inertia: wp.array3d(dtype=types.mat66)  # I
        bias_force: wp.array3d(dtype=types.vec6)  # p
        # per degree of freedom
        axis: wp.array3d(dtype=types.vec6)  # s
        joint_force: wp.array3d(dtype=scalar)  # tau
        axis_force: wp.array3d(dtype=types.vec6)  # U
        axis_inertia: wp.array3d(dtype=scalar)  # d
        free_force: wp.array3d(dtype=scalar)  # u
        joint_qdd: wp.array3d(dtype=scalar)
        # per coupling, then per cord
        stretch: wp.array3d(dtype=scalar)
        stretch_rate: wp.array3d(dtype=scalar)
        # per degree of freedom and body: before each axis, and after the joint's last
        acceleration: wp.array3d(dtype=types.vec6)  # a, less gravity

    return _struct(Scratch, scalar)


def _struct(template: type, scalar: type) -> Any:
    template.__name__ = template.__qualname__ = f"{template.__name__}_{scalar.__name__}"
    return wp.struct(template)
