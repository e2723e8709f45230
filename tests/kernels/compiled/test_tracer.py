import math

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from kernels.compiled.tracer import (
    Expression,
    Op,
    Trace,
    cos,
    evaluate,
    gradient,
    live,
    maximum,
    minimum,
    rearranged,
    reciprocal,
    select,
    sin,
    sqrt,
)

# One way to build each operation from earlier values, on expressions and on floats alike.
BINARY = {
    "add": (lambda a, b: a + b, lambda a, b: a + b),
    "subtract": (lambda a, b: a - b, lambda a, b: a - b),
    "multiply": (lambda a, b: a * b, lambda a, b: a * b),
    "minimum": (minimum, min),
    "maximum": (maximum, max),
    "select": (lambda a, b: select(a < b, a * b, b), lambda a, b: a * b if a < b else b),
    "greater": (lambda a, b: select(a > b, 2.0, a), lambda a, b: 2.0 if a > b else a),
}
UNARY = {
    "negate": (lambda a: -a, lambda a: -a),
    "sin": (sin, math.sin),
    "cos": (cos, math.cos),
    "scale": (lambda a: 0.5 * a, lambda a: 0.5 * a),
    "shift": (lambda a: 1.0 - a, lambda a: 1.0 - a),
    "zero": (lambda a: 0.0 * a, lambda a: 0.0 * a),
    "root": (lambda a: sqrt(a * a + 1.0), lambda a: math.sqrt(a * a + 1.0)),
    "inverse": (lambda a: 3.0 / (a * a + 2.0), lambda a: 3.0 / (a * a + 2.0)),
}
NUM_INPUTS = 3

steps = st.lists(
    st.one_of(
        st.tuples(st.sampled_from(sorted(BINARY)), st.integers(0, 99), st.integers(0, 99)),
        st.tuples(st.sampled_from(sorted(UNARY)), st.integers(0, 99)),
    ),
    min_size=1,
    max_size=25,
)
numbers = st.floats(-2.0, 2.0, allow_subnormal=False)
points = st.lists(numbers, min_size=NUM_INPUTS, max_size=NUM_INPUTS)


def run(program, values, which):
    """The program's last value, on expressions (which=0) or floats (which=1)."""
    values = list(values)
    for name, *operands in program:
        function = (BINARY if name in BINARY else UNARY)[name][which]
        values.append(function(*[values[i % len(values)] for i in operands]))
    return values[-1]


def traced(program):
    trace = Trace()
    inputs = [*trace.inputs("x", NUM_INPUTS - 1), trace.constant(0.75)]
    return inputs[:-1], run(program, inputs, 0)


@given(steps, points)
@settings(deadline=None)
def test_a_folded_program_computes_what_was_written(program, point):
    point[-1] = 0.75
    expected = run(program, point, 1)
    assume(abs(expected) < 1e6)
    _, output = traced(program)
    assert evaluate([output], {"x": point})[0] == pytest.approx(expected, rel=1e-9, abs=1e-9)


@given(steps, points)
@settings(max_examples=200, deadline=None)
def test_gradients_are_finite_differences(program, point):
    inputs, output = traced(program)
    x = np.array(point[:-1])

    def slopes(k, step):
        middle = run(program, [*x, 0.75], 1)
        ends = [run(program, [*(x + h * (np.arange(2) == k)), 0.75], 1) for h in (step, -step)]
        return [(ends[0] - middle) / step, (middle - ends[1]) / step]

    sided = np.array([slopes(k, 1e-5) for k in range(2)])
    numeric = sided.mean(axis=1)
    # leave out kinks, and what rounding hides
    smooth = np.allclose(sided[:, 0], sided[:, 1], rtol=1e-2, atol=1e-3)
    assume(smooth and np.abs(numeric).max() < 1e3)
    if output.number is None:
        exact = evaluate(gradient([output], [1.0], inputs), {"x": x})
        np.testing.assert_allclose(np.array(exact, float), numeric, rtol=1e-4, atol=1e-4)


@given(steps)
@settings(deadline=None)
def test_the_same_calls_give_the_same_trace(program):
    first, second = traced(program)[1], traced(program)[1]
    assert first.index == second.index
    assert first.trace.nodes == second.trace.nodes


@given(steps)
@settings(deadline=None)
def test_running_a_program_twice_adds_nothing(program):
    inputs, output = traced(program)
    size = len(output.trace.nodes)
    again = run(program, [*inputs, output.trace.constant(0.75)], 0)
    assert again.index == output.index
    assert len(output.trace.nodes) == size


def test_constants_and_units_fold_away():
    trace = Trace()
    x, y = trace.inputs("x", 2)
    assert (2.0 * trace.constant(3.0) - 1.0).number == 5.0
    assert sqrt(sin(trace.constant(0.0)) + 4.0).number == 2.0
    assert reciprocal(trace.constant(4.0)).number == 0.25
    assert (0.0 * x).number == 0.0
    assert (x - x).number == 0.0
    assert select(trace.constant(1.0) < 2.0, x, y).index == x.index
    assert minimum(trace.constant(1.0), 2.0).number == 1.0
    for same in (
        x + 0.0,
        0.0 + x,
        x - 0.0,
        1.0 * x,
        x / 1.0,
        -1.0 * -x,
        maximum(x, x),
        select(x < y, x, x),
    ):
        assert same.index == x.index


def test_signs_move_to_where_they_cost_nothing():
    trace = Trace()
    x, y = trace.inputs("x", 2)
    assert (x + -y).index == (x - y).index
    assert (-x + y).index == (y - x).index
    assert (x - -y).index == (x + y).index
    assert (-(x - y)).index == (y - x).index
    assert (-x * -y).index == (x * y).index
    assert (-(2.0 * x)).index == (-2.0 * x).index
    assert (3.0 * (2.0 * x)).index == (6.0 * x).index
    assert (-x - y).node.op is Op.NEGATE


def test_equal_operations_are_one_node_in_either_order():
    trace = Trace()
    x, y = trace.inputs("x", 2)
    assert (x + y).index == (y + x).index
    assert (x * y).index == (y * x).index
    assert (x - y).index != (y - x).index
    assert trace.input("x", 1).index == y.index


def test_the_gradient_of_equal_operands_goes_to_the_second():
    trace = Trace()
    x, y = trace.inputs("x", 2)
    for function in (minimum, maximum):
        found = evaluate(gradient([function(x, y)], [1.0], [x, y]), {"x": [2.0, 2.0]})
        assert [float(value) for value in found] == [0.0, 1.0]


def test_only_the_selected_branch_has_a_gradient():
    trace = Trace()
    x, y = trace.inputs("x", 2)
    safe = select(x > 0.0, x, 1.0)
    output = select(x > 0.0, y * sqrt(safe), 0.0)
    values = {"x": [np.array([0.0, 4.0]), np.array([3.0, 3.0])]}
    found = evaluate(gradient([output], [1.0], [x, y]), values)
    np.testing.assert_allclose(found, [[0.0, 0.75], [0.0, 2.0]])


def test_inner_nodes_can_be_inputs():
    trace = Trace()
    x = trace.input("x", 0)
    square = x * x
    output = square * x
    by_square, by_x = gradient([output], [1.0], [square, x])
    assert by_square.index == x.index
    assert by_x.index == square.index  # the square counts as independent
    (whole,) = gradient([output], [1.0], [x])
    assert evaluate([whole], {"x": [2.0]})[0] == 12.0


@given(steps, points, st.lists(st.integers(0, 2), min_size=NUM_INPUTS, max_size=NUM_INPUTS))
def test_a_rearranged_program_computes_the_same(program, point, ranks):
    trace = Trace()
    inputs = trace.inputs("x", NUM_INPUTS)
    output = run(program, inputs, 0)
    gradients = gradient([output], [1.0], inputs)
    values = [output, *gradients]
    moved = rearranged(values, lambda _, element: ranks[element])
    expected = evaluate(values, {"x": point})
    assert len(live(moved)) == len(live(values))
    for found, one in zip(evaluate(moved, {"x": point}), expected, strict=True):
        np.testing.assert_array_equal(found, one)


def test_what_belongs_to_one_rank_is_done_before_the_next_begins():
    trace = Trace()
    x, y = trace.inputs("x", 2)
    first, second = x + 1.0, y + 1.0
    (total,) = rearranged([sin(first) + sin(second)], lambda _, element: element)
    inner = [node.op for _, node in live([total]) if node.operands]
    assert inner == [Op.ADD, Op.SIN, Op.ADD, Op.SIN, Op.ADD]


def test_seeds_weigh_several_outputs_and_strangers_have_no_gradient():
    trace = Trace()
    x, y = trace.inputs("x", 2)
    seed = trace.input("seed", 0)
    late = trace.input("late", 0)
    found = gradient([x * y, x], [seed, 2.0], [x, late])
    values = {"x": [3.0, 5.0], "seed": [7.0], "late": [0.0]}
    assert [float(value) for value in evaluate(found, values)] == [37.0, 0.0]


def test_live_nodes_come_in_order_without_the_dead():
    trace = Trace()
    x, y = trace.inputs("x", 2)
    dead = x * y
    output = sin(x) + x
    indices = [index for index, _ in live([output])]
    assert indices == sorted(indices)
    assert dead.index not in indices
    assert y.index not in indices
    assert live([]) == []


def test_expressions_are_not_hashed_by_value():
    x = Trace().input("x", 0)
    assert isinstance(x, Expression)
    with pytest.raises(TypeError):
        hash(x)
