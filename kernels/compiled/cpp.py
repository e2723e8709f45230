"""Traced programs as Warp kernels: C++ for vectors of environments on a CPU, scalars on a GPU.

On a CPU one Warp task carries as many environments as a vector register has lanes (16, 8 or 4 in
single precision); the tasks between them return at once. The compiler that builds the kernel for
the processor at hand chooses the number. No operation crosses lanes, so an environment's results do
not depend on its neighbours nor, but for rounding, on the number of lanes. On a GPU each thread has
one environment.

A step's kernel keeps each substep's state and accelerations in a scratch array, where its adjoint
finds them: the forward launch must have run last, as `warp_envs.bridge.program.Program` sees to.
"""

import hashlib
from functools import cache

import warp as wp

from kernels.compiled.step_equations import Block, StepEquations
from kernels.compiled.tracer import Node, Op, live
from kernels.vector_width import widest_lanes

LANES = 16  # at most, whichever the processor

_INFIX = {Op.ADD: "+", Op.SUBTRACT: "-", Op.MULTIPLY: "*", Op.LESS: "<"}
_CALLS = {Op.SQRT: "root", Op.SIN: "sine", Op.COS: "cosine"}


def statements(block: Block, suffix: str) -> str:
    """C++ that runs a block on arrays of `V` named as the trace's.

    Args:
        block: the program.
        suffix: of a literal, "f" in single precision, else empty.
    """
    lines: list[str] = []
    names: dict[int, str] = {}
    for index, node in live(block.values):
        code = _code(node, [names[operand] for operand in node.operands], suffix)
        if node.op is Op.CONSTANT:
            names[index] = code
        else:
            names[index] = f"v{index}"
            lines.append(f"const auto v{index} = {code};")
    lines += [
        f"{array}[{element}] = {names[value.index]};"
        for (array, element), value in zip(block.targets, block.values, strict=True)
    ]
    return "\n".join(f"        {line}" for line in lines)


def _code(node: Node, operands: list[str], suffix: str) -> str:
    op = node.op
    if op is Op.CONSTANT:
        return f"V({node.payload!r}{suffix})"
    if op is Op.INPUT:
        array, element = node.payload
        return f"{array}[{element}]"
    if op in _INFIX:
        return f"{operands[0]} {_INFIX[op]} {operands[1]}"
    if op in _CALLS:
        return f"{_CALLS[op]}({operands[0]})"
    if op is Op.RECIPROCAL:
        return f"V(1.0{suffix}) / {operands[0]}"
    if op is Op.NEGATE:
        return f"-{operands[0]}"
    if op is Op.SELECT:
        return f"({operands[0]}) ? {operands[1]} : {operands[2]}"
    sign = "<" if op is Op.MINIMUM else ">"
    return f"({operands[0]} {sign} {operands[1]}) ? {operands[0]} : {operands[1]}"


# Sine and cosine for x = k pi/2 + r, |r| <= pi/4: pi/2 in parts whose products with k are exact,
# and the minimax polynomials of S. Moshier's Cephes (single) and Sun's fdlibm (double) in r^2,
# constant first: sin r = r + r^3 S(r^2), cos r = 1 - r^2 / 2 + r^4 C(r^2).
_TRIGONOMETRY = {
    "float": (
        ("1.5703125f", "4.837512969970703125e-4f", "7.54978995489188e-8f"),
        ("-1.6666654611e-1f", "8.3321608736e-3f", "-1.9515295891e-4f"),
        ("4.166664568298827e-2f", "-1.388731625493765e-3f", "2.443315711809948e-5f"),
    ),
    "double": (
        ("1.57079632673412561417e+00", "6.07710050630396597660e-11", "2.02226624879595063154e-21"),
        (
            "-1.66666666666666324348e-01",
            "8.33333333332248946124e-03",
            "-1.98412698298579493134e-04",
            "2.75573137070700676789e-06",
            "-2.50507602534068634195e-08",
            "1.58969099521155010221e-10",
        ),
        (
            "4.16666666666666019037e-02",
            "-1.38888888888741095749e-03",
            "2.48015872894767294178e-05",
            "-2.75573143513906633035e-07",
            "2.08757232129817482790e-09",
            "-1.13596475577881948265e-11",
        ),
    ),
}


def _polynomial(coefficients: tuple[str, ...]) -> str:
    """Horner's scheme in `r2`."""
    code = coefficients[-1]
    for coefficient in reversed(coefficients[:-1]):
        code = f"{coefficient} + r2 * ({code})"
    return code


def _prelude(scalar: str, lanes: int | None) -> str:
    """Types, lanes and elementary functions; `env` is the first environment of the task."""
    f = "f" if scalar == "float" else ""
    parts, sine, cosine = _TRIGONOMETRY[scalar]
    chosen = widest_lanes(scalar) if lanes is None else f"\n    enum {{ LANES = {lanes} }};"
    return f"""
#if defined(__CUDA_ARCH__)
    typedef {scalar} T;
    typedef T V;
    enum {{ LANES = 1 }};
    auto root = [](V x) -> V {{ return sqrt{f}(x); }};
    auto sine = [](V x) -> V {{ return sin{f}(x); }};
    auto cosine = [](V x) -> V {{ return cos{f}(x); }};
    auto load = [](const T* p) -> V {{ return *p; }};
    auto store = [](T* p, V x) {{ *p = x; }};
#else
    // products and sums in separate statements fuse too, where the processor can
    #pragma clang fp contract(fast)
    typedef {scalar} T;{chosen}
    typedef T V __attribute__((ext_vector_type(LANES)));
    typedef T Unaligned __attribute__((ext_vector_type(LANES), aligned(sizeof(T))));
    auto root = [](V x) -> V {{ return __builtin_elementwise_sqrt(x); }};
    // sine of x + quarters pi/2; a number that is not finite gives NaN
    auto turn = [](V x, T quarters) -> V {{
        const V k = __builtin_elementwise_roundeven(x * V(0.63661977236758134308{f}));
        const V r = ((x - k * V({parts[0]})) - k * V({parts[1]})) - k * V({parts[2]});
        const V r2 = r * r;
        const V s = r + r * r2 * ({_polynomial(sine)});
        const V c = V(1.0{f}) - V(0.5{f}) * r2 + r2 * r2 * ({_polynomial(cosine)});
        const V half = (k + V(quarters)) * V(0.5{f});  // odd quarters end in .5
        const V whole = __builtin_elementwise_floor(half);
        const V y = (half != whole) ? c : s;
        const V quarter = whole * V(0.5{f});
        return (quarter != __builtin_elementwise_floor(quarter)) ? -y : y;
    }};
    auto sine = [turn](V x) -> V {{ return turn(x, 0.0{f}); }};
    auto cosine = [turn](V x) -> V {{ return turn(x, 1.0{f}); }};
    auto load = [](const T* p) -> V {{ return *(const Unaligned*)p; }};
    auto store = [](T* p, V x) {{ *(Unaligned*)p = x; }};
#endif
    if (env % LANES != 0)
        return;
    const int num_envs = joint_q.shape[0];
    // a short last vector repeats its last environment and stores it once
    const int lanes = num_envs - env < LANES ? num_envs - env : LANES;
    auto gather = [env, lanes, load](V* values, const T* rows, int count) {{
        for (int k = 0; k < count; ++k) {{
            T lane[LANES];
            for (int l = 0; l < LANES; ++l)
                lane[l] = rows[(size_t)(env + (l < lanes ? l : lanes - 1)) * count + k];
            values[k] = load(lane);
        }}
    }};
    auto scatter = [env, lanes, store](T* rows, const V* values, int count, bool accumulate) {{
        for (int k = 0; k < count; ++k) {{
            T lane[LANES];
            store(lane, values[k]);
            for (int l = 0; l < lanes; ++l) {{
                T* entry = rows + (size_t)(env + l) * count + k;
                *entry = accumulate ? *entry + lane[l] : lane[l];
            }}
        }}
    }};
    // The trail of states: its elements lie `stride` apart, for the task's environments side by
    // side. A short vector's store runs over into the next element, stored after it, and at the
    // trail's end into LANES elements of padding.
#if defined(__CUDA_ARCH__)
    const size_t stride = num_envs;
    T* const trail = scratch.data + env;
#else
    const size_t stride = lanes;
    T* const trail = scratch.data + (size_t)env * scratch.shape[1];
#endif
    auto keep = [trail, stride, store](size_t first, const V* values, int count) {{
        for (int k = 0; k < count; ++k)
            store(trail + (first + k) * stride, values[k]);
    }};
    auto recall = [trail, stride, load](size_t first, V* values, int count) {{
        for (int k = 0; k < count; ++k)
            values[k] = load(trail + (first + k) * stride);
    }};
"""


def _forward(equations: StepEquations, scalar: str, lanes: int | None) -> str:
    nq, nv = equations.nq, equations.nv
    suffix = "f" if scalar == "float" else ""
    return f"""{_prelude(scalar, lanes)}
    V q[{nq}], qd[{nv}], f[{nv}], qdd[{nv}], dt[1] = {{V(length)}};
    gather(q, joint_q.data, {nq});
    gather(qd, joint_qd.data, {nv});
    gather(f, joint_f.data, {nv});
    {{
{statements(equations.enter, suffix)}
    }}
    for (int step = 0; step <= substeps; ++step) {{
        const size_t first = (size_t)step * {nq + 2 * nv};
        keep(first, q, {nq});
        keep(first + {nq}, qd, {nv});
        if (step == substeps)
            break;
{statements(equations.substep, suffix)}
        keep(first + {nq + nv}, qdd, {nv});
    }}
    {{
{statements(equations.leave, suffix)}
    }}
    scatter(next_joint_q.data, q, {nq}, false);
    scatter(next_joint_qd.data, qd, {nv}, false);
"""


def _reverse(equations: StepEquations, scalar: str, lanes: int | None) -> str:
    nq, nv = equations.nq, equations.nv
    suffix = "f" if scalar == "float" else ""
    return f"""{_prelude(scalar, lanes)}
    V q[{nq}], qd[{nv}], f[{nv}], qdd[{nv}], dt[1] = {{V(length)}};
    V adj_q[{nq}] = {{}}, adj_qd[{nv}] = {{}}, adj_f[{nv}] = {{}};
    // an array's gradient is what the launch names, else its own; without either it is zero
    auto gradient = [](const auto& array, const auto& adjoint) -> T* {{
        return adjoint.data ? adjoint.data : array.grad;
    }};
    if (const T* rows = gradient(next_joint_q, adj_next_joint_q))
        gather(adj_q, rows, {nq});
    if (const T* rows = gradient(next_joint_qd, adj_next_joint_qd))
        gather(adj_qd, rows, {nv});
    gather(f, joint_f.data, {nv});
    recall((size_t)substeps * {nq + 2 * nv}, q, {nq});
    {{
{statements(equations.leave_reverse, suffix)}
    }}
    for (int step = substeps - 1; step >= 0; --step) {{
        const size_t first = (size_t)step * {nq + 2 * nv};
        recall(first, q, {nq});
        recall(first + {nq}, qd, {nv});
        recall(first + {nq + nv}, qdd, {nv});
{statements(equations.substep_reverse, suffix)}
    }}
    gather(q, joint_q.data, {nq});
    {{
{statements(equations.enter_reverse, suffix)}
    }}
    if (T* rows = gradient(joint_q, adj_joint_q))
        scatter(rows, adj_q, {nq}, true);
    if (T* rows = gradient(joint_qd, adj_joint_qd))
        scatter(rows, adj_qd, {nv}, true);
    if (T* rows = gradient(joint_f, adj_joint_f))
        scatter(rows, adj_f, {nv}, true);
"""


def trail_width(nq: int, nv: int, substeps: int) -> int:
    """Columns of the scratch array, a row per environment."""
    return substeps * (nq + 2 * nv) + nq + nv + LANES


def step_kernel(equations: StepEquations, scalar: type, lanes: int | None = None) -> wp.Kernel:
    """The kernel of a control step under constant joint forces, to be launched over environments.

    Its arguments: the substep's length [s], a `scalar`; the number of substeps; joint_q (num_envs,
    nq), joint_qd and joint_f (num_envs, nv); scratch (num_envs, `trail_width`), without gradient;
    next_joint_q, next_joint_qd. All arrays are contiguous.

    Args:
        equations: of the robot.
        scalar: wp.float32 or wp.float64.
        lanes: environments to a task on a CPU, a power of two up to `LANES`; None for as many as
            the processor's registers hold.
    """
    name = {wp.float32: "float", wp.float64: "double"}[scalar]
    return _kernel(_forward(equations, name, lanes), _reverse(equations, name, lanes), scalar)


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
        env: int,
    ): ...

    # Warp keeps native functions by name; a robot's own name keeps robots apart
    digest = hashlib.sha256((forward + reverse).encode()).hexdigest()[:16]
    control_step.__name__ = control_step.__qualname__ = f"control_step_{digest}"
    # the adjoint's own forward run has nothing to do: the scratch holds what it needs
    step = wp.func_native(forward, reverse, replay_snippet=" ")(control_step)

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
            wp.tid(),
        )

    return compiled_control_step
