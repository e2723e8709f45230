"""A multilayer perceptron as a function of its inputs, and its reverse, as a kernel: for a CPU."""

from functools import cache

import warp as wp

from kernels.mlp_pass import BLOCK, passes, prelude

PACK, FORWARD, BACKWARD = range(3)
"""What a launch does."""


@cache
def mlp_function_kernel(scalar: type) -> wp.Kernel:
    """A kernel to be launched with dimension 1, for networks of any sizes.

    Arguments: plan and workspace as `kernels.mlp_pass.plan_pass` says; epsilon of the
    normalisation; the task; parameters (P,); inputs (rows, num_inputs); output (rows,
    num_outputs); seed (rows, num_outputs), the gradient with respect to the output; gradient
    (rows, num_inputs). All arrays are contiguous. Tasks are `PACK`, once for the parameters as they
    are, which must not change until the next; `FORWARD`, to the output; `BACKWARD`, which goes
    forward again, to the gradient.

    Args:
        scalar: wp.float32 or wp.float64.
    """
    name = {wp.float32: "float", wp.float64: "double"}[scalar]
    table, matrix, vector = wp.array2d(dtype=int), wp.array2d(dtype=scalar), wp.array(dtype=scalar)
    code = f"""{prelude(name)}{passes()}
    const int last = layers - 1, rows = inputs.shape[0];
    const int width = inputs.shape[1], to = output.shape[1];
    if (task == {PACK})
        pack(true);
    for (int start = 0; task != {PACK} && start < rows; start += {BLOCK}) {{
        const int m = rows - start < {BLOCK} ? rows - start : {BLOCK};
        forward(inputs.data + (size_t)start * width, m, output.data + (size_t)start * to);
        if (task == {FORWARD})
            continue;
        T* const first = work + at(last, GRADIENT);
        for (int row = 0; row < m; ++row)
            for (int o = 0; o < to; ++o)
                first[row * at(last, OUTPUT_STRIDE) + o] = seed.data[(start + row) * to + o];
        const T* const result = backward_to_inputs(m);
        for (int row = 0; row < m; ++row)
            for (int i = 0; i < width; ++i)
                gradient.data[(start + row) * width + i] = result[row * at(0, INPUT_STRIDE) + i];
    }}
"""

    def map_rows(
        plan: table,
        epsilon: scalar,
        task: int,
        parameters: vector,
        inputs: matrix,
        output: matrix,
        seed: matrix,
        gradient: matrix,
        workspace: vector,
    ): ...

    map_rows.__name__ = map_rows.__qualname__ = f"mlp_function_{name}"  # Warp keeps them by name
    run = wp.func_native(code)(map_rows)

    @wp.kernel(module="unique", enable_backward=False)
    def function(
        plan: table,
        epsilon: scalar,
        task: int,
        parameters: vector,
        inputs: matrix,
        output: matrix,
        seed: matrix,
        gradient: matrix,
        workspace: vector,
    ):
        run(plan, epsilon, task, parameters, inputs, output, seed, gradient, workspace)

    return function
