"""Options of landscapes."""

from __future__ import annotations

from typing import Any

from warp_envs.checks import check_integer


def check_landscape(*, dim: Any) -> None:
    """Raise ArgumentError unless `dim` is a dimension."""
    check_integer("dim", dim, 1)
