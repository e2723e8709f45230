"""A multilayer perceptron as a function of its inputs, and its reverse: for a CPU."""

from functools import cache

import warp as wp

from kernels.perceptron.native_task import C_TYPES, NativeTask, native_task
from kernels.perceptron.passes import BLOCK, passes, prelude

PACK, FORWARD, BACKWARD = range(3)
"""Steps."""


@cache
def mlp_function_task(scalar: type) -> NativeTask:
    """One of three steps, for networks of any sizes.

    Arguments: plan and workspace as `kernels.perceptron.passes.plan_pass` says; epsilon of the
    normalisation; the step; parameters (P,); inputs (rows, num_inputs); output (rows,
    num_outputs); seed (rows, num_outputs), the gradient with respect to the output; gradient
    (rows, num_inputs). Steps are `PACK`, once for the parameters as they are, which must not change
    until the next; `FORWARD`, to the output; `BACKWARD`, which goes forward again, to the gradient.

    Args:
        scalar: wp.float32 or wp.float64.
    """
    name = C_TYPES[scalar]
    matrix, vector = wp.array2d(dtype=scalar), wp.array(dtype=scalar)
    code = f"""{prelude(name)}{passes()}
    const int last = layers - 1, rows = inputs.shape[0];
    const int width = inputs.shape[1], to = output.shape[1];
    if (step == {PACK})
        pack(true);
    for (int start = 0; step != {PACK} && start < rows; start += {BLOCK}) {{
        const int m = rows - start < {BLOCK} ? rows - start : {BLOCK};
        forward(inputs.data + (size_t)start * width, m, output.data + (size_t)start * to);
        if (step == {FORWARD})
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
    arguments = {
        "plan": wp.array2d(dtype=int),
        "epsilon": scalar,
        "step": int,
        "parameters": vector,
        "inputs": matrix,
        "output": matrix,
        "seed": matrix,
        "gradient": matrix,
        "workspace": vector,
    }
    return native_task(f"mlp_function_{name}", code, arguments)
