"""A program's gradients are exact however often, however late and in whichever order it is used."""

import gc
import resource
import weakref
from typing import Any

import pytest
import torch
import warp as wp

import warp_envs
from warp_envs.bridge import Program, scalar_type

from .toy import Spring


@wp.kernel
def square(x: wp.array2d(dtype=Any), y: wp.array2d(dtype=Any), count: wp.array(dtype=wp.int32)):
    e, i = wp.tid()
    v = x[e, i]
    y[e, i] = v * v
    count[e] = 7


@wp.kernel(enable_backward=False)
def without_adjoint(x: wp.array2d(dtype=Any), y: wp.array2d(dtype=Any)):
    e, i = wp.tid()
    y[e, i] = x[e, i]


def squaring(dtype=torch.float64):
    program = Program("cpu")
    scalar = scalar_type(dtype)
    x, y = program.array((2, 3), scalar), program.array((2, 3), scalar)
    count = program.array(2, wp.int32, requires_grad=False)
    program.launch(square, (2, 3), [x, y, count])
    return program.function([x], [y, count])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_values_and_gradient(dtype):
    function = squaring(dtype)
    x = torch.arange(6, dtype=dtype).reshape(2, 3).requires_grad_()
    y, count = function(x)
    assert torch.equal(y, x.detach() ** 2)
    assert count.tolist() == [7, 7] and not count.requires_grad
    (gradient,) = torch.autograd.grad(y.sum(), x)
    assert torch.equal(gradient, 2 * x.detach())


def test_calls_do_not_disturb_one_another():
    """The program's arrays are shared by all calls, yet each call keeps its own gradient."""
    function = squaring()
    x = torch.full((2, 3), 3.0, dtype=torch.float64, requires_grad=True)
    first = function(x)[0]
    second = function(first)[0]  # x^4
    function(torch.full_like(x, 100.0))
    assert torch.allclose(torch.autograd.grad(second.sum(), x)[0], 4 * x.detach() ** 3)


def test_backward_twice_accumulates_nothing_of_the_first():
    function = squaring()
    x = torch.full((2, 3), 3.0, dtype=torch.float64, requires_grad=True)
    y = function(function(x)[0])[0].sum()
    (once,) = torch.autograd.grad(y, x, retain_graph=True)
    (again,) = torch.autograd.grad(y, x)
    assert torch.equal(once, again)


def test_torch_checks_the_gradient():
    function = squaring()
    x = torch.randn(2, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: function(x)[0], [x])


def test_second_derivative_is_refused():
    function = squaring()
    x = torch.ones(2, 3, dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad((function(x)[0] ** 2).sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        gradient.sum().backward()


def test_input_changed_in_place_is_refused():
    function = squaring()
    x = torch.ones(2, 3, dtype=torch.float64, requires_grad=True)
    z = x * 1.0
    y = function(z)[0]
    z.add_(1.0)
    with pytest.raises(RuntimeError, match="inplace"):
        y.sum().backward()


def test_nothing_is_recorded_without_grad():
    function = squaring()
    x = torch.ones(2, 3, dtype=torch.float64, requires_grad=True)
    with torch.no_grad():
        y = function(x)[0]
    assert y.grad_fn is None


def test_kernel_without_adjoint_passes_no_gradient():
    program = Program("cpu")
    x, y = program.array((2, 3), wp.float64), program.array((2, 3), wp.float64)
    program.launch(without_adjoint, (2, 3), [x, y])
    value = torch.ones(2, 3, dtype=torch.float64, requires_grad=True)
    (y_value,) = program.function([x], [y])(value)
    assert torch.autograd.grad(y_value.sum(), value)[0].abs().max() == 0


def test_graph_is_freed_and_memory_stays_flat_over_1000_windows():
    env = warp_envs.make("dejong", num_envs=64, dim=256)
    actions = torch.zeros(64, 256, requires_grad=True)

    def window() -> weakref.ref:
        env.detach()
        total = sum(env.step(actions)[1].sum() for _ in range(4))
        total.backward()
        return weakref.ref(total)

    for _ in range(50):
        window()
    gc.collect()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    gone = [window() for _ in range(1000)]
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert all(reference() is None for reference in gone)
    # One leaked tensor a window, 64 kB, would make 64 MB.
    assert after - before < 8_000  # kB


def test_unknown_precision_is_refused():
    with pytest.raises(ValueError, match=r"dtype: torch.float16 given.*float64 accepted"):
        scalar_type(torch.float16)


@pytest.mark.parametrize("num_envs", [5, 40])
@pytest.mark.parametrize("num_blocks", [2, 3])
def test_blocks_on_threads_change_nothing(num_envs, num_blocks):
    """Values and gradients are bit for bit those of one block, resets included."""

    def run(num_blocks):
        env = Spring(num_envs=num_envs, num_blocks=num_blocks, max_episode_steps=4)
        actions = torch.linspace(-1, 1, 6 * num_envs).reshape(6, num_envs, 1).requires_grad_()
        total = torch.stack([env.step(action)[1] for action in actions])
        return total, torch.autograd.grad(total.sum(), actions)[0], env.observe()

    for one, many in zip(run(1), run(num_blocks), strict=True):
        assert torch.equal(one, many)
