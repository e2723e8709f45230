"""What is done with a multilayer perceptron in one task each: for a CPU.

A function with its reverse. Products with the outputs' derivative by the parameters. A descent:
losses and their gradient. A fit of one output by mean squared error: all descents over all
minibatches, with Adam's steps; besides saving what some thirty calls per descent cost, a thread
that fits so never asks for Python's lock, and whatever runs beside it never waits for that.
"""

from functools import cache
from typing import Any

import warp as wp

from kernels.perceptron.adam import AdamSettings, adam_step
from kernels.perceptron.losses import sample_loss
from kernels.perceptron.native_task import C_TYPES, NativeTask, native_task
from kernels.perceptron.passes import BLOCK, linear_passes, passes, prelude, sweep

FIT_SETTINGS = (
    *AdamSettings._fields,
    "unit",  # prediction = unit * output + offset
    "offset",
)
"""Of a fit, in double precision."""


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


def _fit(scalar: str) -> str:
    columns = ", ".join(f"{name} = settings.data[{i}]" for i, name in enumerate(FIT_SETTINGS))
    return f"""{prelude(scalar)}{sweep()}{sample_loss("square_error")}
    const double {columns};
    {adam_step()}
    const double scaling[] = {{unit, offset}};
    const int count = inputs.shape[0], width = inputs.shape[1], parts = losses.shape[0];
    const int most = (count + parts - 1) / parts;  // rows of a minibatch; the last may have less
    const int size = parameters.shape[0];
    double step = steps;
    for (int iteration = 0; iteration < iterations; ++iteration)
        for (int part_number = 0; part_number < parts; ++part_number) {{
            const int start = part_number * most;
            const int m = count - start < most ? count - start : most;
            double loss = 0.0;
            sweep(inputs.data + (size_t)start * width, m, output.data, totals.data,
                  [&](int row, const T* out, T* gradient) {{
                      loss += sample_loss(out, 1, target.data + start + row, scaling, T(1.0 / m),
                                          gradient);
                  }});
            losses.data[part_number] = T(loss / m);
            step += 1.0;
            adam(step, totals.data, parameters.data, means.data, squares.data, size);
        }}
"""


@cache
def mlp_fit_task(scalar: type) -> NativeTask:
    """A fit, for networks of any sizes and one output.

    Arguments: plan and workspace as `plan_pass` says; epsilon of the
    normalisation; settings (`FIT_SETTINGS`); number of iterations; parameters (P,); Adam's mean and
    mean square (P,), continued; inputs (rows, num_inputs) and target (rows,); losses
    (minibatches,), those of the last iteration, each before its step; output (rows of a minibatch,
    1) and totals (P,) to work in. Minibatches are contiguous rows, of equal size but for the last.

    Args:
        scalar: wp.float32 or wp.float64.
    """
    name = C_TYPES[scalar]
    matrix, vector = wp.array2d(dtype=scalar), wp.array(dtype=scalar)
    arguments = {
        "plan": wp.array2d(dtype=int),
        "epsilon": scalar,
        "settings": wp.array(dtype=wp.float64),
        "iterations": int,
        "parameters": vector,
        "means": vector,
        "squares": vector,
        "inputs": matrix,
        "target": vector,
        "losses": vector,
        "output": matrix,
        "totals": vector,
        "workspace": vector,
    }
    return native_task(f"mlp_fit_{name}", _fit(name), arguments)


_ROWS = """
    const int last = layers - 1, rows = inputs.shape[0];
    const int width = inputs.shape[1], to = output.shape[1];
    auto begin_back = [&](int start, int m) {
        T* const first = work + at(last, GRADIENT);
        for (int row = 0; row < m; ++row)
            for (int o = 0; o < to; ++o)
                first[row * at(last, OUTPUT_STRIDE) + o] = seed.data[(start + row) * to + o];
    };
"""
"""C++: the rows of a network's inputs, outputs and seeds, of which a block is begun with."""


def _rowwise(scalar: type) -> dict[str, Any]:
    """Arguments of a task whose steps share a workspace."""
    matrix, vector = wp.array2d(dtype=scalar), wp.array(dtype=scalar)
    return {
        "plan": wp.array2d(dtype=int),
        "epsilon": scalar,
        "step": int,
        "parameters": vector,
        "inputs": matrix,
        "output": matrix,
        "seed": matrix,
        "workspace": vector,
    }


PACK, FORWARD, BACKWARD = range(3)
"""Steps."""


@cache
def mlp_function_task(scalar: type) -> NativeTask:
    """One of three steps, for networks of any sizes.

    Arguments: plan and workspace as `plan_pass` says; epsilon of the
    normalisation; the step; parameters (P,); inputs (rows, num_inputs); output (rows,
    num_outputs); seed (rows, num_outputs), the gradient with respect to the output; gradient
    (rows, num_inputs). Steps are `PACK`, once for the parameters as they are, which must not change
    until the next; `FORWARD`, to the output; `BACKWARD`, which goes forward again, to the gradient.

    Args:
        scalar: wp.float32 or wp.float64.
    """
    name = C_TYPES[scalar]
    code = f"""{prelude(name)}{passes()}
{_ROWS}    if (step == {PACK})
        pack(true);
    for (int start = 0; step != {PACK} && start < rows; start += {BLOCK}) {{
        const int m = rows - start < {BLOCK} ? rows - start : {BLOCK};
        forward(inputs.data + (size_t)start * width, m, output.data + (size_t)start * to);
        if (step == {FORWARD})
            continue;
        begin_back(start, m);
        const T* const result = backward_to_inputs(m);
        for (int row = 0; row < m; ++row)
            for (int i = 0; i < width; ++i)
                gradient.data[(start + row) * width + i] = result[row * at(0, INPUT_STRIDE) + i];
    }}
"""
    arguments = _rowwise(scalar) | {"gradient": wp.array2d(dtype=scalar)}
    return native_task(f"mlp_function_{name}", code, arguments)


LINEARISE, TIMES, TRANSPOSED = range(3)
"""Steps."""


@cache
def mlp_jacobian_task(scalar: type) -> NativeTask:
    """One of three steps, for networks of any sizes.

    With J the derivative of all outputs by all parameters. Arguments: plan and workspace as
    `plan_pass` says, with a block for each `BLOCK` rows, of so many numbers; epsilon of the
    normalisation; the step; parameters (P,); inputs (rows, num_inputs); output and seed (rows,
    num_outputs); change and totals (P,). Steps are `LINEARISE` at parameters and inputs, to the
    output, for the other two to come; `TIMES`, J change to the output; `TRANSPOSED`, J^T seed to
    the totals.

    Args:
        scalar: wp.float32 or wp.float64.
    """
    name = C_TYPES[scalar]
    code = f"""{prelude(name)}{linear_passes()}
{_ROWS}    if (step == {LINEARISE})
        pack(true);
    else if (step == {TIMES})
        pack_change(change.data);
    else
        clear();
    for (int start = 0; start < rows; start += {BLOCK}, rows_at += block) {{
        const int m = rows - start < {BLOCK} ? rows - start : {BLOCK};
        if (step == {LINEARISE}) {{
            forward(inputs.data + (size_t)start * width, m, output.data + (size_t)start * to);
            continue;
        }}
        if (step == {TIMES}) {{
            move(change.data, m, output.data + (size_t)start * to);
            continue;
        }}
        begin_back(start, m);
        backward(m);
    }}
    if (step == {TRANSPOSED})
        unpack(totals.data);
"""
    vector = wp.array(dtype=scalar)
    arguments = _rowwise(scalar) | {"block": int, "change": vector, "totals": vector}
    return native_task(f"mlp_jacobian_{name}", code, arguments)
