"""C++ that vehicles in a CPU's vectors have in common: types, looks by index, functions."""

from collections.abc import Callable
from hashlib import sha256
from math import factorial

import warp as wp

from kernels.compiled.step_equations import Block
from kernels.compiled.tracer import Expression
from kernels.vector_width import widest_lanes


def vectors(scalar: str) -> str:
    """Vectors of numbers and of indices, how they are loaded, stored and looked up."""
    names = {
        "float": ("siv16sf", "siv16si", "short", 4),
        "double": ("siv8df", "3siv8si", "char", 8),
    }
    kind, integers, mask, size = names[scalar]
    return f"""
    #pragma clang fp contract(fast)
    typedef {scalar} T;{widest_lanes(scalar)}
    typedef T V __attribute__((ext_vector_type(LANES)));
    typedef T Unaligned __attribute__((ext_vector_type(LANES), aligned(sizeof(T))));
    typedef int I __attribute__((ext_vector_type(LANES)));
    typedef int UnalignedI __attribute__((ext_vector_type(LANES), aligned(sizeof(int))));
    auto load = [](const T* p, int lanes) -> V {{
        if (lanes == LANES)
            return *(const Unaligned*)p;
        V v = V(T(1));  // of no vehicle: anything that gives no trouble
        for (int l = 0; l < lanes; ++l)
            v[l] = p[l];
        return v;
    }};
    auto store = [](T* p, V v, int lanes) {{
        if (lanes == LANES)
            *(Unaligned*)p = v;
        else
            for (int l = 0; l < lanes; ++l)
                p[l] = v[l];
    }};
    // -1 for no vehicle
    auto load_indices = [](const int* p, int lanes) -> I {{
        if (lanes == LANES)
            return *(const UnalignedI*)p;
        I found = I(-1);
        for (int l = 0; l < lanes; ++l)
            found[l] = p[l];
        return found;
    }};
    I counted;
    for (int l = 0; l < LANES; ++l)
        counted[l] = l;
    auto look_up = [](const T* p, I at) -> V {{
#if defined(__AVX512F__)
        return __builtin_ia32_gather{kind}(V(T(0)), p, at, (unsigned {mask})-1, {size});
#else
        V found;
        for (int l = 0; l < LANES; ++l)
            found[l] = p[at[l]];
        return found;
#endif
    }};
    auto look_up_indices = [](const int* p, I at) -> I {{
#if defined(__AVX512F__) && defined(__AVX512VL__)
        return __builtin_ia32_gather{integers}(I(0), p, at, (unsigned {mask})-1, 4);
#else
        I found;
        for (int l = 0; l < LANES; ++l)
            found[l] = p[at[l]];
        return found;
#endif
    }};
    // Of places that differ from each other; those below zero are none.
    auto add_to = [&](T* p, I at, V v, int lanes) {{
#if defined(__AVX512F__)
        unsigned {mask} mask = 0;
        for (int l = 0; l < LANES; ++l)
            mask |= (unsigned {mask})((at[l] >= 0) << l);
        const V before = __builtin_ia32_gather{kind}(V(T(0)), p, at, mask, {size});
        __builtin_ia32_scatter{kind}(p, mask, at, before + v, {size});
#else
        for (int l = 0; l < lanes; ++l)
            if (at[l] >= 0)
                p[at[l]] += v[l];
#endif
    }};
    (void)store, (void)add_to, (void)look_up_indices;
"""


def elementary(scalar: str) -> str:
    """What `kernels.compiled.cpp.straight_line` calls, in "float" or "double"."""
    return f"""
    struct Elementary {{
        static V root(V x) {{ return __builtin_elementwise_sqrt(x); }}
        static V each(T (*function)(T), V x) {{
            V y;
            for (int l = 0; l < LANES; ++l)
                y[l] = function(x[l]);
            return y;
        }}
        static T log(T a) {{ return wp::log(a); }}
{_tanh(scalar)}
        static V logarithm(V x) {{ return each(log, x); }}
        static bool all(V x, T value) {{ return __builtin_reduce_and(x == V(value)) != 0; }}
        // zero for a <= 0; products where everybody's exponent is the usual one
        static V power(V a, V b) {{
            V y;
            if (all(b, T(4)))
                y = a * a * a * a;
            else if (all(b, T(3)))
                y = a * a * a;
            else
                for (int l = 0; l < LANES; ++l)
                    y[l] = a[l] > T(0) ? wp::pow(a[l], b[l]) : T(0);
            return (a > V(T(0))) ? y : V(T(0));
        }}
    }};
"""


# ln 2 in two parts, of which the first times a whole number below 64 is exact; terms of the series.
_TANH = {
    "float": ("0.693359375f", "-2.12194440e-4f", 8, "int", 23, 127),
    "double": (
        "6.93147180369123816490e-01",
        "1.90821492927058770002e-10",
        13,
        "long long",
        52,
        1023,
    ),
}


def _tanh(scalar: str) -> str:
    """Tanh x = t / (t + 2) with t = e^(2 |x|) - 1 = 2^n (e^r - 1) + 2^n - 1, |r| <= ln(2) / 2.

    e^r - 1 by its series. Within 1.5 units in the last place; beyond 20 it is 1.
    """
    high, low, terms, bits, shift, bias = _TANH[scalar]
    series = f"V(T({1.0 / factorial(terms)!r}))"
    for n in range(terms - 1, 1, -1):
        series = f"(V(T({1.0 / factorial(n)!r})) + r * {series})"
    return f"""        static V hyperbolic_tangent(V x) {{
            #pragma clang fp contract(fast)
            typedef {bits} Bits __attribute__((ext_vector_type(LANES)));
            const V size = __builtin_elementwise_abs(x);
            const V y = V(T(2)) * ((size > V(T(20))) ? V(T(20)) : size);
            const V n = __builtin_elementwise_floor(y * V(T(1.4426950408889634)) + V(T(0.5)));
            const V r = (y - n * V(T({high}))) - n * V(T({low}));
            const V rise = r + r * r * {series};
            const Bits exponent = (__builtin_convertvector(n, Bits) + Bits({bias})) << {shift};
            const V power = (V)exponent;
            const V t = power * rise + (power - V(T(1)));
            return __builtin_elementwise_copysign(t / (t + V(T(2))), x);
        }}"""


def native(stub: Callable[..., None], source: str) -> wp.Function:
    """A function of Warp with the stub's parameters, in C++."""
    # Warp keeps native functions by name; a source's own name keeps them apart
    digest = sha256(source.encode()).hexdigest()[:16]
    stub.__name__ = stub.__qualname__ = f"{stub.__name__}_{digest}"
    return wp.func_native(source)(stub)


def stored(values: list[Expression]) -> Block:
    """A straight line that leaves these in o, in this order."""
    return Block(tuple(("o", i) for i in range(len(values))), tuple(values), ranks={})
