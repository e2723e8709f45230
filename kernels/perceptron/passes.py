"""Mean losses of a multilayer perceptron over many rows and their gradient, in one task: for a CPU.

Hidden layers are Linear -> ELU -> LayerNorm, the last one is linear. Rows go from the first layer
to the last, to their losses (`kernels.perceptron.losses`) and back in blocks that stay in the
cache, `LANES` neighbouring numbers of a row at a time; matrix products keep their sums in
registers. As torch operations this takes some fifty calls and sweeps through memory, which for
networks of a robot's size cost as much as the arithmetic.

A plan tells where everything lies. In the workspace a layer's rows are padded with zeros beyond a
multiple of `PAD` numbers, so that only the parameters, which are not, need care at a row's end.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

from kernels.perceptron.arithmetic import arithmetic

PAD = 32
"""Numbers: two of the widest vectors in single precision."""
BLOCK = 96
"""Rows worked on at a time."""

COLUMNS = (
    "inputs",  # numbers
    "outputs",
    "input_stride",  # numbers from a row to the next, in the workspace
    "output_stride",
    "weight",  # where in the parameters, (outputs, inputs)
    "bias",
    "norm_weight",
    "norm_bias",
    "transposed",  # where in the workspace: weight, (inputs, output_stride)
    "padded",  # weight, (outputs, input_stride)
    "of_weight",  # sums of the gradient, as `padded`
    "of_bias",  # (output_stride,), and after it those of norm_weight and norm_bias
    "change",  # of weight, as `transposed`
    "x",  # from here on of each block: what comes in, (BLOCK, input_stride)
    "z",  # before the activation, then ELU(z), (BLOCK, output_stride)
    "mean",  # of a row's ELU(z)
    "scale",  # 1/sqrt(variance + epsilon)
    "gradient",  # with respect to what goes out, then to z, (BLOCK, output_stride)
)
"""Of a layer in the plan."""


class Plan(NamedTuple):
    """Where everything lies."""

    layers: list[list[int]]
    """A row of `COLUMNS` for each."""
    shared: int
    """Numbers of the workspace that serve all rows."""
    block: int
    """More for each block of rows that is kept."""

    @property
    def size(self) -> int:
        """The workspace's, for a block at a time."""
        return self.shared + self.block


def plan_pass(sizes: Sequence[int]) -> Plan:
    """Lay out the passes of a network.

    Args:
        sizes: numbers of inputs, of each hidden layer's outputs, of outputs.

    Returns:
        The plan. The parameters are the layers' weights, their biases, the hidden layers'
        normalisation weights and biases, in this order.
    """
    layers = list(pairwise(sizes))
    hidden = layers[:-1]
    # An odd number of cache lines (in single precision): were it a power of two, neighbouring rows
    # would compete for the same few places in the cache.
    strides = [-(-size // PAD) * PAD + PAD // 2 for size in sizes]
    used = 0

    def take(count: int) -> int:
        nonlocal used
        used += count
        return used - count

    parameters = [
        [take(i * o) for i, o in layers],
        [take(o) for _, o in layers],
        [*(take(o) for _, o in hidden), 0],
        [*(take(o) for _, o in hidden), 0],
    ]
    used = 0
    ends = list(zip(layers, pairwise(strides), strict=True))
    of_weights = [
        [take(n) for n in (i * to, o * start, o * start, 3 * to, i * to)]
        for (i, o), (start, to) in ends
    ]
    shared = used
    of_rows = [[take(BLOCK * n) for n in (start, to, 1, 1, to)] for _, (start, to) in ends]
    plan = [
        [*numbers, *steps, *p, *w, *r]
        for (numbers, steps), p, w, r in zip(
            ends, zip(*parameters, strict=True), of_weights, of_rows, strict=True
        )
    ]
    return Plan(plan, shared, used - shared)


def prelude(scalar: str) -> str:
    """C++: `arithmetic`, and the plan's columns by name."""
    columns = ", ".join(name.upper() for name in COLUMNS)
    return f"""{arithmetic(scalar)}
    enum {{ {columns} }};
    const int layers = plan.shape[0];
    long rows_at = 0;  // of the block of rows that is worked on, in the workspace
    auto at = [&](int layer, int column) -> long {{
        return plan.data[layer * plan.shape[1] + column] + (column < X ? 0 : rows_at);
    }};
    T* const work = workspace.data;
"""


_PACKING = f"""
    // A layer's matrix out of numbers laid out as the parameters
    auto transpose = [&](int l, const T* from_parameters, T* transposed) {{
        const T* const weight = from_parameters + at(l, WEIGHT);
        const int from = at(l, INPUTS), to = at(l, OUTPUTS), stride = at(l, OUTPUT_STRIDE);
        for (int i = 0; i < from; ++i)
            for (int o = 0; o < stride; ++o)
                transposed[i * stride + o] = o < to ? weight[o * from + i] : T(0);
    }};
    auto clear = [&]() {{
        for (int l = 0; l < layers; ++l) {{
            for (int i = 0; i < at(l, OUTPUTS) * at(l, INPUT_STRIDE); ++i)
                work[at(l, OF_WEIGHT) + i] = T(0);
            for (int i = 0; i < 3 * at(l, OUTPUT_STRIDE); ++i)
                work[at(l, OF_BIAS) + i] = T(0);
        }}
    }};
    auto pack = [&](bool back) {{
        for (int l = 0; l < layers; ++l) {{
            transpose(l, parameters.data, work + at(l, TRANSPOSED));
            if (!back)
                continue;
            const T* const weight = parameters.data + at(l, WEIGHT);
            const int from = at(l, INPUTS), from_stride = at(l, INPUT_STRIDE);
            T* const padded = work + at(l, PADDED);
            for (int o = 0; o < at(l, OUTPUTS); ++o)
                for (int i = 0; i < from_stride; ++i)
                    padded[o * from_stride + i] = i < from ? weight[o * from + i] : T(0);
        }}
        if (back)
            clear();
        const int last = layers - 1;
        for (int i = 0; back && i < {BLOCK} * at(last, OUTPUT_STRIDE); ++i)
            work[at(last, GRADIENT) + i] = T(0);  // and beyond a row's end it stays so
    }};
"""
"""Weights to the workspace, with sums of zero."""

_ACTIVATION = """
    // A hidden layer's ELU and LayerNorm of some rows of z, to the next layer's x
    auto activate = [&](int l, auto* height, int row) {
        enum { M = sizeof(*height) };
        const int to = at(l, OUTPUTS);
        const size_t stride = at(l, OUTPUT_STRIDE);
        const T* const bias = parameters.data + at(l, BIAS);
        const T* const norm_weight = parameters.data + at(l, NORM_WEIGHT);
        const T* const norm_bias = parameters.data + at(l, NORM_BIAS);
        T* const z = work + at(l, Z) + row * stride;
        T* const y = work + at(l + 1, X) + row * stride;
        V sum[M], square[M];
        for (int r = 0; r < M; ++r)
            sum[r] = square[r] = V(T(0));
        for (int i = 0; i < to; i += LANES) {
            const V b = load_part(bias + i, to - i);
            for (int r = 0; r < M; ++r) {
                const V e = elu(load(z + r * stride + i) + b);
                store(z + r * stride + i, e);  // zero beyond the row's end
                sum[r] += e;
            }
        }
        V average[M], scale[M];
        for (int r = 0; r < M; ++r)
            average[r] = V(total(sum[r]) / T(to));
        for (int i = 0; i < to; i += LANES)
            for (int r = 0; r < M; ++r) {
                const V d = part(load(z + r * stride + i) - average[r], to - i);
                square[r] += d * d;
            }
        for (int r = 0; r < M; ++r) {
            const T s = T(1) / T(sqrt(total(square[r]) / T(to) + epsilon));
            work[at(l, MEAN) + row + r] = average[r][0];
            work[at(l, SCALE) + row + r] = s;
            scale[r] = V(s);
        }
        for (int i = 0; i < (int)stride; i += LANES) {
            const V w = load_part(norm_weight + i, to - i), b = load_part(norm_bias + i, to - i);
            for (int r = 0; r < M; ++r) {
                const V d = (load(z + r * stride + i) - average[r]) * scale[r];
                store(y + r * stride + i, i < to ? d * w + b : V(T(0)));
            }
        }
    };
    // What `activate` has left of some rows, and sums to begin with
    auto begin_norm = [&](int l, int row, int count, V* average, V* s, V* sum, V* along) {
        for (int r = 0; r < count; ++r) {
            average[r] = V(work[at(l, MEAN) + row + r]);
            s[r] = V(work[at(l, SCALE) + row + r]);
            sum[r] = along[r] = V(T(0));
        }
    };
    // The same backwards: the gradient with respect to the LayerNorm's output becomes that to z
    auto reverse = [&](int l, auto* height, int row) {
        enum { M = sizeof(*height) };
        const int to = at(l, OUTPUTS);
        const size_t stride = at(l, OUTPUT_STRIDE);
        const T* const norm_weight = parameters.data + at(l, NORM_WEIGHT);
        T* const of_bias = work + at(l, OF_BIAS);
        T* const of_norm_weight = of_bias + stride;
        T* const of_norm_bias = of_norm_weight + stride;
        T* const g = work + at(l, GRADIENT) + row * stride;
        const T* const e = work + at(l, Z) + row * stride;
        V average[M], s[M], sum[M], along[M];
        begin_norm(l, row, M, average, s, sum, along);
        for (int i = 0; i < to; i += LANES) {
            const V weight = load_part(norm_weight + i, to - i);
            V of_weight = load(of_norm_weight + i), of_offset = load(of_norm_bias + i);
            for (int r = 0; r < M; ++r) {
                const V seed = load(g + r * stride + i);  // zero beyond the row's end
                const V d = (load(e + r * stride + i) - average[r]) * s[r];
                const V weighted = seed * weight;
                sum[r] += weighted;
                along[r] += weighted * d;
                of_weight += seed * d;
                of_offset += seed;
            }
            store(of_norm_weight + i, of_weight);
            store(of_norm_bias + i, of_offset);
        }
        for (int r = 0; r < M; ++r) {
            sum[r] = V(total(sum[r]) / T(to));
            along[r] = V(total(along[r]) / T(to));
        }
        for (int i = 0; i < to; i += LANES) {
            const V weight = load_part(norm_weight + i, to - i);
            V of_sum = load(of_bias + i);
            for (int r = 0; r < M; ++r) {
                const V value = load(e + r * stride + i);
                const V d = (value - average[r]) * s[r];
                const V slope = (value < V(T(0))) ? value + V(T(1)) : V(T(1));
                const V weighted = load(g + r * stride + i) * weight;
                const V out = s[r] * (weighted - sum[r] - d * along[r]) * slope;
                store(g + r * stride + i, out);
                of_sum += out;
            }
            store(of_bias + i, of_sum);
        }
    };
"""
"""Between a layer's matrix product and the next, forward and back."""

_PASSES = """
    auto forward = [&](const T* inputs, int m, T* output) {
        const int width = at(0, INPUTS), padded = at(0, INPUT_STRIDE);
        for (int row = 0; row < m; ++row)
            for (int i = 0; i < padded; ++i)
                work[at(0, X) + row * padded + i] = i < width ? inputs[row * width + i] : T(0);
        for (int l = 0; l < layers; ++l) {
            const int to = at(l, OUTPUTS);
            const size_t from_stride = at(l, INPUT_STRIDE), stride = at(l, OUTPUT_STRIDE);
            T* const z = work + at(l, Z);
            product(m, to, at(l, INPUTS), work + at(l, X), from_stride, 1,
                    work + at(l, TRANSPOSED), stride, z, stride, false);
            if (l < layers - 1) {
                in_fours(m, [&](auto* height, int row) { activate(l, height, row); });
                continue;
            }
            const T* const bias = parameters.data + at(l, BIAS);
            for (int row = 0; row < m; ++row)
                for (int o = 0; o < to; ++o)
                    output[row * to + o] = z[row * stride + o] + bias[o];
        }
    };
    // From the gradient with respect to what a layer gives, to that to what it takes
    auto to_inputs = [&](int l, int m, T* gradient) {
        const size_t from_stride = at(l, INPUT_STRIDE), stride = at(l, OUTPUT_STRIDE);
        product(m, at(l, INPUTS), at(l, OUTPUTS), work + at(l, GRADIENT), stride, 1,
                work + at(l, PADDED), from_stride, gradient, from_stride, false);
    };
    auto backward = [&](int m) {
        for (int l = layers - 1; l >= 0; --l) {
            const int from = at(l, INPUTS), to = at(l, OUTPUTS);
            const size_t from_stride = at(l, INPUT_STRIDE), stride = at(l, OUTPUT_STRIDE);
            T* const first = work + at(l, GRADIENT);
            if (l < layers - 1)
                in_fours(m, [&](auto* height, int row) { reverse(l, height, row); });
            else
                for (int row = 0; row < m; ++row)
                    for (int o = 0; o < to; ++o)
                        work[at(l, OF_BIAS) + o] += first[row * stride + o];
            product(to, from, m, first, 1, stride, work + at(l, X), from_stride,
                    work + at(l, OF_WEIGHT), from_stride, true);
            if (l > 0)
                to_inputs(l, m, work + at(l - 1, GRADIENT));
        }
    };
    // The same with respect to the inputs alone, (m, INPUT_STRIDE), which it returns; what
    // `reverse` adds to the parameters' sums is nobody's
    auto backward_to_inputs = [&](int m) -> const T* {
        T* const inputs = work + at(0, X);  // no longer needed
        for (int l = layers - 1; l >= 0; --l) {
            if (l < layers - 1)
                in_fours(m, [&](auto* height, int row) { reverse(l, height, row); });
            to_inputs(l, m, l > 0 ? work + at(l - 1, GRADIENT) : inputs);
        }
        return inputs;
    };
    (void)backward, (void)backward_to_inputs;
"""
"""A block of rows through all layers."""

_TANGENT = """
    // What a hidden layer's ELU and LayerNorm make of a change of its linear outcome, in some rows
    // of `gradient`, and of one of their own parameters
    auto carry = [&](int l, const T* change, auto* height, int row) {
        enum { M = sizeof(*height) };
        const int to = at(l, OUTPUTS);
        const size_t stride = at(l, OUTPUT_STRIDE);
        const T* const norm_weight = parameters.data + at(l, NORM_WEIGHT);
        T* const t = work + at(l, GRADIENT) + row * stride;
        const T* const e = work + at(l, Z) + row * stride;
        V average[M], s[M], sum[M], along[M];
        begin_norm(l, row, M, average, s, sum, along);
        for (int i = 0; i < to; i += LANES) {
            const V of_bias = load_part(change + at(l, BIAS) + i, to - i);
            for (int r = 0; r < M; ++r) {
                const V value = load(e + r * stride + i);
                const V slope = (value < V(T(0))) ? value + V(T(1)) : V(T(1));
                const V z = (load(t + r * stride + i) + of_bias) * slope;
                store(t + r * stride + i, z);  // zero beyond the row's end
                sum[r] += z;
                along[r] += z * ((value - average[r]) * s[r]);
            }
        }
        for (int r = 0; r < M; ++r) {
            sum[r] = V(total(sum[r]) / T(to));
            along[r] = V(total(along[r]) / T(to));
        }
        for (int i = 0; i < to; i += LANES) {
            const V weight = load_part(norm_weight + i, to - i);
            const V of_weight = load_part(change + at(l, NORM_WEIGHT) + i, to - i);
            const V of_offset = load_part(change + at(l, NORM_BIAS) + i, to - i);
            for (int r = 0; r < M; ++r) {
                const V d = (load(e + r * stride + i) - average[r]) * s[r];
                const V moved = s[r] * (load(t + r * stride + i) - sum[r] - d * along[r]);
                store(t + r * stride + i, moved * weight + d * of_weight + of_offset);
            }
        }
    };
    auto pack_change = [&](const T* change) {
        for (int l = 0; l < layers; ++l)
            transpose(l, change, work + at(l, CHANGE));
    };
    // After `forward` and `pack_change`: the outputs' change for one of the parameters, which is
    // laid out as they are
    auto move = [&](const T* change, int m, T* output) {
        for (int l = 0; l < layers; ++l) {
            const int from = at(l, INPUTS), to = at(l, OUTPUTS);
            const size_t from_stride = at(l, INPUT_STRIDE), stride = at(l, OUTPUT_STRIDE);
            T* const t = work + at(l, GRADIENT);
            product(m, to, from, work + at(l, X), from_stride, 1, work + at(l, CHANGE), stride, t,
                    stride, false);
            if (l > 0)
                product(m, to, from, work + at(l - 1, GRADIENT), from_stride, 1,
                        work + at(l, TRANSPOSED), stride, t, stride, true);
            if (l < layers - 1) {
                in_fours(m, [&](auto* height, int row) { carry(l, change, height, row); });
                continue;
            }
            for (int row = 0; row < m; ++row)
                for (int o = 0; o < to; ++o)
                    output[row * to + o] = t[row * stride + o] + change[at(l, BIAS) + o];
        }
    };
"""
"""Forward differentiation of a block of rows (J v, of the outputs' derivative J)."""

_UNPACKING = """
    auto unpack = [&](T* totals) {
        for (int l = 0; l < layers; ++l) {
            const int from = at(l, INPUTS), to = at(l, OUTPUTS);
            const size_t from_stride = at(l, INPUT_STRIDE), stride = at(l, OUTPUT_STRIDE);
            for (int o = 0; o < to; ++o) {
                const T* const sums = work + at(l, OF_BIAS) + o;
                totals[at(l, BIAS) + o] = sums[0];
                if (l < layers - 1) {
                    totals[at(l, NORM_WEIGHT) + o] = sums[stride];
                    totals[at(l, NORM_BIAS) + o] = sums[2 * stride];
                }
                for (int i = 0; i < from; ++i)
                    totals[at(l, WEIGHT) + o * from + i] =
                        work[at(l, OF_WEIGHT) + o * from_stride + i];
            }
        }
    };
"""
"""The sums to where the parameters' gradients belong."""


def passes() -> str:
    """C++, after the prelude: ``pack(back)``, then blocks of rows ``forward`` and back."""
    return f"{_PACKING}{_ACTIVATION}{_PASSES}"


def linear_passes() -> str:
    """C++, after the prelude: `passes`, and of what `forward` did ``move(change, m, output)``.

    ``pack_change(change)`` before it; ``clear()`` and ``unpack(totals)`` before and after all
    blocks' `backward`. Of several blocks `rows_at` says which it is.
    """
    return f"{passes()}{_TANGENT}{_UNPACKING}"


def sweep() -> str:
    """C++, after the prelude: all rows forward and, unless there are no `totals`, back.

    ``sample(row, out, gradient)`` sees each row's output and writes its loss's gradient with
    respect to it, of which `totals` (P,) become the sum over rows.
    """
    return f"""{passes()}{_UNPACKING}
    auto sweep = [&](const T* inputs, int rows, T* output, T* totals, auto sample) {{
        const int last = layers - 1, width = at(0, INPUTS), to = at(last, OUTPUTS);
        pack(totals != 0);
        for (int start = 0; start < rows; start += {BLOCK}) {{
            const int m = rows - start < {BLOCK} ? rows - start : {BLOCK};
            T* const out = output + (size_t)start * to;
            forward(inputs + (size_t)start * width, m, out);
            for (int row = 0; row < m; ++row)
                sample(start + row, out + row * to,
                       work + at(last, GRADIENT) + row * at(last, OUTPUT_STRIDE));
            if (totals)
                backward(m);
        }}
        if (totals)
            unpack(totals);
    }};
"""
