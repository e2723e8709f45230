"""A step of vehicles, many side by side in a processor's vectors: for a CPU.

What `kernels.traffic.road` does in several kernels, one vehicle after another, is one kernel here:
gaps, plan, bounds and motion of as many vehicles as a vector register has lanes (16, 8 or 4 in
single precision), and its adjoint. The equations are `planned_speed` and `driven_speed` of that
module, traced (`kernels.traffic.traced`) for the model at hand; a model that is no straight line
has none of this. No operation crosses lanes but the look at the leader.

A task has some whole roads, whose gaps it measures before anybody moves; so it may run in place.
"""

from functools import cache

import warp as wp

from kernels.compiled.cpp import straight_line
from kernels.compiled.step_equations import Block
from kernels.compiled.tracer import Trace, gradient
from kernels.traffic import traced
from kernels.traffic.car_following import LENGTH, CarFollowing
from kernels.traffic.road import ABSENT, driven_speed, planned_speed
from kernels.traffic.vector_code import elementary, native, stored, vectors

VEHICLES = 512
"""Of a task, about: what it reads and writes of them stays in the nearest cache."""
MOST_PARTS = 16
"""Into which a step's plan may be split here."""


ARRAYS = (
    "x",  # (count,), as are the others [m]
    "speed",  # [m/s]
    "command",  # accelerations [m/s^2], NaN for a driver's own; may be missing
    "leader",  # as `kernels.traffic.road.order_vehicles` names them, int32
    "driver",  # rows of the model's numbers
    "gap",  # scratch
    "leader_speed",  # scratch
    "next_x",  # may be x, and next_speed speed, where no adjoint is wanted
    "next_speed",
)
"""What a step reads and writes, by address, in this order."""
ADJOINTS = ("next_x", "next_speed", "x", "speed", "command", "driver")
"""Whose adjoints follow: the first two are read, the others added to; each may be missing."""


@cache
def drive(
    model: CarFollowing, sumo: bool, scalar: type, learned: bool
) -> tuple[wp.Kernel, wp.Kernel] | None:
    """Positions and speeds after dt, and its adjoint; one task some roads; None if not traceable.

    Args:
        model: of car-following.
        sumo: whether its acceleration and the bounds of the speed are SUMO's.
        scalar: wp.float32 or wp.float64.
        learned: whether the adjoint reaches the drivers' numbers.
    """
    name = {wp.float32: "float", wp.float64: "double"}[scalar]
    try:
        equations = Equations(model, sumo, learned)
    except traced.UntraceableError:
        return None
    return _kernel(_forward(equations, name), scalar), _kernel(_reverse(equations, name), scalar)


class Equations:
    """The traced parts of a step, forward and reverse.

    Arrays: s speed, gap, leader's speed, planned speed, command; p the driver's numbers; h[0] the
    time; g adjoints of what a part results in; o what it stores.
    """

    def __init__(self, model: CarFollowing, sumo: bool, learned: bool) -> None:
        """Trace them.

        Raises:
            UntraceableError: the model is no straight line.
        """
        self.numbers = len(model.numbers)
        self.learned = learned
        plan, bound = planned_speed(model, sumo), driven_speed(model, sumo)
        self.plan, self.plan_reverse = self._trace(plan, (0, 1, 2))
        self.drive, self.drive_reverse = self._trace(bound, (0, 3, 4))

    def _trace(self, function: wp.Function, places: tuple[int, ...]) -> tuple[Block, Block]:
        """A function of three elements of s, then a driver and a time; its adjoint."""
        trace = Trace()
        scalar = traced.scalars(trace)
        state = [trace.input("s", place) for place in places]
        driver, time = trace.inputs("p", self.numbers), trace.input("h", 0)
        arguments = [scalar(value) for value in state]
        found = traced.run(
            function, *arguments, [scalar(number) for number in driver], scalar(time)
        )
        results = [result.value for result in (found if isinstance(found, tuple) else (found,))]
        inputs = [*state, *(driver if self.learned else ())]
        adjoints = gradient(results, trace.inputs("g", len(results)), inputs)
        return stored(results), stored(adjoints)


def _prelude(scalar: str, numbers: int) -> str:
    """Types, loads and stores, the vehicles of the task and what a group of them sees."""
    f = "f" if scalar == "float" else ""
    return f"""{vectors(scalar)}
{elementary(scalar)}
    const T infinite = __builtin_inf{f}();
{_addressed()}
    const int begin = task * per_task, end = begin + per_task < count ? begin + per_task : count;
    auto lanes_from = [end](int first) -> int {{
        return end - first < LANES ? end - first : LANES;
    }};
    const bool ring = ring_length > T(0);
    const T* const drivers = driver;
    // The numbers of drivers that are not all alike.
    auto read_drivers = [&](V* p, int first, int lanes) {{
        const I row = (counted < lanes) ? counted * {numbers} : I(0);
        for (int k = 0; k < {numbers}; ++k)
            p[k] = look_up(drivers + (size_t)first * {numbers} + k, row);
    }};
    auto leaders = [&](int first, int lanes) -> I {{
        return load_indices(leader + first, lanes);
    }};
    // The gap and the leader's speed, infinite and the own without a leader.
    auto look = [&](int first, int lanes, I ahead, V length, V* s) {{
        const I own = (counted < lanes) ? counted + first : I(first);
        const I at = (ahead < 0) ? own : ahead;
        const V x_ahead = look_up(x, at), speed_ahead = look_up(speed, at);
        V length_ahead = length;
        if (!uniform)
            for (int l = 0; l < LANES; ++l)
                length_ahead[l] = drivers[(size_t)at[l] * {numbers} + {int(LENGTH)}];
        V distance = x_ahead - load(x + first, lanes);
        if (ring) {{
            const V later = __builtin_convertvector(at - own, V);
            const V once_more = distance + V(ring_length);
            const V tied = (later <= V(T(0))) ? once_more : distance;
            distance = (distance < V(T(0))) ? once_more : ((distance == V(T(0))) ? tied : distance);
        }}
        const V led = __builtin_convertvector(ahead, V);
        s[0] = load(speed + first, lanes);
        s[1] = (led < V(T(0))) ? V(infinite) : distance - V(T(0.5)) * (length + length_ahead);
        s[2] = (led < V(T(0))) ? s[0] : speed_ahead;
    }};
    auto read_command = [&](int first, int lanes) -> V {{
        return command ? load(command + first, lanes) : V(__builtin_nan{f}(""));
    }};
    const V part[1] = {{V(dt / T(parts))}}, whole[1] = {{V(dt)}};
"""


def _addressed() -> str:
    """The arrays of a step; a missing one is null."""
    arrays = [*ARRAYS, *(f"of_{array}" for array in ADJOINTS)]
    lines = []
    for i, array in enumerate(arrays):
        kind = "int" if array == "leader" else "T"
        lines.append(f"    {kind}* const {array} = ({kind}*)where.data[{i}]; (void){array};")
    return "\n".join(lines)


def _go(numbers: int, loops: str) -> str:
    """Loops over groups of vehicles, for drivers who differ, in p, and for those who do not.

    Of the latter the compiler takes what depends on them alone out of the loops.
    """
    return f"""
    auto go = [&](auto alike) {{
        V p[{numbers}];
        if (alike.yes)
            for (int k = 0; k < {numbers}; ++k)
                p[k] = V(drivers[k]);
{loops}
    }};
    struct Alike {{ enum {{ yes = 1 }}; }};
    struct Different {{ enum {{ yes = 0 }}; }};
    if (uniform)
        go(Alike());
    else
        go(Different());
"""


def _forward(equations: Equations, scalar: str) -> str:
    """The step in C++, in "float" or "double"."""
    suffix = "f" if scalar == "float" else ""
    numbers = equations.numbers
    loops = f"""
    for (int first = begin; first < end; first += LANES) {{
        const int lanes = lanes_from(first);
        V s[5];
        if (!alike.yes)
            read_drivers(p, first, lanes);
        look(first, lanes, leaders(first, lanes), p[{int(LENGTH)}], s);
        store(gap + first, s[1], lanes);
        store(leader_speed + first, s[2], lanes);
    }}
    for (int first = begin; first < end; first += LANES) {{
        const int lanes = lanes_from(first);
        V s[5], o[2];
        if (!alike.yes)
            read_drivers(p, first, lanes);
        const V v = load(speed + first, lanes), from = load(x + first, lanes);
        s[0] = v;
        s[1] = load(gap + first, lanes);
        s[2] = load(leader_speed + first, lanes);
        const V* h = part;
        for (int k = 0; k < parts; ++k) {{
{straight_line(equations.plan, suffix)}
            s[0] = o[0];
            s[1] = o[1];
        }}
        h = whole;
        s[3] = s[0];
        s[0] = v;
        s[4] = read_command(first, lanes);
        {{
{straight_line(equations.drive, suffix)}
        }}
        V to = from + (V(of_old) * v + V(of_new) * o[0]) * V(dt);
        if (ring) {{
            const V length = V(ring_length);
            V lap = to - length * __builtin_elementwise_floor(to / length);
            lap = (lap < V(T(0))) ? lap + length : lap;  // rounded, either way
            lap = (lap >= length) ? lap - length : lap;
            to = (to >= length) ? lap : to;
        }}
        const V led = __builtin_convertvector(leaders(first, lanes), V);
        store(next_x + first, (led == V(T({int(ABSENT)}))) ? from : to, lanes);
        store(next_speed + first, (led == V(T({int(ABSENT)}))) ? v : o[0], lanes);
    }}"""
    return _prelude(scalar, numbers) + _go(numbers, loops)


def _reverse(equations: Equations, scalar: str) -> str:
    """The step's adjoint in C++; it measures and plans again itself."""
    suffix = "f" if scalar == "float" else ""
    numbers = equations.numbers
    zeros, kept, shares = "", "", ""
    if equations.learned:
        zeros = f"V share[{numbers}] = {{}};"
        kept = f"for (int k = 0; k < {numbers}; ++k) share[k] += o[3 + k];"
        shares = f"""
        if (T* rows = of_driver) {{
            share[{int(LENGTH)}] -= V(T(0.5)) * of_gap;
            for (int k = 0; k < {numbers}; ++k)
                for (int l = 0; l < lanes; ++l)
                    rows[(size_t)(first + l) * {numbers} + k] += share[k][l];
            for (int l = 0; l < lanes; ++l)
                if (ahead[l] >= 0)
                    rows[(size_t)ahead[l] * {numbers} + {int(LENGTH)}] -= T(0.5) * of_gap[l];
        }}"""
    flushing = """
    // Gradients that die out leave the range of normal numbers, in which a processor takes ten
    // times as long: within a task those are zero.
#if defined(__x86_64__)
    struct Flushing {
        const unsigned before = __builtin_ia32_stmxcsr();
        Flushing() { __builtin_ia32_ldmxcsr(before | 0x8040); }
        ~Flushing() { __builtin_ia32_ldmxcsr(before); }
    } flushing;
#endif"""
    loops = f"""
    for (int first = begin; first < end; first += LANES) {{
        const int lanes = lanes_from(first);
        const I ahead = leaders(first, lanes);
        const V led = __builtin_convertvector(ahead, V), none = V(T(0));
        V s[5], o[3 + {numbers}], g[2], speeds[{MOST_PARTS}], gaps[{MOST_PARTS}];
        {zeros}
        if (!alike.yes)
            read_drivers(p, first, lanes);
        look(first, lanes, ahead, p[{int(LENGTH)}], s);
        const V v = s[0];
        const V* h = part;
        for (int k = 0; k < parts; ++k) {{
            speeds[k] = s[0];
            gaps[k] = s[1];
{straight_line(equations.plan, suffix)}
            s[0] = o[0];
            s[1] = o[1];
        }}
        h = whole;
        s[3] = s[0];
        s[0] = v;
        s[4] = read_command(first, lanes);
        // adjoints of position and speed; a vehicle in no lane stays as it is
        const V absent_x = of_next_x ? load(of_next_x + first, lanes) : none;
        const V absent_speed = of_next_speed ? load(of_next_speed + first, lanes) : none;
        const V by_x = (led == V(T({int(ABSENT)}))) ? none : absent_x;
        const V by_speed = (led == V(T({int(ABSENT)}))) ? none : absent_speed;
        g[0] = by_speed + V(of_new) * by_x * V(dt);
        {{
{straight_line(equations.drive_reverse, suffix)}
        }}
        {kept}
        V own_speed = o[0] + V(of_old) * by_x * V(dt) + (absent_speed - by_speed);
        const V of_this_command = o[2];
        g[0] = o[1];
        g[1] = none;
        V of_leader = none;
        h = part;
        for (int k = parts - 1; k >= 0; --k) {{
            s[0] = speeds[k];
            s[1] = gaps[k];
{straight_line(equations.plan_reverse, suffix)}
            of_leader += o[2];
            {kept}
            g[0] = o[0];
            g[1] = o[1];
        }}
        own_speed += g[0] + ((led < none) ? of_leader : none);
        const V of_gap = (led < none) ? none : g[1];
        if (of_x) {{
            store(of_x + first, load(of_x + first, lanes) + absent_x - of_gap, lanes);
            add_to(of_x, ahead, of_gap, lanes);
        }}
        if (of_speed) {{
            store(of_speed + first, load(of_speed + first, lanes) + own_speed, lanes);
            add_to(of_speed, ahead, of_leader, lanes);
        }}
        if (of_command)
            store(of_command + first, load(of_command + first, lanes) + of_this_command, lanes);
        {shares}
    }}"""
    return _prelude(scalar, numbers) + flushing + _go(numbers, loops)


@cache
def find_stale(scalar: type) -> wp.Kernel:
    """What `kernels.traffic.road.find_stale_roads` does, a task `VEHICLES` of them."""
    name = {wp.float32: "float", wp.float64: "double"}[scalar]
    rows, places = wp.array(dtype=scalar), wp.array(dtype=wp.int32)
    source = f"""{vectors(name)}
    const int count = x.shape[0], begin = task * {VEHICLES};
    const int end = begin + {VEHICLES} < count ? begin + {VEHICLES} : count;
    for (int first = begin; first < end; first += LANES) {{
        const int lanes = end - first < LANES ? end - first : LANES;
        const I ahead = load_indices(next.data + first, lanes);
        const I own = (counted < lanes) ? counted + first : I(first);
        const I at = (ahead < 0) ? own : ahead;
        const V distance = look_up(x, at) - load(x + first, lanes);
        const I moved = load_indices(lane.data + first, lanes)
            ^ load_indices(seen_lane.data + first, lanes);
        const V later = __builtin_convertvector(at - own, V);
        const auto passed = (distance < V(T(0))) | ((distance == V(T(0))) & (later < V(T(0))));
        const V led = __builtin_convertvector(ahead, V);
        const auto wrong = passed & (led >= V(T(0)));
        if (__builtin_reduce_or(wrong) || __builtin_reduce_or(moved))
            for (int l = 0; l < lanes; ++l)
                if (wrong[l] || moved[l])
                    stale.data[(first + l) / per_road] = 1;
    }}
"""

    def find_stale_vectors(
        x: rows,
        lane: places,
        seen_lane: places,
        next: places,
        per_road: int,
        stale: places,
        task: int,
    ): ...

    find = native(find_stale_vectors, source)

    @wp.kernel(module="unique", enable_backward=False)
    def find_stale_side_by_side(
        x: rows,
        lane: places,
        seen_lane: places,
        next: places,
        per_road: int,
        stale: places,
    ):
        find(x, lane, seen_lane, next, per_road, stale, wp.tid())

    return find_stale_side_by_side


@cache
def _kernel(source: str, scalar: type) -> wp.Kernel:
    def drive_vectors(
        where: wp.array(dtype=wp.uint64),
        count: int,
        per_task: int,
        uniform: int,
        of_old: scalar,
        of_new: scalar,
        parts: int,
        ring_length: scalar,
        dt: scalar,
        task: int,
    ): ...

    step = native(drive_vectors, source)

    @wp.kernel(module="unique", enable_backward=False)
    def drive_side_by_side(
        where: wp.array(dtype=wp.uint64),  # addresses of `ARRAYS`, then of `ADJOINTS`; 0: missing
        count: int,  # of vehicles
        per_task: int,  # those of whole roads
        uniform: int,  # 1: the first driver's numbers are everybody's
        of_old: scalar,  # share of the speed before in the mean speed of a step
        of_new: scalar,
        parts: int,  # of a step that are planned one by one, at most MOST_PARTS
        ring_length: scalar,  # [m], 0: an open road
        dt: scalar,  # [s]
    ):
        step(where, count, per_task, uniform, of_old, of_new, parts, ring_length, dt, wp.tid())

    return drive_side_by_side
