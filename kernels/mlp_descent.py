"""A mean loss of a multilayer perceptron and its gradient, as a kernel: for a CPU."""

from functools import cache

import warp as wp

from kernels.mlp_pass import prelude, sweep
from kernels.sample_losses import sample_loss


@cache
def mlp_descent_kernel(scalar: type, loss: str) -> wp.Kernel:
    """A kernel to be launched with dimension 1, for networks of any sizes.

    Arguments: plan and workspace as `plan_pass` says; epsilon of the normalisation; whether to
    descend (1), or to leave `totals` as they are (0); settings: the factor of the gradient, then
    the loss's; parameters (P,); inputs (rows, num_inputs); columns (rows, any) of the loss; output
    (rows, num_outputs); losses (rows,); totals (P,), the factor times the gradient of the losses'
    sum. All arrays are contiguous.

    Args:
        scalar: wp.float32 or wp.float64.
        loss: of `kernels.sample_losses`, its name.
    """
    name = {wp.float32: "float", wp.float64: "double"}[scalar]
    table, matrix, vector = wp.array2d(dtype=int), wp.array2d(dtype=scalar), wp.array(dtype=scalar)
    numbers = wp.array(dtype=wp.float64)
    code = f"""{prelude(name)}{sweep()}{sample_loss(loss)}
    const int width = columns.shape[1];
    sweep(inputs.data, inputs.shape[0], output.data, descend ? totals.data : (T*)0,
          [&](int row, const T* out, T* gradient) {{
              losses.data[row] = sample_loss(out, output.shape[1], columns.data + row * width,
                                             settings.data + 1, T(settings.data[0]), gradient);
          }});
"""

    def descend_rows(
        plan: table,
        epsilon: scalar,
        descend: int,
        settings: numbers,
        parameters: vector,
        inputs: matrix,
        columns: matrix,
        output: matrix,
        losses: vector,
        totals: vector,
        workspace: vector,
    ): ...

    # Warp keeps native functions by name
    descend_rows.__name__ = descend_rows.__qualname__ = f"mlp_descent_{loss}_{name}"
    run = wp.func_native(code)(descend_rows)

    @wp.kernel(module="unique", enable_backward=False)
    def descent(
        plan: table,
        epsilon: scalar,
        descend: int,
        settings: numbers,
        parameters: vector,
        inputs: matrix,
        columns: matrix,
        output: matrix,
        losses: vector,
        totals: vector,
        workspace: vector,
    ):
        run(
            plan,
            epsilon,
            descend,
            settings,
            parameters,
            inputs,
            columns,
            output,
            losses,
            totals,
            workspace,
        )

    return descent
