"""Reads ahead of time, for kernels on a CPU that look their neighbours up by index.

A CPU runs a kernel's threads one after another, in order: what thread i + `AHEAD` will read from
who knows where is asked for while thread i computes. It changes no result, and on a GPU, which has
other threads to run meanwhile, it is nothing.
"""

from typing import Any

import warp as wp

AHEAD = wp.constant(12)
"""Threads: at some 50 ns each, longer than main memory takes."""


@wp.func_native(
    """
#if !defined(__CUDA_ARCH__)
    if (i >= 0 && i < rows.shape[0])
        __builtin_prefetch(&rows.data[i]);
#endif
""",
    adj_snippet="",
)
def prefetch(rows: wp.array(dtype=Any), i: wp.int32):
    """Ask for rows[i], if there is one."""
    ...


@wp.func
def later(indices: wp.array(dtype=wp.int32), i: wp.int32):
    """The index that thread i + `AHEAD` will find in `indices`, -1 past their end."""
    if i + AHEAD < indices.shape[0]:
        return indices[i + AHEAD]
    return wp.int32(-1)
