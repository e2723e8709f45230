"""The compiled kernels: precision, SIMD lanes, ragged batches, states that are not finite."""

import os
import subprocess
import sys

import numpy as np
import pytest
import torch
import warp as wp

from kernels.compiled.cpp import trail_width
from kernels.compiled.kernel import step_kernel
from kernels.compiled.step_equations import StepEquations
from tests.gpu_device import DEVICE
from tests.kernels.articulation import robots
from tests.kernels.articulation.control_steps import (
    CONTROL_STEP,
    program,
    random_inputs,
    values_and_gradients,
    worst,
)
from warp_envs.articulation.compiled import mechanism_of
from warp_envs.usd.description import Body, ContactMaterial, Joint, RobotDescription

SUBSTEPS = 4


def hopping_pendulum():
    """A small robot with everything: a free base with a hinged leg that touches the ground."""
    base, leg = Joint("root"), Joint(
        "knee", kind="revolute", axis=np.array([0.0, 1.0, 0.0]),
        parent_position=np.array([0.1, 0.0, -0.1]),
        lower=-0.1, upper=0.1, limit_ke=30.0, limit_kd=0.2, damping=0.1, armature=0.01,
    )  # fmt: skip
    return RobotDescription(
        "hopping_pendulum",
        "",
        (
            robots.body("base", -1, base, [robots.capsule([0, 0, 0], [0.1, 0.2, 0.1], 0.1)]),
            robots.body("leg", 0, leg, [robots.capsule([0, 0, 0], [0.0, 0.1, -0.4], 0.05)]),
        ),
        contact=ContactMaterial(ke=2e3, kd=1e3, kf=1e2, mu=0.6),
    )


ROBOT = hopping_pendulum()


def states(num_envs, dtype=torch.float64):
    """Inputs and seeds, the bases at heights where some touch the ground."""
    inputs, seeds = random_inputs(ROBOT, num_envs, seed=5)
    inputs[0][:, 2] = torch.linspace(0.13, 0.8, num_envs, dtype=torch.float64)
    return [x.to(dtype) for x in inputs], [x.to(dtype) for x in seeds]


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_any_number_of_lanes_computes_the_same(dtype):
    inputs, seeds = states(11)
    plain = program(ROBOT, 11, torch.float64, SUBSTEPS, plain=True)
    expected = values_and_gradients(plain, inputs, seeds)
    tolerance = 1e-12 if dtype == torch.float64 else 1e-5
    inputs, seeds = states(11, dtype)
    for lanes in (None, 2, 8) if dtype == torch.float64 else (None, 4, 16):
        compiled = program(ROBOT, 11, dtype, SUBSTEPS, lanes=lanes)
        found = values_and_gradients(compiled, inputs, seeds)
        assert worst(found, expected) < tolerance


@pytest.mark.parametrize("num_envs", [1, 16, 17, 40])
def test_a_batch_of_any_size_computes_each_environment_alike(num_envs):
    inputs, seeds = states(40, torch.float32)
    whole = values_and_gradients(program(ROBOT, 40, torch.float32, SUBSTEPS), inputs, seeds)
    part = [x[:num_envs] for x in inputs], [x[:num_envs] for x in seeds]
    compiled = program(ROBOT, num_envs, torch.float32, SUBSTEPS, num_blocks=2)
    for a, b in zip(values_and_gradients(compiled, *part), whole, strict=True):
        assert torch.equal(a, b[:num_envs])


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 1e38])
def test_a_state_that_is_not_finite_stays_in_its_environment(bad):
    inputs, seeds = states(20, torch.float32)
    compiled = program(ROBOT, 20, torch.float32, SUBSTEPS)
    expected = values_and_gradients(compiled, inputs, seeds)
    for k in range(3):
        spoiled = [x.clone() for x in inputs]
        spoiled[k][3] = bad
        found = values_and_gradients(compiled, spoiled, seeds)
        assert not all(torch.isfinite(x[3]).all() for x in found)
        others = torch.arange(20) != 3
        for a, b in zip(found, expected, strict=True):
            assert torch.equal(a[others], b[others])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_sine_and_cosine_are_good_to_ten_thousand_radians(dtype):
    # a body's weight on a hinge along y, whose centre of mass is at unit distance along x:
    # qdd = 9.81 cos(q) / (1 + 1); two hinges a quarter turn apart try sine and cosine
    arm = {"mass": 1.0, "inertia": np.eye(3)}
    hinge = {"kind": "revolute", "axis": [0.0, 1.0, 0.0]}
    pair = RobotDescription(
        "arms",
        "",
        (
            Body("x", "/x", -1, Joint("x", **hinge), com=np.array([1.0, 0.0, 0.0]), **arm),
            Body("z", "/z", -1, Joint("z", **hinge), com=np.array([0.0, 0.0, 1.0]), **arm),
        ),
    )
    rng = np.random.default_rng(0)
    angles = torch.tensor(rng.uniform(-1.0, 1.0, (4096, 2)) * 10.0 ** rng.uniform(-3, 4, (4096, 1)))
    angles = angles.to(dtype)
    none = torch.zeros_like(angles)
    _, qd = program(pair, 4096, dtype, 1)(angles, none, none)
    found = qd.double() / CONTROL_STEP / (0.5 * 9.81)
    exact = torch.stack([torch.cos(angles[:, 0].double()), torch.sin(angles[:, 1].double())], dim=1)
    assert (found - exact).abs().max() < (5e-7 if dtype == torch.float32 else 1e-15)


def test_one_robot_traced_twice_is_one_kernel():
    kernels = [
        step_kernel(StepEquations(mechanism_of(hopping_pendulum())), wp.float32) for _ in "12"
    ]
    assert kernels[0] is kernels[1]


NAMES_A_PENDULUM = """
import numpy as np, warp as wp
from kernels.compiled.mechanism import Link, Mechanism
from kernels.compiled.kernel import step_kernel
from kernels.compiled.step_equations import StepEquations

names = ["armature", "damping", "stiffness", "rest", "lower", "upper", "limit_ke"]
link = Link(
    kind="spherical", parent=-1, anchor=np.zeros(3), frame=np.eye(3), axis=np.eye(3)[2], mass=1.0,
    com=np.ones(3), inertia=np.diag([1.0, 2.0, 3.0]), offset=np.zeros(3), contacts=(),
    **dict.fromkeys(names, 0.1),
)
equations = StepEquations(Mechanism((link,), np.array([0.0, 0.0, -9.81]), None))
name = step_kernel(equations, wp.float32).module.name
"""


def test_the_source_is_the_same_in_every_process():
    # so that Warp finds a robot compiled by another process
    here = {}
    exec(NAMES_A_PENDULUM, here)
    path = os.pathsep.join(filter(None, sys.path))
    there = subprocess.run(
        [sys.executable, "-c", NAMES_A_PENDULUM + "print(name)"],
        env={**os.environ, "PYTHONHASHSEED": "7", "PYTHONPATH": path},
        capture_output=True, text=True, check=True,
    ).stdout.splitlines()[-1]  # fmt: skip
    assert there == here["name"]


def test_robots_and_precisions_share_a_process():
    cases = [
        (r, d) for r in (robots.floating_robot(), ROBOT) for d in (torch.float32, torch.float64)
    ]
    functions = [program(robot, 3, dtype, 1) for robot, dtype in cases]
    for (robot, dtype), function in zip(cases, functions, strict=True):
        inputs, seeds = random_inputs(robot, 3, seed=2)
        plain = program(robot, 3, torch.float64, 1, plain=True)
        expected = values_and_gradients(plain, inputs, seeds)
        inputs, seeds = ([x.to(dtype) for x in part] for part in (inputs, seeds))
        found = values_and_gradients(function, inputs, seeds)
        assert worst(found, expected) < (1e-5 if dtype == torch.float32 else 1e-11)


def test_a_gradient_adds_to_what_is_there_and_may_be_unwanted():
    kernel = step_kernel(StepEquations(mechanism_of(ROBOT)), wp.float64)
    inputs, seeds = states(3)
    q, qd, f = (wp.from_torch(x) for x in inputs)
    scratch = wp.zeros((3, trail_width(ROBOT.nq, ROBOT.nv, 2)), dtype=wp.float64, device="cpu")
    outputs = [wp.zeros_like(q), wp.zeros_like(qd)]
    ground = wp.zeros(1, dtype=wp.float64, device="cpu")
    arguments = [wp.float64(0.01), 2, q, qd, f, scratch, *outputs, ground]
    wp.launch(kernel, 3, inputs=arguments, device="cpu")

    def force_gradient(start):
        gradient = wp.full(shape=f.shape, value=start, dtype=wp.float64, device="cpu")
        adjoints = [0.0, 0, None, None, gradient, None, wp.from_torch(seeds[0]), None, None]
        wp.launch(kernel, 3, inputs=arguments, adj_inputs=adjoints, adjoint=True, device="cpu")
        return gradient.numpy()

    assert np.abs(force_gradient(0.0)).max() > 0.0
    np.testing.assert_allclose(force_gradient(2.0), force_gradient(0.0) + 2.0, rtol=1e-12)


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_gpu_computes_the_same(dtype):
    inputs, seeds = states(100)
    expected = values_and_gradients(program(ROBOT, 100, torch.float64, SUBSTEPS), inputs, seeds)
    on_gpu = [[x.to(DEVICE, dtype) for x in part] for part in (inputs, seeds)]
    compiled = program(ROBOT, 100, dtype, SUBSTEPS, device=DEVICE)
    found = [x.cpu() for x in values_and_gradients(compiled, *on_gpu)]
    assert worst(found, expected) < (1e-5 if dtype == torch.float32 else 1e-11)
