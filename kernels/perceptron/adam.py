"""Adam's steps (Kingma & Ba 2015) on a vector of parameters, in one task: for a CPU."""

from functools import cache
from typing import NamedTuple

import warp as wp

from kernels.perceptron.arithmetic import vectors
from kernels.perceptron.native_task import C_TYPES, NativeTask, native_task


class AdamSettings(NamedTuple):
    """Of a step; kernels take them in this order, in double precision."""

    rate: float
    steps: int
    """Taken before."""
    beta_1: float
    """Of the mean."""
    beta_2: float
    """Of the mean square."""
    adam_epsilon: float
    max_norm: float
    """Of the gradient; infinity: any."""
    norm_epsilon: float
    """Added to the norm that it is divided by."""


def adam_step() -> str:
    """C++: ``adam(step, gradient, parameters, means, squares, size)``.

    After `kernels.perceptron.arithmetic.vectors` and the numbers of `AdamSettings`. `step` counts
    from 1 and includes this one.
    """
    return """
    typedef double Doubles __attribute__((ext_vector_type(LANES)));
    auto adam = [&](double step, const T* gradient, T* parameters, T* means, T* squares, int size) {
        T factor = T(1);
        if (max_norm < INFINITY) {
            Doubles sum = Doubles(0.0);
            for (int i = 0; i < size; i += LANES) {
                const V part = load_part(gradient + i, size - i);
                const Doubles g = __builtin_convertvector(part, Doubles);
                sum += g * g;
            }
            double square_norm = 0.0;
            for (int l = 0; l < LANES; ++l)
                square_norm += sum[l];
            const double shrink = max_norm / (sqrt(square_norm) + norm_epsilon);
            factor = shrink < 1.0 ? T(shrink) : (shrink == shrink ? T(1) : T(shrink));
        }
        // Section 2's order: both bias corrections in the rate, and epsilon scaled to suit
        const double correction = sqrt(1.0 - pow(beta_2, step));
        const V length = V(T(rate * correction / (1.0 - pow(beta_1, step))));
        const V least = V(T(adam_epsilon * correction));
        for (int i = 0; i < size; i += LANES) {
            const int left = size - i;
            const V g = V(factor) * load_part(gradient + i, left);
            V mean = load_part(means + i, left), square = load_part(squares + i, left);
            mean += V(T(1.0 - beta_1)) * (g - mean);
            square = V(T(beta_2)) * square + V(T(1.0 - beta_2)) * g * g;
            const V step_back = length * mean / (__builtin_elementwise_sqrt(square) + least);
            store_part(means + i, mean, left);
            store_part(squares + i, square, left);
            store_part(parameters + i, load_part(parameters + i, left) - step_back, left);
        }
    };
"""


@cache
def adam_task(scalar: type) -> NativeTask:
    """One step.

    Arguments: settings (`AdamSettings`); gradient, parameters, Adam's mean and mean square, (P,)
    each, of which the last three are changed.

    Args:
        scalar: wp.float32 or wp.float64.
    """
    name, vector = C_TYPES[scalar], wp.array(dtype=scalar)
    columns = ", ".join(
        f"{setting} = settings.data[{i}]" for i, setting in enumerate(AdamSettings._fields)
    )
    code = f"""{vectors(name)}
    const double {columns};
{adam_step()}
    adam(steps + 1.0, gradient.data, parameters.data, means.data, squares.data,
         parameters.shape[0]);
"""
    arguments = {"settings": wp.array(dtype=wp.float64), "gradient": vector, "parameters": vector}
    arguments |= {"means": vector, "squares": vector}
    return native_task(f"adam_{name}", code, arguments)
