"""MuJoCo itself, if it is installed, and words for its numbers."""

from __future__ import annotations

from types import ModuleType
from typing import Any

from warp_envs.checks import ArgumentError


def import_mujoco() -> ModuleType:
    """MuJoCo.

    Raises:
        ValueError: it is not installed; the message names the extra.
    """
    try:
        import mujoco
    except ImportError as error:
        hint = f"not installed ({error}); pip install 'gippo[convert]' brings it"
        raise ArgumentError("mujoco", hint) from error
    return mujoco


def refusals() -> tuple[type[Exception], ...]:
    """What MuJoCo raises over a file or a specification that it does not like."""
    return ValueError, RuntimeError, OSError, import_mujoco().FatalError


def joint_kind(model: Any, joint: int) -> str:
    """One of "free", "ball", "slide" and "hinge"."""
    return ("free", "ball", "slide", "hinge")[int(model.jnt_type[joint])]  # mjtJoint
