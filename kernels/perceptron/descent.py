"""Losses of a multilayer perceptron and their gradient, in one task: for a CPU."""

from functools import cache

import warp as wp

from kernels.perceptron.losses import sample_loss
from kernels.perceptron.native_task import C_TYPES, NativeTask, native_task
from kernels.perceptron.passes import prelude, sweep


@cache
def mlp_descent_task(scalar: type, loss: str) -> NativeTask:
    """Losses and, if wanted, their gradient, for networks of any sizes.

    Arguments: plan and workspace as `plan_pass` says; epsilon of the normalisation; whether to
    descend (1), or to leave `totals` as they are (0); settings: the factor of the gradient, then
    the loss's; parameters (P,); inputs (rows, num_inputs); columns (rows, any) of the loss; output
    (rows, num_outputs); losses (rows,); totals (P,), the factor times the gradient of the losses'
    sum.

    Args:
        scalar: wp.float32 or wp.float64.
        loss: of `kernels.perceptron.losses`, its name.
    """
    name = C_TYPES[scalar]
    matrix, vector = wp.array2d(dtype=scalar), wp.array(dtype=scalar)
    code = f"""{prelude(name)}{sweep()}{sample_loss(loss)}
    const int width = columns.shape[1];
    sweep(inputs.data, inputs.shape[0], output.data, descend ? totals.data : (T*)0,
          [&](int row, const T* out, T* gradient) {{
              losses.data[row] = sample_loss(out, output.shape[1], columns.data + row * width,
                                             settings.data + 1, T(settings.data[0]), gradient);
          }});
"""
    arguments = {
        "plan": wp.array2d(dtype=int),
        "epsilon": scalar,
        "descend": int,
        "settings": wp.array(dtype=wp.float64),
        "parameters": vector,
        "inputs": matrix,
        "columns": matrix,
        "output": matrix,
        "losses": vector,
        "totals": vector,
        "workspace": vector,
    }
    return native_task(f"mlp_descent_{loss}_{name}", code, arguments)
