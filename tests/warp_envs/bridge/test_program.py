"""A program's gradients are exact however often, however late and in whichever order it is used."""

import gc
import resource
import weakref
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import warp as wp

import warp_envs
from tests.gpu_device import DEVICE, on_a_gpu
from tests.warp_envs.toy import Spring
from warp_envs.bridge.devices import scalar_type
from warp_envs.bridge.program import Program
from warp_envs.bridge.slots import Slot, Turn


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


def squaring(dtype=torch.float64, remember=False):
    program = Program("cpu", remember=remember)
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


@pytest.mark.parametrize("remember", [False, True])
def test_calls_do_not_disturb_one_another(remember):
    """Whether calls share the program's arrays or not, each keeps its own gradient."""
    function = squaring(remember=remember)
    x = torch.full((2, 3), 3.0, dtype=torch.float64, requires_grad=True)
    first = function(x)[0]
    second = function(first)[0]  # x^4
    function(torch.full_like(x, 100.0))
    assert torch.allclose(torch.autograd.grad(second.sum(), x)[0], 4 * x.detach() ** 3)


@pytest.mark.parametrize("remember", [False, True])
def test_backward_twice_accumulates_nothing_of_the_first(remember):
    function = squaring(remember=remember)
    x = torch.full((2, 3), 3.0, dtype=torch.float64, requires_grad=True)
    y = function(function(x)[0])[0].sum()
    (once,) = torch.autograd.grad(y, x, retain_graph=True)
    (again,) = torch.autograd.grad(y, x)
    assert torch.equal(once, again)


@pytest.mark.parametrize("remember", [False, True])
def test_torch_checks_the_gradient(remember):
    function = squaring(remember=remember)
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


@wp.kernel
def cube(
    x: wp.array(dtype=wp.float64),
    squared: wp.array(dtype=wp.float64),
    y: wp.array(dtype=wp.float64),
    sign: wp.array(dtype=wp.float64),
):
    e = wp.tid()
    v = x[e]
    squared[e] = v * v
    w = squared[e]
    sign[e] = wp.sign(v)
    y[e] = v * w


@wp.kernel
def times(
    x: wp.array(dtype=wp.float64), f: wp.array(dtype=wp.float64), y: wp.array(dtype=wp.float64)
):
    e = wp.tid()
    y[e] = x[e] * f[e]


def chain():
    """y = sign(x) x^3: the square in shared memory, filled again, the sign in each call's own."""
    program = Program("cpu", remember=True)
    x, cubed, y = (program.array(2, wp.float64) for _ in range(3))
    squared = program.array(2, wp.float64, shared=True)
    sign = program.array(2, wp.float64, requires_grad=False)
    program.launch(cube, 2, [x, squared, cubed, sign], repeated=True)
    program.launch(times, 2, [cubed, sign, y])
    return program, program.function([x], [y])


def test_a_call_remembers_what_is_its_own_and_fills_again_what_is_shared():
    _, function = chain()
    x = torch.tensor([2.0, -3.0], dtype=torch.float64, requires_grad=True)
    y = function(x)[0]
    function(-10.0 * x.detach())
    assert y.tolist() == [8.0, 27.0]
    assert torch.autograd.grad(y.sum(), x)[0].tolist() == [12.0, -27.0]


def slots_made(monkeypatch):
    """A list that every slot made from now on joins."""
    made = []
    monkeypatch.setattr(
        "warp_envs.bridge.program.Slot",
        lambda *args, **options: made.append(Slot(*args, **options)) or made[-1],
    )
    return made


def test_slots_are_taken_again_when_torch_lets_go_of_a_call(monkeypatch):
    made = slots_made(monkeypatch)
    _, function = chain()
    x = torch.ones(2, dtype=torch.float64, requires_grad=True)
    for _ in range(3):
        window = [function(x)[0] for _ in range(5)]
        assert torch.autograd.grad(sum(y.sum() for y in window), x)[0].tolist() == [15.0, 15.0]
        del window
        assert len(made) == 5
    with torch.no_grad():
        [function(x) for _ in range(20)]
    assert len(made) == 5


@wp.kernel
def overwrite(
    flags: wp.array(dtype=wp.int32), y: wp.array(dtype=wp.float64), count: wp.array(dtype=wp.int32)
):
    e = wp.tid()
    wp.atomic_add(count, e % 2, 1)
    if flags[e] != 0:
        y[e] = wp.float64(7.0)


@wp.kernel(enable_backward=False)
def flag_negative(x: wp.array(dtype=wp.float64), flags: wp.array(dtype=wp.int32)):
    e = wp.tid()
    flags[e] = wp.where(x[e] < wp.float64(0.0), 1, 0)


@pytest.mark.parametrize("num_blocks", [1, 2])
def test_conditional_launches_run_only_where_a_flag_is_set(num_blocks):
    """Blocks of 16 rows look at their own flags."""
    program = Program("cpu", num_rows=32, num_blocks=num_blocks, remember=True)
    x, y = (program.array(32, wp.float64) for _ in range(2))
    flags = program.array(32, wp.int32, requires_grad=False)
    count = program.array(2, wp.int32, requires_grad=False, shared=True)
    factor = program.array(32, wp.float64, requires_grad=False)
    factor.fill_(2.0)
    program.launch(flag_negative, 32, [x, flags])
    program.launch(times, 32, [x, factor, y])
    with program.only_if_any(flags):
        program.launch(overwrite, 32, [flags, y, count])
    function = program.function([x], [y])
    positive = torch.ones(32, dtype=torch.float64)
    assert function(positive)[0].tolist() == [2.0] * 32
    assert count.numpy().sum() == 0
    negative = positive.index_fill(0, torch.tensor([20]), -1.0).requires_grad_()
    (found,) = function(negative)
    assert found[20] == 7.0 and found.sum() == 7.0 + 31 * 2.0
    assert count.numpy().sum() == 32 // num_blocks


def test_on_a_gpu_conditional_launches_always_run_in_the_one_graph(monkeypatch):
    """Recorded as for a GPU, run on a CPU."""
    program = Program("cpu", num_rows=4, remember=True)
    y = program.array(4, wp.float64)
    flags = program.array(4, wp.int32, requires_grad=False)
    count = program.array(2, wp.int32, requires_grad=False, shared=True)
    x, cpu = program.array(4, wp.float64), program.device
    monkeypatch.setattr(program, "device", SimpleNamespace(is_cuda=True))
    program.launch(flag_negative, 4, [x, flags])
    with program.only_if_any(flags):
        program.launch(overwrite, 4, [flags, y, count])
    monkeypatch.setattr(program, "device", cpu)
    graphs, replay = [], wp.capture_launch
    monkeypatch.setattr(wp, "capture_launch", lambda *args: graphs.append(1) or replay(*args))
    program.function([x], [y])(torch.ones(4, dtype=torch.float64))
    assert count.numpy().sum() == 4
    assert len(graphs) == 1
    assert program.count_launches() == (2, 0)


@pytest.mark.parametrize("remember", [False, True])
def test_a_program_is_gone_with_its_function(remember):
    """At once, not when the collector runs: a slot's arrays may take gigabytes."""
    gc.disable()
    try:
        program = Program("cpu", remember=remember)
        x, y = program.array((2, 3), wp.float64), program.array((2, 3), wp.float64)
        count = program.array(2, wp.int32, requires_grad=False)
        program.launch(square, (2, 3), [x, y, count])
        function = program.function([x], [y])
        value = torch.ones(2, 3, dtype=torch.float64, requires_grad=True)
        (result,) = function(value)
        array = weakref.ref(y)
        del program, x, y, count, function
        assert torch.autograd.grad(result.sum(), value)[0].tolist() == [[2.0] * 3] * 2
        assert array() is not None
        del result
        assert array() is None
    finally:
        gc.enable()


def test_a_call_that_fails_gives_its_slot_back(monkeypatch):
    made = slots_made(monkeypatch)
    function = squaring(remember=True)
    for _ in range(3):
        with pytest.raises(RuntimeError, match="size"):
            function(torch.ones(5, 7, dtype=torch.float64))
    function(torch.ones(2, 3, dtype=torch.float64))
    assert len(made) == 1


@pytest.mark.slow
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


class FakeStream:
    """What a call does with torch's stream."""

    def __init__(self) -> None:
        self.waited_for: list[FakeStream] = []

    def wait_stream(self, other: "FakeStream") -> None:
        self.waited_for.append(other)


def test_a_call_on_another_stream_waits_for_the_one_before(monkeypatch):
    one, other = FakeStream(), FakeStream()
    tensor = SimpleNamespace(used_on=[])
    tensor.record_stream = tensor.used_on.append
    turn = Turn()
    for current in (one, one, other, other, one):
        monkeypatch.setattr(torch.cuda, "current_stream", lambda device, it=current: it)
        turn.take(torch.device("cuda:0"), [tensor, None])  # pyright: ignore[reportArgumentType]
    assert (one.waited_for, other.waited_for) == ([other], [one])
    assert tensor.used_on == [other, one]


def test_arrays_are_looked_at_when_the_work_of_all_streams_is_done(monkeypatch):
    seen, read = [], wp.array.numpy
    monkeypatch.setattr(wp, "synchronize_device", lambda device: seen.append("waits"))
    monkeypatch.setattr(wp.array, "numpy", lambda array: seen.append("reads") or read(array))
    env = Spring(num_envs=2)
    for act in (env.reset, lambda: env.step(torch.zeros(2, env.num_actions))):
        act()
    # The two programs of a reset, the step's once it has run: each waits before it reads.
    runs = "".join(word[0] for word in seen).split("w")
    assert runs[0] == "" and len(runs) == 4 and all(runs[1:])


def test_a_gpu_takes_all_rows_in_one_block(monkeypatch):
    monkeypatch.setattr(wp, "get_device", lambda name: SimpleNamespace(is_cuda=True))
    assert Program("cuda:0", num_rows=64, num_blocks=4).blocks == [None]


def windows(device, compiled):
    """Rewards, states and action gradients of three windows with episode ends, of an ant."""
    env = warp_envs.make("ant", num_envs=40, device=device, compiled=compiled, dtype=torch.float64)
    generator = torch.Generator().manual_seed(0)
    found = []
    for _ in range(3):
        env.detach()
        actions = 2 * torch.rand((40, 40, 8), generator=generator, dtype=torch.float64) - 1
        actions = actions.to(device).requires_grad_()
        rewards = torch.stack([env.step(action)[1] for action in actions])
        found += [rewards.detach(), *torch.autograd.grad(rewards.sum(), actions)]
    assert env.get_state()["reset_count"].max() > 1
    return [tensor.cpu() for tensor in [*found, env.observe()]]


@pytest.mark.gpu
@pytest.mark.parametrize("compiled", [False, True])
def test_a_gpu_replays_what_a_cpu_does(compiled):
    """Graphs on torch's stream, slots taken again, resets inside windows."""
    for expected, found in zip(windows("cpu", True), windows(DEVICE, compiled), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-8)


@pytest.mark.gpu
@on_a_gpu
def test_streams_share_an_environment_in_turns():
    """Steps on a stream of one's own, between steps on the default one, with a gradient."""

    def gradient(streams: list[torch.cuda.Stream]) -> torch.Tensor:
        env = warp_envs.make("cartpole", num_envs=64, device=DEVICE, seed=0)
        actions = torch.full((8, 64, 1), 0.3, device=DEVICE, requires_grad=True)
        total = torch.zeros((), device=DEVICE)
        for step, action in enumerate(actions.unbind()):
            stream = streams[step % len(streams)]
            stream.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(stream):
                total = total + env.step(action)[1].sum()
            torch.cuda.current_stream().wait_stream(stream)
        return torch.autograd.grad(total, actions)[0]

    default = torch.cuda.current_stream()
    torch.testing.assert_close(gradient([default, torch.cuda.Stream()]), gradient([default]))


def test_the_memory_of_a_program_is_that_of_its_arrays():
    program = Program("cpu", remember=True)
    x, y = program.array((2, 3), wp.float64), program.array((2, 3), wp.float64)
    count = program.array(2, wp.int32, requires_grad=False, shared=True)
    program.launch(square, (2, 3), [x, y, count])
    program.function([x], [y, count])
    assert program.memory() == (4 * 6 * 8 + 2 * 4, 6 * 8)  # y alone is kept for each call
