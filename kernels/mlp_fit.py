"""Fits of a multilayer perceptron of one output by mean squared error, in one task: for a CPU.

All descents over all minibatches, with the networks' passes of `kernels.mlp_pass` and Adam's steps.
Besides saving what some thirty calls per descent cost, a thread that fits so never asks for
Python's lock, and whatever runs beside it never waits for that.
"""

from functools import cache

import warp as wp

from kernels.mlp_pass import backward_function, forward_function, prelude

SETTINGS = (
    "rate",
    "steps",  # that Adam has taken before
    "beta_1",  # Adam's, of the mean
    "beta_2",  # of the mean square
    "adam_epsilon",
    "max_norm",  # of the gradient
    "norm_epsilon",  # added to the norm that it is divided by
    "unit",  # prediction = unit * output + offset
    "offset",
)
"""Of a fit, in double precision."""


def _fit(scalar: str) -> str:
    columns = ", ".join(f"{name} = settings.data[{i}]" for i, name in enumerate(SETTINGS))
    return f"""{prelude(scalar)}{forward_function()}{backward_function()}
    const double {columns};
    const int count = inputs.shape[0], width = inputs.shape[1], parts = losses.shape[0];
    const int most = (count + parts - 1) / parts;  // rows of a minibatch; the last may have less
    const int size = parameters.shape[0];
    double step = steps;
    for (int iteration = 0; iteration < iterations; ++iteration)
        for (int part_number = 0; part_number < parts; ++part_number) {{
            const int start = part_number * most;
            const int m = count - start < most ? count - start : most;
            forward(inputs.data + (size_t)start * width, m, output.data);
            double loss = 0.0;
            for (int row = 0; row < m; ++row) {{
                const T error = T(unit) * output.data[row] + T(offset) - target.data[start + row];
                loss += (double)error * error;
                gradient.data[row] = T(2.0 * unit / m) * error;
            }}
            losses.data[part_number] = T(loss / m);
            for (int i = 0; i < size; ++i)
                totals.data[i] = T(0);
            backward(gradient.data, m, totals.data);
            double square_norm = 0.0;
            for (int i = 0; i < size; ++i)
                square_norm += (double)totals.data[i] * totals.data[i];
            const double shrink = max_norm / (sqrt(square_norm) + norm_epsilon);
            const T factor = shrink < 1.0 ? T(shrink) : (shrink == shrink ? T(1) : T(shrink));
            // Kingma & Ba 2015, section 2's order
            step += 1.0;
            const double correction = sqrt(1.0 - pow(beta_2, step));
            const T length = T(rate * correction / (1.0 - pow(beta_1, step)));
            const T least = T(adam_epsilon * correction);
            for (int i = 0; i < size; ++i) {{
                const T g = factor * totals.data[i];
                T& mean = means.data[i];
                T& square = squares.data[i];
                mean += T(1.0 - beta_1) * (g - mean);
                square = T(beta_2) * square + T(1.0 - beta_2) * g * g;
                parameters.data[i] -= length * mean / (T(sqrt(square)) + least);
            }}
        }}
"""


@cache
def mlp_fit_kernel(scalar: type) -> wp.Kernel:
    """A kernel to be launched with dimension 1, for networks of any sizes and one output.

    Arguments: plan and workspace as `kernels.mlp_pass.plan_pass` says for a minibatch's rows;
    epsilon of the normalisation; settings (`SETTINGS`); number of iterations; parameters (P,);
    Adam's mean and mean square (P,), continued; inputs (rows, num_inputs) and target (rows,);
    losses (minibatches,), those of the last iteration, each before its step; output and gradient
    (rows of a minibatch, 1) and totals (P,) to work in. All arrays are contiguous. Minibatches are
    contiguous rows, of equal size but for the last.

    Args:
        scalar: wp.float32 or wp.float64.
    """
    name = {wp.float32: "float", wp.float64: "double"}[scalar]
    matrix, vector = wp.array2d(dtype=scalar), wp.array(dtype=scalar)
    table, numbers = wp.array2d(dtype=int), wp.array(dtype=wp.float64)

    def fit_rows(
        plan: table,
        epsilon: scalar,
        settings: numbers,
        iterations: int,
        parameters: vector,
        means: vector,
        squares: vector,
        inputs: matrix,
        target: vector,
        losses: vector,
        output: matrix,
        gradient: matrix,
        totals: vector,
        workspace: vector,
    ): ...

    fit_rows.__name__ = fit_rows.__qualname__ = f"mlp_fit_{name}"  # Warp keeps them by name
    run = wp.func_native(_fit(name))(fit_rows)

    @wp.kernel(module="unique", enable_backward=False)
    def fit(
        plan: table,
        epsilon: scalar,
        settings: numbers,
        iterations: int,
        parameters: vector,
        means: vector,
        squares: vector,
        inputs: matrix,
        target: vector,
        losses: vector,
        output: matrix,
        gradient: matrix,
        totals: vector,
        workspace: vector,
    ):
        run(
            plan,
            epsilon,
            settings,
            iterations,
            parameters,
            means,
            squares,
            inputs,
            target,
            losses,
            output,
            gradient,
            totals,
            workspace,
        )

    return fit
