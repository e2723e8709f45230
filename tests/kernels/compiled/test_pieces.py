"""Long programs in pieces: the same numbers as in one, for any size of piece and batch."""

import platform
from dataclasses import replace

import numpy as np
import pytest
import torch

from kernels.compiled import cpp
from kernels.compiled.pieces import cut
from kernels.compiled.step_equations import StepEquations
from kernels.compiled.tracer import RULES, Op, evaluate
from tests.kernels.articulation.control_steps import (
    program,
    random_inputs,
    values_and_gradients,
    worst,
)
from tests.kernels.compiled.test_cpp import SUBSTEPS, hopping_pendulum
from warp_envs.articulation.compiled import mechanism_of


def run(pieces, num_slots, inputs, values):
    """The pieces one after the other, by numpy, with nothing between them but the slots."""
    slots = [np.nan] * num_slots
    names = {}
    for piece in pieces:
        names = {index: slots[slot] for index, slot in piece.loads}
        for index, node in piece.nodes:
            if node.op is Op.CONSTANT:
                names[index] = node.payload
            elif node.op is Op.INPUT:
                names[index] = inputs[node.payload[0]][node.payload[1]]
            else:
                names[index] = RULES[node.op].value(*(names[i] for i in node.operands))
        for index, slot in piece.stores:
            slots[slot] = names[index]
    return [names[value.index] for value in values]


@pytest.mark.parametrize("size", [1, 7, 100, 100_000])
def test_pieces_compute_what_the_whole_does(size):
    equations = StepEquations(mechanism_of(hopping_pendulum()))
    rng = np.random.default_rng(0)
    arrays = {"q": equations.nq, "dt": 1}
    arrays |= dict.fromkeys(["qd", "f", "qdd", "adj_qd", "adj_f", "multipliers"], equations.nv)
    inputs = {name: rng.normal(size=n) for name, n in {**arrays, "adj_q": equations.nq}.items()}
    inputs["q"][2] = 0.1  # in the ground
    for block in (equations.substep, equations.substep_solve_reverse, equations.substep_reverse):
        pieces, num_slots = cut(block.values, size)
        assert max(len(piece.nodes) for piece in pieces[:-1]) >= min(size, 2)
        found = run(pieces, num_slots, inputs, block.values)
        np.testing.assert_array_equal(found, evaluate(block.values, inputs))
        stores = sum(len(piece.stores) for piece in pieces)
        assert num_slots <= stores and (size > 50 or num_slots < stores / 2)


def test_a_kernel_in_pieces_computes_the_same(monkeypatch):
    inputs, seeds = random_inputs(hopping_pendulum(), 43, seed=5)
    inputs[0][:, 2] = torch.linspace(0.13, 0.8, 43, dtype=torch.float64)
    plain = program(hopping_pendulum(), 43, torch.float64, SUBSTEPS, plain=True)
    expected = values_and_gradients(plain, inputs, seeds)
    monkeypatch.setattr(cpp, "LONGEST", 0)
    monkeypatch.setattr(cpp, "PIECE", 100)
    robot = replace(hopping_pendulum(), name="in pieces")  # whose kernel no earlier test has made
    for num_envs in (43, 40, 1):  # a short vector at the end, a short group of vectors, one
        function = program(robot, num_envs, torch.float64, SUBSTEPS)
        part = [x[:num_envs] for x in inputs], [x[:num_envs] for x in seeds]
        found = values_and_gradients(function, *part)
        assert worst(found, [x[:num_envs] for x in expected]) < 1e-12


@pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="x86-64's own trouble")
def test_gradients_that_have_died_out_are_zero_and_cost_nothing_and_no_one_else_notices():
    robot = hopping_pendulum()
    inputs, seeds = random_inputs(robot, 5, seed=1)
    inputs = [x.float() for x in inputs]
    seeds = [torch.full_like(x, 1e-39, dtype=torch.float32) for x in seeds]
    found = values_and_gradients(program(robot, 5, torch.float32, SUBSTEPS), inputs, seeds)
    assert all(not gradient.any() for gradient in found[2:])
    assert torch.tensor(1e-39) * torch.tensor(0.5) > 0.0
