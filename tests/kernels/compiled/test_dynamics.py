"""The traced equations, run by numpy, against the plain kernels and finite differences."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kernels.compiled.mechanism import rank_one_terms
from kernels.compiled.step_equations import StepEquations
from kernels.compiled.tracer import Op, live
from tests.kernels.articulation import robots
from tests.kernels.articulation.control_steps import (
    by_numpy,
    program,
    random_inputs,
    values_and_gradients,
    worst,
)
from warp_envs.articulation.compiled import mechanism_of
from warp_envs.usd.description import ContactMaterial, Shape

KINDS = ["revolute", "prismatic", "spherical", "fixed"]


@st.composite
def trees(draw):
    """A random forest with something that moves; free joints on roots only."""
    count = draw(st.integers(1, 5))
    parents = [draw(st.integers(-1, i - 1)) for i in range(count)]
    kinds = [draw(st.sampled_from(KINDS + ["free"] * (p < 0))) for p in parents]
    if set(kinds) == {"fixed"}:
        kinds[-1] = "revolute"
    return robots.random_robot(kinds, parents, seed=draw(st.integers(0, 9999)))


def touching(description, seed):
    """The robot on soft ground: a sphere, a capsule or a box on each body, springs and limits."""
    rng = np.random.default_rng(seed)
    shapes = [
        Shape("sphere", rng.normal(size=3) * 0.2, radius=0.3),
        Shape("capsule", rng.normal(size=3) * 0.2, radius=0.2, half_length=0.4),
        Shape("box", rng.normal(size=3) * 0.2, half_extents=np.array([0.2, 0.3, 0.4])),
    ]
    bodies = [
        replace(
            body,
            shapes=(shapes[i % 3],),
            joint=replace(
                body.joint, damping=0.3, stiffness=2.0, rest=0.1, lower=-0.2, upper=0.15,
                limit_ke=30.0, limit_kd=0.2,
            ),
        )
        for i, body in enumerate(description.bodies)
    ]  # fmt: skip
    material = ContactMaterial(ke=200.0, kd=100.0, kf=20.0, mu=0.7)
    return replace(description, bodies=tuple(bodies), contact=material)


@given(trees(), st.integers(0, 9999))
@settings(max_examples=15, deadline=None)
def test_random_trees_step_and_differentiate_as_the_plain_kernels_do(description, seed):
    for robot in (description, touching(description, seed)):
        inputs, seeds = random_inputs(robot, 3, seed)
        plain = program(robot, 3, torch.float64, substeps=2, plain=True)
        expected = values_and_gradients(plain, inputs, seeds)
        assert worst(by_numpy(robot, inputs, seeds, substeps=2), expected) < 1e-9


@pytest.mark.parametrize("name", ["ball_robot", "skew_robot", "floating_robot", "ant", "hopper"])
def test_gradients_are_finite_differences(name):
    robot = getattr(robots, name)()
    inputs, seeds = random_inputs(robot, 4, seed=7)
    if name == "ant":  # from deep in the ground to above it
        inputs[0][:, 2] = torch.linspace(0.2, 0.8, 4, dtype=torch.float64)
    found = by_numpy(robot, inputs, seeds, substeps=3)
    rng = np.random.default_rng(8)
    directions = [torch.tensor(rng.normal(size=gradient.shape)) for gradient in found[2:]]
    moves = [(k, step) for k in range(len(directions)) for step in (1e-6, -1e-6)]
    moved = [
        torch.cat([x + step * directions[k] if i == k else x for k, step in moves])
        for i, x in enumerate(inputs)
    ]
    seeds = [seed.repeat(len(moves), 1) for seed in seeds]
    outputs = by_numpy(robot, moved, seeds, substeps=3)[:2]
    products = sum((a * b).sum(1) for a, b in zip(outputs, seeds, strict=True))
    ends = products.view(len(directions), 2, 4)
    for gradient, direction, (after, before) in zip(found[2:], directions, ends, strict=True):
        numeric = (after - before) / 2e-6
        torch.testing.assert_close((gradient * direction).sum(1), numeric, rtol=2e-6, atol=2e-6)


def test_quaternions_of_any_length_are_turned_to_unit_ones():
    robot = robots.floating_robot()
    inputs, seeds = random_inputs(robot, 3, seed=0)
    inputs[0][:, 3:7] *= 1.3  # of the base
    inputs[0][:, 7:11] *= 0.6  # of the ball joint
    plain = program(robot, 3, torch.float64, substeps=2, plain=True)
    expected = values_and_gradients(plain, inputs, seeds)
    assert worst(by_numpy(robot, inputs, seeds, substeps=2), expected) < 1e-9


def test_a_resting_point_above_the_ground_has_no_friction_to_differentiate():
    robot = robots.ant()
    inputs, seeds = random_inputs(robot, 1, seed=0)
    inputs[0][:] = torch.tensor([0.0, 0.0, 5.0, 0.0, 0.0, 0.0, 1.0, *[0.0, 0.7] * 4])
    inputs[1][:] = 0.0
    found = by_numpy(robot, inputs, seeds, substeps=1)
    expected = by_numpy(replace(robot, contact=None), inputs, seeds, substeps=1)
    assert worst(found, expected) == 0.0


def test_nothing_depends_on_where_the_robot_stands():
    robot = robots.ant()
    inputs, seeds = random_inputs(robot, 2, seed=1)
    near = by_numpy(robot, inputs, seeds, substeps=2)
    inputs[0][:, :2] += 1e6
    far = by_numpy(robot, inputs, seeds, substeps=2)
    far[0][:, :2] -= 1e6
    torch.testing.assert_close(far[0], near[0], rtol=0.0, atol=1e-9)
    for a, b in zip(far[1:], near[1:], strict=True):
        assert torch.equal(a, b)


def test_zeros_fold_away():
    def operations(name):
        equations = StepEquations(mechanism_of(getattr(robots, name)()))
        blocks = (
            equations.substep,
            equations.substep_solve_reverse,
            equations.substep_reverse,
        )
        return [sum(bool(node.operands) for _, node in live(block.values)) for block in blocks]

    # planar though written in three dimensions; the ant's count guards its speed
    for name, most in (("hopper", (750, 330, 1150)), ("ant", (4600, 2300, 7700))):
        for count, bound in zip(operations(name), most, strict=True):
            assert count <= bound


def most_waiting(values):
    """How many computed numbers wait for use at most: what registers would have to hold."""
    nodes = live(values)
    uses = Counter(operand for _, node in nodes for operand in node.operands)
    uses.update(value.index for value in values)
    computed = {index for index, node in nodes if node.op not in (Op.CONSTANT, Op.INPUT)}
    waiting = most = 0
    for index, node in nodes:
        waiting += index in computed
        most = max(most, waiting)
        for operand in node.operands:
            uses[operand] -= 1
            waiting -= operand in computed and uses[operand] == 0
    return most


def test_limb_by_limb_few_numbers_wait():
    # a GPU's thread has 255 registers, and this what overflows them
    equations = StepEquations(mechanism_of(robots.ant()))
    for block, most in (
        (equations.substep, 200),
        (equations.substep_solve_reverse, 170),
        (equations.substep_reverse, 360),
    ):
        values = block.limb_by_limb
        assert most_waiting(values) < min(most, most_waiting(block.values))


@given(st.integers(0, 9999), st.sampled_from([0, 1, 2]))
@settings(deadline=None)
def test_an_inertia_is_its_rank_one_terms(seed, num_terms):
    rng = np.random.default_rng(seed)
    axes, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    values = rng.uniform(0.1, 2.0, 3)
    values[num_terms:] = values[0]
    if num_terms:
        values[:num_terms] += np.arange(num_terms) + 1.0
        values[num_terms:] = 0.1
    inertia = axes @ np.diag(values) @ axes.T
    k, terms = rank_one_terms(inertia)
    assert len(terms) == num_terms
    rebuilt = k * np.eye(3) + sum((b * np.outer(n, n) for b, n in terms), np.zeros((3, 3)))
    np.testing.assert_allclose(rebuilt, inertia, atol=1e-9)
