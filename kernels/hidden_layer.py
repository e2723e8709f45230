"""ELU and layer normalisation of rows, forward and backward, in one sweep each: for a CPU.

The hidden layers of the learner's networks. One Warp task does all rows, `LANES` neighbouring
numbers at a time, so a row of a layer is read from memory once. Written out as torch operations the
same takes seven sweeps forward and six backward.
"""

from functools import cache

import warp as wp

# e^r - 1 = r + r^2 (1/2! + r/3! + ...), |r| <= log(2)/2, to rounding
_TERMS = {"float": 6, "double": 13}
# log 2 in two parts, the first of which times a small integer is exact; where e^x is still normal
_LIMITS = {
    "float": ("0.693359375f", "-2.12194440e-4f", "-87.0f", "int", 23, 127),
    "double": (
        "6.93147180369123816490e-01",
        "1.90821492927058770002e-10",
        "-708.0",
        "long long",
        52,
        1023,
    ),
}


def _polynomial(terms: int) -> str:
    """1/2! + r/3! + ... by Horner's scheme."""
    factorial, coefficients = 1, []
    for n in range(2, terms + 2):
        factorial *= n
        coefficients.append(factorial)
    code = f"V(T(1) / T({coefficients[-1]}LL))"
    for denominator in reversed(coefficients[:-1]):
        code = f"V(T(1) / T({denominator}LL)) + r * ({code})"
    return code


def _prelude(scalar: str) -> str:
    """Types, and `sweep`, which calls a function for every vector of a row."""
    high, low, least, integer, bits, bias = _LIMITS[scalar]
    size = 4 if scalar == "float" else 8
    return f"""
    #pragma clang fp contract(fast)
    typedef {scalar} T;
#if defined(__AVX512F__)
    enum {{ LANES = {64 // size} }};
#elif defined(__AVX__)
    enum {{ LANES = {32 // size} }};
#else
    enum {{ LANES = {16 // size} }};
#endif
    typedef T V __attribute__((ext_vector_type(LANES)));
    typedef T Unaligned __attribute__((ext_vector_type(LANES), aligned(sizeof(T))));
    typedef {integer} I __attribute__((ext_vector_type(LANES)));
    const int rows = linear.shape[0], width = linear.shape[1];
    const int whole = width - width % LANES, rest = width - whole;
    auto load = [rest](const T* p, bool full) -> V {{
        if (full)
            return *(const Unaligned*)p;
        V v = V(T(0));
        for (int l = 0; l < rest; ++l)
            v[l] = p[l];
        return v;
    }};
    auto store = [rest](T* p, V v, bool full) {{
        if (full)
            *(Unaligned*)p = v;
        else
            for (int l = 0; l < rest; ++l)
                p[l] = v[l];
    }};
    V mask = V(T(0));  // of the lanes that a row's short last vector fills
    for (int l = 0; l < rest; ++l)
        mask[l] = T(1);
    auto total = [](V v) -> T {{
        T lane[LANES];
        *(Unaligned*)lane = v;
        for (int half = LANES / 2; half > 0; half /= 2)
            for (int l = 0; l < half; ++l)
                lane[l] += lane[l + half];
        return lane[0];
    }};
    // ELU: e^z - 1 below zero; e^z = 2^k e^r. What is not a number stays none.
    auto elu = [](V z) -> V {{
        V x = (z > V(T(0))) ? V(T(0)) : z;
        x = (x < V(T({least}))) ? V(T({least})) : x;
        const V k = __builtin_elementwise_roundeven(x * V(T(1.44269504088896340736)));
        const V r = (x - k * V(T({high}))) - k * V(T({low}));
        const V small = r + r * r * ({_polynomial(_TERMS[scalar])});
        const V finite = (k == k) ? k : V(T(0));
        const I power = (__builtin_convertvector(finite, I) + I({bias})) << I({bits});
        V scale;
        __builtin_memcpy(&scale, &power, sizeof(V));
        const V below = scale * small + (scale - V(T(1)));
        return (z > V(T(0))) ? z : below;
    }};
"""


def _forward(scalar: str) -> str:
    return f"""{_prelude(scalar)}
    for (int row = 0; row < rows; ++row) {{
        T* const z = linear.data + (size_t)row * width;
        T* const y = output.data + (size_t)row * width;
        V sum = V(T(0));
        for (int i = 0; i < width; i += LANES) {{
            const V e = elu(load(z + i, i < whole));  // elu(0) = 0 beyond the row's end
            store(z + i, e, i < whole);
            sum += e;
        }}
        const T average = total(sum) / T(width);
        V square = V(T(0));
        for (int i = 0; i < width; i += LANES) {{
            V d = load(z + i, i < whole) - V(average);
            if (i >= whole)
                d *= mask;
            square += d * d;
        }}
        const T s = T(1) / T(sqrt(total(square) / T(width) + epsilon));
        mean.data[row] = average;
        scale.data[row] = s;
        for (int i = 0; i < width; i += LANES) {{
            const bool full = i < whole;
            const V d = (load(z + i, full) - V(average)) * V(s);
            store(y + i, d * load(weight.data + i, full) + load(bias.data + i, full), full);
        }}
    }}
"""


def _backward(scalar: str) -> str:
    return f"""{_prelude(scalar)}
    (void)elu;
    for (int row = 0; row < rows; ++row) {{
        const T* const e = linear.data + (size_t)row * width;
        T* const g = gradient.data + (size_t)row * width;
        const V average = V(mean.data[row]), s = V(scale.data[row]);
        V sum = V(T(0)), product = V(T(0));
        for (int i = 0; i < width; i += LANES) {{
            const bool full = i < whole;
            const V seed = load(g + i, full);
            const V d = (load(e + i, full) - average) * s;
            const V weighted = seed * load(weight.data + i, full);  // zero beyond the row's end
            sum += weighted;
            product += weighted * d;
            store(of_weight.data + i, load(of_weight.data + i, full) + seed * d, full);
            store(of_bias.data + i, load(of_bias.data + i, full) + seed, full);
        }}
        const V a = V(total(sum) / T(width)), b = V(total(product) / T(width));
        for (int i = 0; i < width; i += LANES) {{
            const bool full = i < whole;
            const V value = load(e + i, full);
            const V d = (value - average) * s;
            const V slope = (value < V(T(0))) ? value + V(T(1)) : V(T(1));
            const V out = s * (load(g + i, full) * load(weight.data + i, full) - a - d * b) * slope;
            store(g + i, out, full);
            store(of_linear.data + i, load(of_linear.data + i, full) + out, full);
        }}
    }}
"""


@cache
def elu_layer_norm_kernels(scalar: type) -> tuple[wp.Kernel, wp.Kernel]:
    """Forward and backward kernel, to be launched with dimension 1.

    Arguments of the first: epsilon; linear (rows, width), replaced by its ELU; the normalisation's
    weight and bias (width,); output (rows, width); mean and scale (rows,), scale = 1/sqrt(variance
    + epsilon). Of the second: linear, weight, mean and scale as the first left them; gradient
    (rows, width), the output's, replaced by that with respect to `linear` before the ELU; of_weight
    and of_bias (width,), the normalisation's gradients, and of_linear (width,), the column sums of
    the new `gradient`, all three added to. All arrays are contiguous.

    Args:
        scalar: wp.float32 or wp.float64.
    """
    name = {wp.float32: "float", wp.float64: "double"}[scalar]
    matrix, vector = wp.array2d(dtype=scalar), wp.array(dtype=scalar)

    def forward_rows(
        epsilon: scalar,
        linear: matrix,
        weight: vector,
        bias: vector,
        output: matrix,
        mean: vector,
        scale: vector,
    ): ...

    def backward_rows(
        linear: matrix,
        weight: vector,
        mean: vector,
        scale: vector,
        gradient: matrix,
        of_weight: vector,
        of_bias: vector,
        of_linear: vector,
    ): ...

    # Warp keeps native functions by name
    forward_rows.__name__ = forward_rows.__qualname__ = f"elu_layer_norm_{name}"
    backward_rows.__name__ = backward_rows.__qualname__ = f"elu_layer_norm_backward_{name}"
    run_forward = wp.func_native(_forward(name))(forward_rows)
    run_backward = wp.func_native(_backward(name))(backward_rows)

    @wp.kernel(module="unique", enable_backward=False)
    def forward(
        epsilon: scalar,
        linear: matrix,
        weight: vector,
        bias: vector,
        output: matrix,
        mean: vector,
        scale: vector,
    ):
        run_forward(epsilon, linear, weight, bias, output, mean, scale)

    @wp.kernel(module="unique", enable_backward=False)
    def backward(
        linear: matrix,
        weight: vector,
        mean: vector,
        scale: vector,
        gradient: matrix,
        of_weight: vector,
        of_bias: vector,
        of_linear: vector,
    ):
        run_backward(linear, weight, mean, scale, gradient, of_weight, of_bias, of_linear)

    return forward, backward
