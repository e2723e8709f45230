"""C++ on vectors as wide as the processor's: loads, sums, an activation, a matrix product.

Each is a block of text that a native task is made of, for a CPU.
"""

from kernels.vector_width import widest_lanes

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


def vectors(scalar: str) -> str:
    """C++: a vector type, as wide as the processor's, and how it is loaded, stored and summed."""
    return f"""
    #pragma clang fp contract(fast)
    typedef {scalar} T;{widest_lanes(scalar)}
    typedef T V __attribute__((ext_vector_type(LANES)));
    typedef T Unaligned __attribute__((ext_vector_type(LANES), aligned(sizeof(T))));
    auto load = [](const T* p) -> V {{ return *(const Unaligned*)p; }};
    auto store = [](T* p, V v) {{ *(Unaligned*)p = v; }};
    auto load_part = [&](const T* p, int count) -> V {{  // zeros beyond `count` numbers
        if (count >= LANES)
            return load(p);
        V v = V(T(0));
        for (int l = 0; l < count; ++l)
            v[l] = p[l];
        return v;
    }};
    auto store_part = [&](T* p, V v, int count) {{
        if (count >= LANES)
            return store(p, v);
        for (int l = 0; l < count; ++l)
            p[l] = v[l];
    }};
    (void)load_part, (void)store_part;
"""


def arithmetic(scalar: str) -> str:
    """C++: `vectors`, and functions on vectors, rows and matrices."""
    integer = _LIMITS[scalar][3]
    return f"""{vectors(scalar)}
    typedef {integer} I __attribute__((ext_vector_type(LANES)));
    auto part = [&](V v, int count) -> V {{
        for (int l = count; l < LANES; ++l)
            v[l] = T(0);
        return v;
    }};
    // Rows by fours, whose arithmetic overlaps, then the rest one by one.
    auto in_fours = [](int m, auto work_on) {{
        int row = 0;
        for (; row + 4 <= m; row += 4)
            work_on((char(*)[4])0, row);
        for (; row < m; ++row)
            work_on((char(*)[1])0, row);
    }};
    auto total = [](V v) -> T {{
        T lane[LANES];
        *(Unaligned*)lane = v;
        for (int half = LANES / 2; half > 0; half /= 2)
            for (int l = 0; l < half; ++l)
                lane[l] += lane[l + half];
        return lane[0];
    }};
{_elu(scalar)}{_PRODUCT}"""


def _elu(scalar: str) -> str:
    high, low, least, _, bits, bias = _LIMITS[scalar]
    return f"""    // ELU: e^z - 1 below zero; e^z = 2^k e^r. What is not a number stays none.
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


_PRODUCT = """
    // c (m, n) = a b, or c += a b: a's element (i, p) lies at a[i row + p column], b is (p, n).
    // M rows and two vectors of columns at a time, whose sums fill a CPU's registers.
    auto tile = [&](auto* height, int k, const T* a, size_t row, size_t column, const T* b,
                    size_t b_stride, T* c, size_t c_stride, bool add) {
        enum { M = sizeof(*height) };
        V sum[M][2];
        for (int i = 0; i < M; ++i)
            for (int v = 0; v < 2; ++v)
                sum[i][v] = add ? load(c + i * c_stride + v * LANES) : V(T(0));
        for (int p = 0; p < k; ++p) {
            const V left = load(b + p * b_stride), right = load(b + p * b_stride + LANES);
            for (int i = 0; i < M; ++i) {
                const V factor = V(a[i * row + p * column]);
                sum[i][0] += factor * left;
                sum[i][1] += factor * right;
            }
        }
        for (int i = 0; i < M; ++i)
            for (int v = 0; v < 2; ++v)
                store(c + i * c_stride + v * LANES, sum[i][v]);
    };
    auto product = [&](int m, int n, int k, const T* a, size_t row, size_t column, const T* b,
                       size_t b_stride, T* c, size_t c_stride,
                       bool add) {
        for (int j = 0; j < n; j += 2 * LANES) {
            int i = 0;
            for (; i + 6 <= m; i += 6)
                tile((char(*)[6])0, k, a + i * row, row, column, b + j, b_stride,
                     c + i * c_stride + j, c_stride, add);
            for (; i + 2 <= m; i += 2)
                tile((char(*)[2])0, k, a + i * row, row, column, b + j, b_stride,
                     c + i * c_stride + j, c_stride, add);
            for (; i < m; ++i)
                tile((char(*)[1])0, k, a + i * row, row, column, b + j, b_stride,
                     c + i * c_stride + j, c_stride, add);
        }
    };
"""
