"""Native tasks with their arguments bound, to be launched again and again on a CPU."""

from __future__ import annotations

import threading
from typing import Any

import torch
import warp as wp

from kernels.perceptron.native_task import NativeTask
from warp_envs.bridge.start import start_warp

start_warp()

_PREPARING = threading.Lock()
"""Warp's compiler keeps global state, and tasks are prepared on the threads that use them."""


class PreparedTask:
    """A launch that may be repeated on any thread."""

    def __init__(self, task: NativeTask, **arguments: Any) -> None:
        """Compile, at the first use on a machine, and bind the arguments.

        Args:
            task: what to launch.
            arguments: by name: torch tensors, contiguous, which must not move, and numbers.
        """
        with _PREPARING:
            self._arguments = task.arguments()
            for name, value in arguments.items():
                if isinstance(value, torch.Tensor):
                    value = wp.from_torch(value.detach(), requires_grad=False)
                setattr(self._arguments, name, value)
            self._launch: Any = wp.launch(
                task.kernel, 1, inputs=[self._arguments], device="cpu", record_cmd=True
            )

    def launch(self) -> None:
        """Do the task."""
        self._launch.launch()
