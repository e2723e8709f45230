"""Frames of a compiled MuJoCo model in the form that USD takes, and small geometry."""

from __future__ import annotations

from typing import Any

import numpy as np
from pxr import Gf, Usd, UsdGeom

from warp_envs.usd.description import rotation_matrix
from warp_envs.usd.stage import Frame, quat_of_matrix


def frame_of(position: Any, wxyz: Any) -> Frame:
    """A frame from MuJoCo's position (3,) and quaternion (w, x, y, z)."""
    quat = np.roll(np.asarray(wxyz, dtype=np.float64), -1)
    turn = rotation_matrix(quat / np.linalg.norm(quat))
    return Frame(np.array(position, dtype=np.float64), turn)


def along_x(axis: np.ndarray) -> np.ndarray:
    """A rotation matrix (3, 3) that turns x into an axis."""
    x = axis / np.linalg.norm(axis)
    other = np.eye(3)[int(np.argmin(np.abs(x)))]
    y = np.cross(other, x)
    y /= np.linalg.norm(y)
    return np.column_stack([x, y, np.cross(x, y)])


def about_x(angle: float) -> np.ndarray:
    """The rotation matrix (3, 3) about x by an angle [rad]."""
    c, s = np.cos(angle), np.sin(angle)
    return np.array([[1.0, 0.0, 0.0], [0.0, c, -s], [0.0, s, c]])


def quat_of(rotation: np.ndarray) -> Gf.Quatd:
    """The quaternion of a rotation matrix as USD has it."""
    x, y, z, w = quat_of_matrix(rotation).tolist()
    return Gf.Quatd(w, x, y, z)


def place(prim: Usd.Prim, frame: Frame, scale: np.ndarray | None = None) -> None:
    """Translate, orient and, where it is not one, scale a prim."""
    xform = UsdGeom.Xformable(prim)
    xform.AddTranslateOp().Set(Gf.Vec3d(*frame.position.tolist()))
    xform.AddOrientOp(UsdGeom.XformOp.PrecisionDouble).Set(quat_of(frame.rotation))
    if scale is not None and not np.allclose(scale, 1.0):
        xform.AddScaleOp().Set(Gf.Vec3f(*scale.tolist()))
