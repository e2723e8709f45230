"""Traced programs as Warp kernels: C++ for vectors of environments on a CPU, scalars on a GPU.

On a CPU one Warp task carries as many environments as a vector register has lanes (16, 8 or 4 in
single precision); the tasks between them return at once. The compiler that builds the kernel for
the processor at hand chooses the number. No operation crosses lanes, so an environment's results do
not depend on its neighbours nor, but for rounding, on the number of lanes. On a GPU each thread has
one environment.

A step's kernel keeps each substep's state and accelerations in a scratch array, where its adjoint
finds them: the forward launch must have run last, as `warp_envs.bridge.program.Program` sees to.
"""

import math
from collections.abc import Mapping, Sequence

from kernels.compiled.held import HeldStepEquations
from kernels.compiled.pieces import cut
from kernels.compiled.step_equations import Block, StepEquations
from kernels.compiled.tracer import Expression, Node, Op, live
from kernels.vector_width import widest_lanes

LANES = 16  # at most, whichever the processor

# products and sums in separate statements fuse too, where the processor can
FUSED = """
#if !defined(__CUDA_ARCH__)
    #pragma clang fp contract(fast)
#endif"""

_INFIX = {Op.ADD: "+", Op.SUBTRACT: "-", Op.MULTIPLY: "*", Op.LESS: "<"}
_CALLS = {
    Op.SQRT: "root",
    Op.SIN: "sine",
    Op.COS: "cosine",
    Op.FLOOR: "whole",
    Op.TANH: "hyperbolic_tangent",
    Op.LOG: "logarithm",
    Op.POWER: "power",
}

EACH_GROUP = "for (int group = 0; group < groups; ++group)"

LONGEST = 24_000
"""Nodes of a block up to which it is one function."""
PIECE = 1_000
"""Operations of each piece of a longer one."""
GROUP_BYTES = 256
"""Of an element for all groups of a task, where blocks are in pieces."""


def statements(block: Block, suffix: str, sizes: Mapping[str, int]) -> str:
    """C++ that runs a block for every group of environments.

    A group's elements of an array `q` lie together in `all_q`. A CPU computes in the order of the
    equations: limbs side by side give it independent operations to do at once, and what does not
    fit its registers waits in its nearest cache. A GPU's thread has no such cache, and
    other threads to do meanwhile: it computes limb by limb.

    Args:
        block: the program.
        suffix: of a literal, "f" in single precision, else empty.
        sizes: elements of each array that the groups have of their own.
    """
    gpu = _statements(block.targets, block.limb_by_limb, suffix, sizes)
    cpu = _statements(block.targets, block.values, suffix, sizes)
    return _indented(["#if defined(__CUDA_ARCH__)", *gpu, "#else", *cpu, "#endif"])


def _statements(
    targets: Sequence[tuple[str, int]],
    values: Sequence[Expression],
    suffix: str,
    sizes: Mapping[str, int],
) -> list[str]:
    nodes = live(values)
    tables = sorted({node.payload[0] for _, node in nodes if node.op is Op.GATHER})  # type: ignore[index]
    lines = [f"const T* {table}_values = {table}.data;" for table in tables]
    if len(nodes) > LONGEST:
        return [*lines, *_in_pieces(targets, values, suffix, sizes, tables)]
    operations, names = _operations(nodes, suffix, {})
    own = [f"V* const {array} = {_own(array, size)};" for array, size in sizes.items()]
    body = [*own, *operations, *_stored(targets, values, names)]
    return [*lines, f"{EACH_GROUP} {{", *body, "}"]


def straight_line(block: Block, suffix: str) -> str:
    """C++ that runs a block once, on vectors that lie in arrays of its names."""
    operations, names = _operations(live(block.values), suffix, {})
    return _indented([*operations, *_stored(block.targets, block.values, names)])


def _own(array: str, size: int) -> str:
    """The elements of an array that the group at hand has."""
    return f"all_{array} + group * {size}"


def _operations(
    nodes: list[tuple[int, Node]], suffix: str, names: dict[int, str]
) -> tuple[list[str], dict[int, str]]:
    """A statement for each node, and what each is called; `names` are those known before."""
    lines: list[str] = []
    names = dict(names)
    for index, node in nodes:
        code = _code(node, [names[operand] for operand in node.operands], suffix)
        if node.op is Op.CONSTANT:
            names[index] = code
        else:
            names[index] = f"v{index}"
            lines.append(f"const auto v{index} = {code};")
    return lines, names


def _stored(
    targets: Sequence[tuple[str, int]], values: Sequence[Expression], names: dict[int, str]
) -> list[str]:
    return [
        f"{array}[{element}] = {names[value.index]};"
        for (array, element), value in zip(targets, values, strict=True)
    ]


def _in_pieces(
    targets: Sequence[tuple[str, int]],
    values: Sequence[Expression],
    suffix: str,
    sizes: Mapping[str, int],
    tables: Sequence[str],
) -> list[str]:
    """The same as functions of a local struct, each called for all groups before the next.

    So a piece's code, which the processor fetches from afar, serves as often as there are groups.
    """
    pieces, slots = cut(values, PIECE)
    own = {**sizes, "between": max(slots, 1)}
    parameters = [f"V* {array}" for array in [*own, "dt"]]
    parameters += [f"const T* {table}_values" for table in tables]
    arguments = [_own(array, size) for array, size in own.items()]
    arguments += ["dt", *(f"{table}_values" for table in tables)]
    lines = ["struct Pieces {"]
    for number, piece in enumerate(pieces):
        known = {index: f"between[{slot}]" for index, slot in piece.loads}
        body, names = _operations(piece.nodes, suffix, known)
        body += [f"between[{slot}] = {names[index]};" for index, slot in piece.stores]
        if number == len(pieces) - 1:
            body += _stored(targets, values, names)
        lines += [f"static PIECE void piece{number}({', '.join(parameters)}) {{", FUSED, *body, "}"]
    lines += ["};", f"V all_between[GROUPS * {own['between']}];"]
    for number in range(len(pieces)):
        lines += [EACH_GROUP, f"    Pieces::piece{number}({', '.join(arguments)});"]
    return lines


def _indented(lines: list[str]) -> str:
    return "\n".join(line if line.startswith("#") else f"        {line}" for line in lines)


def _code(node: Node, operands: list[str], suffix: str) -> str:
    op = node.op
    if op is Op.CONSTANT:
        infinite = node.payload == math.inf
        return f"V(__builtin_inf{suffix}())" if infinite else f"V({node.payload!r}{suffix})"
    if op is Op.INPUT:
        array, element = node.payload
        return f"{array}[{element}]"
    if op is Op.GATHER:
        array, offset = node.payload
        return f"Elementary::gathered({array}_values, {operands[0]}, {offset})"
    if op in _INFIX:
        return f"{operands[0]} {_INFIX[op]} {operands[1]}"
    if op in _CALLS:
        return f"Elementary::{_CALLS[op]}({', '.join(operands)})"
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


_TRAIL = """
#if defined(__CUDA_ARCH__)
            const size_t stride = num_envs;
            T* const trail = trails + env;
#else
            const size_t stride = count_lanes(group);
            T* const trail = trails + (size_t)(env + group * LANES) * width;
#endif"""


def _polynomial(coefficients: tuple[str, ...]) -> str:
    """Horner's scheme in `r2`."""
    code = coefficients[-1]
    for coefficient in reversed(coefficients[:-1]):
        code = f"{coefficient} + r2 * ({code})"
    return code


def _prelude(scalar: str, lanes: int | None, groups: str) -> str:
    """Types, lanes and elementary functions; `env` is the first environment of the task.

    A task has `groups` groups of environments, the last of which may be short.
    """
    f = "f" if scalar == "float" else ""
    parts, sine, cosine = _TRIGONOMETRY[scalar]
    chosen = widest_lanes(scalar) if lanes is None else f"\n    enum {{ LANES = {lanes} }};"
    return f"""
#if defined(__CUDA_ARCH__)
    typedef {scalar} T;
    typedef T V;
    enum {{ LANES = 1, GROUPS = 1 }};
    #define PIECE __device__ __noinline__
    struct Elementary {{
        static __device__ V root(V x) {{ return sqrt{f}(x); }}
        static __device__ V sine(V x) {{ return sin{f}(x); }}
        static __device__ V cosine(V x) {{ return cos{f}(x); }}
        static __device__ V whole(V x) {{ return floor{f}(x); }}
        static __device__ V gathered(const T* p, V index, int offset) {{
            return p[(int)index + offset];
        }}
    }};
    // as if the numbers were others: what was computed of them is computed again, not kept
    #define ANEW(values, count) \\
        for (int k = 0; k < count; ++k) asm volatile("" : "+{f or "d"}"((values)[k]))
    auto load = [](const T* p) -> V {{ return *p; }};
    auto store = [](T* p, V x) {{ *p = x; }};
#else
    #pragma clang fp contract(fast)
    typedef {scalar} T;{chosen}
    typedef T V __attribute__((ext_vector_type(LANES)));
    typedef T Unaligned __attribute__((ext_vector_type(LANES), aligned(sizeof(T))));
    enum {{ GROUPS = {groups} }};
    #define PIECE __attribute__((noinline))
    #define ANEW(values, count)
    struct Elementary {{
        static V root(V x) {{ return __builtin_elementwise_sqrt(x); }}
        // sine of x + quarters pi/2; a number that is not finite gives NaN
        static V turn(V x, T quarters) {{
            {FUSED}
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
        }}
        static V sine(V x) {{ return turn(x, 0.0{f}); }}
        static V cosine(V x) {{ return turn(x, 1.0{f}); }}
        static V whole(V x) {{ return __builtin_elementwise_floor(x); }}
        static V gathered(const T* p, V index, int offset) {{
            V found;
            for (int l = 0; l < LANES; ++l)
                found[l] = p[(int)index[l] + offset];
            return found;
        }}
    }};
    auto load = [](const T* p) -> V {{ return *(const Unaligned*)p; }};
    auto store = [](T* p, V x) {{ *(Unaligned*)p = x; }};
#endif
    if (env % (LANES * GROUPS) != 0)
        return;
#if defined(__x86_64__) && !defined(__CUDA_ARCH__)
    // Gradients that die out leave the range of normal numbers, in which the processor takes ten
    // times as long: within a task those are zero.
    struct Flushing {{
        const unsigned before = __builtin_ia32_stmxcsr();
        Flushing() {{ __builtin_ia32_ldmxcsr(before | 0x8040); }}
        ~Flushing() {{ __builtin_ia32_ldmxcsr(before); }}
    }} flushing;
#endif
    const int num_envs = joint_q.shape[0];
    const int rest = (num_envs - env + LANES - 1) / LANES;
    const int groups = GROUPS == 1 || rest > GROUPS ? GROUPS : rest;
    // a short last vector repeats its last environment and stores it once
    auto count_lanes = [env, num_envs](int group) {{
        const int first = env + group * LANES;
        return num_envs - first < LANES ? num_envs - first : LANES;
    }};
    auto gather = [env, groups, count_lanes, load](V* values, const T* rows, int count) {{
        {EACH_GROUP} {{
            const int first = env + group * LANES, lanes = count_lanes(group);
            for (int k = 0; k < count; ++k) {{
                T lane[LANES];
                for (int l = 0; l < LANES; ++l)
                    lane[l] = rows[(size_t)(first + (l < lanes ? l : lanes - 1)) * count + k];
                values[group * count + k] = load(lane);
            }}
        }}
    }};
    auto scatter = [env, groups, count_lanes, store](
        T* rows, const V* values, int count, bool accumulate) {{
        {EACH_GROUP} {{
            const int first = env + group * LANES, lanes = count_lanes(group);
            for (int k = 0; k < count; ++k) {{
                T lane[LANES];
                store(lane, values[group * count + k]);
                for (int l = 0; l < lanes; ++l) {{
                    T* entry = rows + (size_t)(first + l) * count + k;
                    *entry = accumulate ? *entry + lane[l] : lane[l];
                }}
            }}
        }}
    }};
    // The trail of states: its elements lie `stride` apart, for a group's environments side by
    // side. A short vector's store runs over into the next element, stored after it, and at the
    // trail's end into LANES elements of padding.
    T* const trails = scratch.data;
    const size_t width = scratch.shape[1];
    auto keep = [env, num_envs, groups, count_lanes, trails, width, store](
        size_t first, const V* values, int count) {{
        {EACH_GROUP} {{
            {_TRAIL}
            for (int k = 0; k < count; ++k)
                store(trail + (first + k) * stride, values[group * count + k]);
        }}
    }};
    auto recall = [env, num_envs, groups, count_lanes, trails, width, load](
        size_t first, V* values, int count) {{
        {EACH_GROUP} {{
            {_TRAIL}
            for (int k = 0; k < count; ++k)
                values[group * count + k] = load(trail + (first + k) * stride);
        }}
    }};
"""


def forward_source(equations: StepEquations, scalar: str, lanes: int | None) -> str:
    """The step in C++, in "float" or "double", `lanes` environments a vector (None: as fit)."""
    nq, nv = equations.nq, equations.nv
    suffix = "f" if scalar == "float" else ""
    blocks = [equations.enter, equations.substep, equations.leave]
    varied = {"p": equations.num_parameters} if equations.num_parameters else {}
    coordinates = {"q": nq, **varied}
    sizes = {"q": nq, "qd": nv, "f": nv, "qdd": nv, **varied}
    renewed = ""
    if isinstance(equations, HeldStepEquations):
        blocks.append(equations.hold)
        sizes["held"] = max(equations.num_held, 1)
        hold = statements(equations.hold, suffix, sizes)
        renewed = _where(f"step % {equations.every} == 0", hold)
    groups = _groups(blocks)
    return f"""{_prelude(scalar, lanes, groups)}
    V {_declared(sizes)}, dt[1] = {{V(length)}};
    gather(all_q, joint_q.data, {nq});
    gather(all_qd, joint_qd.data, {nv});
    gather(all_f, joint_f.data, {nv});{_gathered(varied)}
    {{
{statements(equations.enter, suffix, coordinates)}
    }}
    for (int step = 0; step <= substeps; ++step) {{
        const size_t first = (size_t)step * {nq + 2 * nv};
        keep(first, all_q, {nq});
        keep(first + {nq}, all_qd, {nv});
        if (step == substeps)
            break;{renewed}
{statements(equations.substep, suffix, sizes)}
        keep(first + {nq + nv}, all_qdd, {nv});
    }}
    {{
{statements(equations.leave, suffix, coordinates)}
    }}
    scatter(next_joint_q.data, all_q, {nq}, false);
    scatter(next_joint_qd.data, all_qd, {nv}, false);
"""


def _where(condition: str, *code: str) -> str:
    """Code that runs in some substeps."""
    return "\n".join([f"\n        if ({condition}) {{", *code, "        }"])


def _gathered(varied: Mapping[str, int]) -> str:
    """What loads the numbers that vary, if any do."""
    return "".join(f"\n    gather(all_p, parameters.data, {n});" for n in varied.values())


def _adjoint_of_varied(count: int) -> tuple[str, str]:
    """What zeroes and what stores the adjoint of `count` numbers that vary, if there are any."""
    if not count:
        return "", ""
    stored = f"""
    if (T* rows = gradient(parameters, adj_parameters))
        scatter(rows, all_adj_p, {count}, true);"""
    return f"\n    V all_adj_p[GROUPS * {count}] = {{}};", stored


def _groups(blocks: Sequence[Block]) -> str:
    """How many groups a task has: one, unless code is so long that it pays to run it for more."""
    if max(len(live(block.values)) for block in blocks) <= LONGEST:
        return "1"
    return f"{GROUP_BYTES} / (LANES * sizeof(T))"


def _declared(sizes: Mapping[str, int]) -> str:
    return ", ".join(f"all_{array}[GROUPS * {size}]" for array, size in sizes.items())


def reverse_source(equations: StepEquations, scalar: str, lanes: int | None) -> str:
    """The step's adjoint; arguments as for `forward_source`."""
    nq, nv = equations.nq, equations.nv
    suffix = "f" if scalar == "float" else ""
    substep = [equations.substep_solve_reverse, equations.substep_reverse]
    blocks = [equations.leave_reverse, *substep, equations.enter_reverse]
    count = equations.num_parameters
    varied = {"p": count} if count else {}
    adjoint = {"adj_p": count} if count else {}
    coordinates = {"q": nq, "adj_q": nq, **varied, **adjoint}
    sizes = {**coordinates, "qd": nv, "f": nv, "qdd": nv, "adj_qd": nv, "adj_f": nv}
    sizes["multipliers"] = nv
    zeros, added = _adjoint_of_varied(count)
    held, renewed, entered = {}, "", ""
    if isinstance(equations, HeldStepEquations):
        every = equations.every
        blocks += [equations.hold, equations.hold_reverse]
        held = {"held": max(equations.num_held, 1)}
        sizes |= {**held, "adj_held": max(equations.num_adj_held, 1)}
        zeros += f"\n    V all_adj_held[GROUPS * {sizes['adj_held']}] = {{}};"
        last = f"step == substeps - 1 || step % {every} == {every - 1}"
        recalled = (
            f"            recall((size_t)(step - step % {every}) * {nq + 2 * nv}, all_q, {nq});"
        )
        renewed = _where(last, recalled, statements(equations.hold, suffix, sizes))
        entered = statements(equations.hold_reverse, suffix, sizes)
        entered = _where(f"step % {every} == 0", entered)
    groups = _groups(blocks)
    return f"""{_prelude(scalar, lanes, groups)}
    V {_declared({"q": nq, "qd": nv, "f": nv, "qdd": nv, **varied, **held})}, dt[1] = {{V(length)}};
    V all_adj_q[GROUPS * {nq}] = {{}}, all_adj_qd[GROUPS * {nv}] = {{}};
    V all_adj_f[GROUPS * {nv}] = {{}}, all_multipliers[GROUPS * {nv}];{zeros}
    // an array's gradient is what the launch names, else its own; without either it is zero
    auto gradient = [](const auto& array, const auto& adjoint) -> T* {{
        return adjoint.data ? adjoint.data : array.grad;
    }};
    if (const T* rows = gradient(next_joint_q, adj_next_joint_q))
        gather(all_adj_q, rows, {nq});
    if (const T* rows = gradient(next_joint_qd, adj_next_joint_qd))
        gather(all_adj_qd, rows, {nv});
    gather(all_f, joint_f.data, {nv});{_gathered(varied)}
    recall((size_t)substeps * {nq + 2 * nv}, all_q, {nq});
    {{
{statements(equations.leave_reverse, suffix, coordinates)}
    }}
    for (int step = substeps - 1; step >= 0; --step) {{
        const size_t first = (size_t)step * {nq + 2 * nv};{renewed}
        recall(first, all_q, {nq});
        recall(first + {nq}, all_qd, {nv});
        recall(first + {nq + nv}, all_qdd, {nv});
        {{
{statements(equations.substep_solve_reverse, suffix, sizes)}
        }}
        ANEW(all_q, {nq});
        ANEW(all_qd, {nv});
        {{
{statements(equations.substep_reverse, suffix, sizes)}
        }}{entered}
    }}
    gather(all_q, joint_q.data, {nq});
    {{
{statements(equations.enter_reverse, suffix, coordinates)}
    }}
    if (T* rows = gradient(joint_q, adj_joint_q))
        scatter(rows, all_adj_q, {nq}, true);
    if (T* rows = gradient(joint_qd, adj_joint_qd))
        scatter(rows, all_adj_qd, {nv}, true);
    if (T* rows = gradient(joint_f, adj_joint_f))
        scatter(rows, all_adj_f, {nv}, true);{added}
"""


def trail_width(nq: int, nv: int, substeps: int) -> int:
    """Columns of the scratch array, a row per environment."""
    return substeps * (nq + 2 * nv) + nq + nv + LANES
