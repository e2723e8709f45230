"""C++ that does a whole task in one launch, as a kernel: for a CPU."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import warp as wp

C_TYPES = {wp.float32: "float", wp.float64: "double"}


@dataclass(frozen=True)
class NativeTask:
    """A kernel to be launched with dimension 1."""

    kernel: wp.Kernel
    arguments: Any
    """The Warp struct that it takes."""


def native_task(name: str, code: str, arguments: Mapping[str, Any]) -> NativeTask:
    """Compile `code`, at the first launch on a machine.

    Args:
        name: no other task's; Warp keeps native functions by name.
        code: a block, in which each argument is an lvalue of its name.
        arguments: name -> Warp's type; arrays must be contiguous.
    """
    struct = wp.struct(type(f"{name}_arguments", (), {"__annotations__": dict(arguments)}))
    by_name = "".join(f"    auto& {argument} = arguments.{argument};\n" for argument in arguments)

    def native(arguments: struct): ...

    def task(arguments: struct):
        run(arguments)

    native.__name__ = native.__qualname__ = name
    task.__name__ = task.__qualname__ = f"{name}_task"
    run = wp.func_native(f"{by_name}    {{\n{code}    }}\n")(native)
    return NativeTask(wp.kernel(task, module="unique", enable_backward=False), struct)
