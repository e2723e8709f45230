"""Physical parameters that vary: against robots with those constants, MuJoCo and differences."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kernels.compiled.cpp import forward_source, reverse_source
from tests.kernels.articulation import robots
from tests.kernels.articulation.control_steps import (
    by_numpy,
    program,
    random_inputs,
    values_and_gradients,
    worst,
)
from tests.kernels.articulation.mujoco_reference import MujocoReference
from tests.kernels.compiled.test_cpp import hopping_pendulum
from tests.kernels.compiled.test_dynamics import touching
from tests.warp_envs.articulation.varied import changed, everything, scattered
from warp_envs.articulation.articulation import Articulation
from warp_envs.articulation.columns import NOTHING
from warp_envs.articulation.compiled import equations_of
from warp_envs.articulation.log_cholesky import log_cholesky_of, numbers_of_log_cholesky
from warp_envs.checks import ArgumentError

ROBOTS = ["ball_robot", "skew_robot", "floating_robot", "ant", "hopper"]


def welded_to(description, kind):
    """Every body with a body of its own welded to it, so that links are of two."""
    bodies = list(description.bodies)
    for i in range(len(description.bodies)):
        weld = robots._random_joint(np.random.default_rng(i), f"weld{i}", "fixed")
        bodies.append(robots._random_body(np.random.default_rng(i), f"load{i}", i, weld))
    return replace(description, bodies=tuple(bodies), name=kind)


def case(name):
    description = getattr(robots, name)()
    if name == "skew_robot":
        description = welded_to(description, name)
    description = description if description.contact else touching(description, seed=3)
    inputs, seeds = random_inputs(description, 3, seed=7)
    if name == "ant":  # from deep in the ground to above it
        inputs[0][:, 2] = torch.linspace(0.2, 0.8, 3, dtype=torch.float64)
    return description, inputs, seeds


@pytest.mark.parametrize("name", [*ROBOTS[:3], "hopper"])
def test_each_environment_is_the_robot_with_its_constants(name):
    description, inputs, seeds = case(name)
    names = everything(description)
    values, rows = scattered(description, names, 3, seed=0)
    found = by_numpy(description, [*inputs, rows], seeds, 2, tuple(names))[:5]
    for env in range(3):
        alone = [[x[env : env + 1] for x in part] for part in (inputs, seeds)]
        expected = by_numpy(changed(description, values, env), *alone, 2)
        assert worst([x[env : env + 1] for x in found], expected) < 1e-11


@pytest.mark.parametrize("name", ROBOTS)
def test_gradients_in_everything_that_varies_are_finite_differences(name):
    description, inputs, seeds = case(name)
    names = everything(description)
    _, rows = scattered(description, names, 3, seed=0)
    gradient = by_numpy(description, [*inputs, rows], seeds, 3, tuple(names))[5]
    rng = np.random.default_rng(8)
    direction = torch.tensor(rng.normal(size=rows.shape)) * rows.abs().clamp(min=0.01)
    moved = [x.repeat(2, 1) for x in inputs]
    moved.append(torch.cat([rows + 1e-6 * direction, rows - 1e-6 * direction]))
    seeds = [seed.repeat(2, 1) for seed in seeds]
    outputs = by_numpy(description, moved, seeds, 3, tuple(names))[:2]
    after, before = sum((a * b).sum(1) for a, b in zip(outputs, seeds, strict=True)).split(3)
    numeric = (after - before) / 2e-6
    torch.testing.assert_close((gradient * direction).sum(1), numeric, rtol=2e-6, atol=2e-6)


def test_compiled_and_plain_kernels_agree_in_all_that_varies():
    description = hopping_pendulum()
    names = (*everything(description, without=("mass", "com", "inertia_scale")),)
    inputs, seeds = random_inputs(description, 19, seed=5)
    inputs[0][:, 2] = torch.linspace(0.13, 0.8, 19, dtype=torch.float64)
    _, rows = scattered(description, names, 19, seed=1)
    plain = program(description, 19, torch.float64, 4, plain=True, varied=names, num_blocks=2)
    expected = values_and_gradients(plain, [*inputs, rows], seeds)
    compiled = program(description, 19, torch.float64, 4, varied=names)
    assert worst(values_and_gradients(compiled, [*inputs, rows], seeds), expected) < 1e-11


def test_a_robot_of_which_nothing_varies_has_the_kernel_it_always_had():
    description = hopping_pendulum()
    names = [forward_source, reverse_source]
    plain = [name(equations_of(description), "float", None) for name in names]
    assert plain == [name(equations_of(description, NOTHING), "float", None) for name in names]
    varied = Articulation(description, 1, parameters=["friction"]).columns
    for source, name in zip(plain, names, strict=True):
        assert "parameters" not in source and "_p[" not in source
        assert "parameters" in name(equations_of(description, varied), "float", None)


@pytest.mark.parametrize("name", ["ball_robot", "floating_robot", "hopper"])
def test_changed_bodies_move_as_mujoco_moves_them(name):
    description = getattr(robots, name)()
    kinds = ("gravity", "mass", "com", "inertia_scale", "armature")
    free = {body.joint.name for body in description.bodies if body.joint.kind == "free"}
    names = [name for name in everything(description) if name.split(".")[-1] in kinds]
    # MuJoCo adds a free joint's armature in other axes
    names = [name for name in names if name.split(".")[0] not in free or "armature" not in name]
    values, _ = scattered(description, names, 6, seed=2)
    robot = Articulation(description, 6, dtype=torch.float64, parameters=names)
    robot.set_parameters(values)
    rng = np.random.default_rng(0)
    states = [robots.random_state(description, rng) for _ in range(6)]
    q, qd = (torch.tensor(np.array([state[k] for state in states])) for k in (0, 1))
    f = torch.tensor(rng.normal(size=qd.shape) * 10.0)
    qdd, matrix = robot.forward_dynamics(q, qd, f), robot.mass_matrix(q)
    for env, state in enumerate(states):
        reference = MujocoReference(changed(description, values, env))
        reference.set_state(*state)
        expected = reference.acceleration(f[env].numpy())
        np.testing.assert_allclose(qdd[env], expected, rtol=1e-6, atol=1e-6)
        np.testing.assert_allclose(matrix[env], reference.mass_matrix(), rtol=1e-6, atol=1e-9)


def test_forward_dynamics_are_differentiable_in_what_was_set():
    robot = Articulation(hopping_pendulum(), 2, dtype=torch.float64, parameters=["leg.mass"])
    (q, qd, f), _ = random_inputs(hopping_pendulum(), 2, seed=3)

    def qdd(mass):
        robot.set_parameters({"leg.mass": mass})
        return robot.forward_dynamics(q, qd, f).sum()

    mass = torch.tensor([1.0, 2.0], dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad(qdd(mass), mass)
    h = torch.tensor([1e-5, 0.0], dtype=torch.float64)
    numeric = (qdd(mass.detach() + h) - qdd(mass.detach() - h)) / 2e-5
    assert gradient[0].item() == pytest.approx(numeric.item(), rel=1e-7)


@given(st.integers(0, 9999))
@settings(max_examples=30, deadline=None)
def test_any_ten_numbers_are_a_body_that_could_exist(seed):
    theta = np.random.default_rng(seed).normal(size=10)
    mass, *numbers = numbers_of_log_cholesky(torch.tensor(theta[None]))[0].tolist()
    root = np.zeros((3, 3))
    root[np.triu_indices(3)] = numbers[3:]
    moment = root @ root.T
    inertia = np.trace(moment) * np.eye(3) - moment
    principal = np.linalg.eigvalsh(inertia)
    assert mass > 0.0 and principal[2] <= principal[0] + principal[1]
    back = log_cholesky_of(mass, np.array(numbers[:3]), inertia)
    if back is not None:  # a body as thin as rounding has none
        np.testing.assert_allclose(back, theta, rtol=1e-4, atol=1e-4)


def test_log_cholesky_by_default_is_the_body_as_described():
    description = robots.hopper()
    robot = Articulation(description, 2, dtype=torch.float64, parameters=["log_cholesky"])
    constant = Articulation(description, 2, dtype=torch.float64)
    (q, qd, f), _ = random_inputs(description, 2, seed=1)
    torch.testing.assert_close(
        robot.forward_dynamics(q, qd, f), constant.forward_dynamics(q, qd, f)
    )
    # the inertia of the paper's Ant is none that a body can have
    known = Articulation(robots.ant_dflex(), 1).parameters()
    assert "upper1.log_cholesky" not in known and "upper1.inertia_scale" in known


def test_parameters_are_listed_with_shape_unit_default_and_range():
    known = Articulation(robots.hopper(), 4, parameters=["damping", "torso.com"]).parameters()
    torso, damping = known["torso.com"], known["damping"]
    assert (torso.shape, torso.unit, torso.varies) == ((3,), "m", True)
    assert damping.range == "[0, inf)" and known["thigh.damping"].unit == damping.unit
    # of all joints but those by which the base moves
    np.testing.assert_array_equal(damping.default, [2.0, 2.0, 2.0])
    assert known["x.damping"].default == 0.0 and not known["x.damping"].varies
    # of all bodies but those that only part coordinates
    assert known["mass"].shape == (4,) and known["slide_x.mass"].range == "(0, inf)"


@pytest.mark.parametrize(
    ("names", "said"),
    [
        ("friction", "a list of any of"),
        (["fricton"], "did you mean 'friction'"),
        (["*.weight"], "'\\*.weight' given, any of"),
        (["mass", "torso.mass"], "mass and torso.mass given, each number once"),
        (["torso.log_cholesky", "torso.inertia_scale"], "each number once"),
        (["torso.log_cholesky", "com"], "each number once"),
    ],
)
def test_names_that_cannot_vary_are_refused(names, said):
    with pytest.raises(ArgumentError, match=f"parameters: .*{said}"):
        Articulation(robots.hopper(), 1, parameters=names)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"torso.mass": 0.0}, r"parameters\['torso.mass'\]: 0.0 given, numbers in \(0, inf\)"),
        ({"friction": float("nan")}, "nan given"),
        ({"friction": torch.ones(3)}, r"shape \(3,\) given, one that broadcasts to \(2,\)"),
        ({"friction": torch.ones(2, dtype=torch.float64)}, "torch.float64 on cpu given"),
        ({"friction": "much"}, "'much' given, numbers or a tensor"),
        ({"thigh.damping": 1.0}, "which does not vary here"),
        ({"torso.mas": 1.0}, "did you mean 'torso.mass'"),
    ],
)
def test_values_that_do_not_fit_are_refused_and_nothing_is_set(values, said):
    robot = Articulation(robots.hopper(), 2, parameters=["torso.mass", "friction"])
    before = robot.varied.flat()
    with pytest.raises(ArgumentError, match=said):
        robot.set_parameters({"friction": 0.3, **values})
    assert torch.equal(robot.varied.flat(), before)


def test_a_pattern_stands_for_each_that_it_matches():
    robot = Articulation(robots.ant(), 1, parameters=["hip*.damping", "lower?.mass"])
    assert list(robot.varied.values()) == [
        *(f"hip{leg}.damping" for leg in range(1, 5)),
        *(f"lower{leg}.mass" for leg in range(1, 5)),
    ]
