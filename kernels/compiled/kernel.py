"""The Warp kernel of a robot's control step, around the C++ of its equations."""

import hashlib
from collections.abc import Callable
from functools import cache

import warp as wp

from kernels.compiled.cpp import forward_source, reverse_source
from kernels.compiled.step_equations import StepEquations


def step_kernel(equations: StepEquations, scalar: type, lanes: int | None = None) -> wp.Kernel:
    """The kernel of a control step under constant joint forces, to be launched over environments.

    Its arguments: the substep's length [s], a `scalar`; the number of substeps; joint_q (num_envs,
    nq), joint_qd and joint_f (num_envs, nv); scratch (num_envs, `trail_width`), without gradient;
    next_joint_q, next_joint_qd; ground, the numbers of a height field or none; where anything
    varies, parameters (num_envs, count). All arrays are contiguous.

    Args:
        equations: of the robot.
        scalar: wp.float32 or wp.float64.
        lanes: environments to a task on a CPU, a power of two up to `LANES`; None for as many as
            the processor's registers hold.
    """
    name = {wp.float32: "float", wp.float64: "double"}[scalar]
    make = _varied_kernel if equations.num_parameters else _kernel
    return make(
        forward_source(equations, name, lanes), reverse_source(equations, name, lanes), scalar
    )


def _native(stub: Callable[..., None], forward: str, reverse: str) -> wp.Function:
    """A function of Warp with the stub's parameters, in C++."""
    # Warp keeps native functions by name; a robot's own name keeps robots apart
    digest = hashlib.sha256((forward + reverse).encode()).hexdigest()[:16]
    stub.__name__ = stub.__qualname__ = f"control_step_{digest}"
    # the adjoint's own forward run has nothing to do: the scratch holds what it needs
    return wp.func_native(forward, reverse, replay_snippet=" ")(stub)


@cache
def _kernel(forward: str, reverse: str, scalar: type) -> wp.Kernel:
    rows = wp.array2d(dtype=scalar)

    def control_step(
        length: scalar,
        substeps: int,
        joint_q: rows,
        joint_qd: rows,
        joint_f: rows,
        scratch: rows,
        next_joint_q: rows,
        next_joint_qd: rows,
        ground: wp.array(dtype=scalar),
        env: int,
    ): ...

    step = _native(control_step, forward, reverse)

    @wp.kernel(module="unique")
    def compiled_control_step(
        length: scalar,
        substeps: int,
        joint_q: rows,
        joint_qd: rows,
        joint_f: rows,
        scratch: rows,
        next_joint_q: rows,
        next_joint_qd: rows,
        ground: wp.array(dtype=scalar),
    ):
        step(
            length,
            substeps,
            joint_q,
            joint_qd,
            joint_f,
            scratch,
            next_joint_q,
            next_joint_qd,
            ground,
            wp.tid(),
        )

    return compiled_control_step


@cache
def _varied_kernel(forward: str, reverse: str, scalar: type) -> wp.Kernel:
    """As `_kernel`, with what varies as another array."""
    rows = wp.array2d(dtype=scalar)

    def control_step(
        length: scalar,
        substeps: int,
        joint_q: rows,
        joint_qd: rows,
        joint_f: rows,
        scratch: rows,
        next_joint_q: rows,
        next_joint_qd: rows,
        ground: wp.array(dtype=scalar),
        parameters: rows,
        env: int,
    ): ...

    step = _native(control_step, forward, reverse)

    @wp.kernel(module="unique")
    def compiled_control_step(
        length: scalar,
        substeps: int,
        joint_q: rows,
        joint_qd: rows,
        joint_f: rows,
        scratch: rows,
        next_joint_q: rows,
        next_joint_qd: rows,
        ground: wp.array(dtype=scalar),
        parameters: rows,
    ):
        step(
            length,
            substeps,
            joint_q,
            joint_qd,
            joint_f,
            scratch,
            next_joint_q,
            next_joint_qd,
            ground,
            parameters,
            wp.tid(),
        )

    return compiled_control_step
