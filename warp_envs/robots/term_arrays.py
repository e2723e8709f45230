"""A task's terms as numbers on a device, beside the kernels that run them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import warp as wp

from kernels.robots.library import NUM_PARAMETERS
from kernels.robots.task import TaskKernels, parameters_type, task_kernels
from warp_envs.checks import check_choice
from warp_envs.options.terms import NAMED, Choice


@dataclass(frozen=True)
class TermArrays:
    """A task's numbers on a device, beside its kernels."""

    kernels: TaskKernels
    parameters: wp.array
    weights: wp.array
    end_parameters: wp.array
    scale: wp.array
    clip: wp.array
    start: wp.array


def term_arrays(
    rewards: Sequence[Choice],
    ends: Sequence[Choice],
    observed: Sequence[Choice],
    widths: Sequence[int],
    names: Mapping[str, Mapping[str, int]],
    scalar: type,
    device: Any,
) -> TermArrays:
    """Put a task's numbers into arrays.

    Args:
        rewards: the terms of the reward.
        ends: those that end episodes.
        observed: those observed.
        widths: numbers of each term observed.
        names: "joint" or "body" -> name -> index.
        scalar: of the arrays.
        device: of the arrays.

    Raises:
        ArgumentError: the robot has no joint or body of a name.
    """

    def numbers(values: Sequence[float]) -> wp.array:
        return wp.array(np.asarray(values, dtype=np.float64), dtype=scalar, device=device)

    def vectors(choices: Sequence[Choice]) -> wp.array:
        rows = np.zeros((max(1, len(choices)), NUM_PARAMETERS))
        for row, choice in zip(rows, choices, strict=False):
            for k, (name, value) in enumerate(choice.parameters.items()):
                if name in NAMED:
                    check_choice(f"{choice.key}.{name}", value, names[name])
                    value = names[name][value]
                row[k] = value
        return wp.array(rows, dtype=parameters_type(scalar), device=device)

    chosen = (rewards, ends, observed)
    kernels = task_kernels(*(tuple(c.term.name for c in part) for part in chosen), scalar)
    starts = np.concatenate([[0], np.cumsum(widths)]).astype(np.int32)
    return TermArrays(
        kernels,
        vectors(rewards),
        numbers([choice.weight for choice in rewards]),
        vectors(ends),
        numbers([choice.scale for choice in observed]),
        numbers([choice.clip for choice in observed]),
        wp.array(starts, dtype=wp.int32, device=device),
    )
