"""A USD stage as numbers: opening it safely, its units and up axis, attributes and frames.

The bottom of the robot loader (`warp_envs.usd.loader`): everything above it works in metres,
kilograms, seconds and radians with z up.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from pxr import Gf, Tf, Usd, UsdGeom, UsdPhysics, UsdUtils

from warp_envs.checks import ArgumentError
from warp_envs.usd.description import rotation_matrix

USD_SUFFIXES = (".usd", ".usda", ".usdc", ".usdz")

NAME = "gippo:name"
"""Attribute with a body's or joint's name where its prim cannot have it: USD allows no "-"."""

# Reads default values and the first of time samples alike.
AT_REST = Usd.TimeCode.EarliestTime()

FAR = 1e9
"""[m] What is further away, or larger, is no scene: single precision could not place it."""

# Turns a y-up world into a z-up one: (x, y, z) -> (x, -z, y).
_Y_UP_TO_Z_UP = np.array([[1.0, 0.0, 0.0], [0.0, 0.0, -1.0], [0.0, 1.0, 0.0]])

# Relative difference below which the scales along two axes count as equal, and the cosine below
# which two axes count as orthogonal: quaternions of transforms are authored in float32.
SCALE_TOLERANCE = 1e-5

# Opens a file and looks at every value in it, in a process of its own that may crash, stall or run
# out of memory: a damaged binary file does that to USD's reader, and so does text nested without
# end. Costs about 0.2 s.
_TRIAL = """
import sys
try:
    import resource
    limit = int(sys.argv[2])
    resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
except (ImportError, OSError, ValueError):
    pass  # a system without such limits: the time limit remains
from pxr import Usd, UsdGeom
stage = Usd.Stage.Open(sys.argv[1])
xforms = UsdGeom.XformCache(Usd.TimeCode.EarliestTime())
for prim in stage.Traverse(Usd.TraverseInstanceProxies()):
    xforms.GetLocalToWorldTransform(prim)
    for attribute in prim.GetAttributes():
        attribute.Get(Usd.TimeCode.EarliestTime())
    for relationship in prim.GetRelationships():
        relationship.GetForwardedTargets()
"""
_TRIAL_SECONDS = 30.0
_TRIAL_BYTES = 4 << 30
# Text with fewer brackets than this cannot be nested deep enough to overflow the reader's stack.
_HARMLESS_BRACKETS = 4_000


def refuse(prim: Usd.Prim, reason: str) -> ArgumentError:
    """The error for content that cannot be simulated: the prim's path, then the reason."""
    return ArgumentError(str(prim.GetPath()), reason)


def unreadable(path: Path, report: str | Exception) -> ArgumentError:
    """The error for a damaged file, with the gist of what USD's reader says of it."""
    try:
        report = str(report)
    except UnicodeDecodeError:  # the reader quotes the file's bytes
        report = "its text is not UTF-8"
    found = re.findall(r"Error in .*? : '(.*)", report)  # the first is the cause of the others
    reason = found[0] if found else report.strip().splitlines()[-1]
    return ArgumentError(str(path), f"not a readable USD file: {reason.strip(chr(39))[:300]}")


def stage_files(path: Path) -> list[Path]:
    """A USD file and the layers and textures that it refers to, absolute; what is missing is not.

    Args:
        path: of the file, absolute.
    """
    layers, assets, _ = UsdUtils.ComputeAllDependencies(str(path))
    found = [layer.realPath for layer in layers] + [str(asset) for asset in assets]
    there = (Path(name).absolute() for name in found if name)
    return list(dict.fromkeys([path, *(file for file in there if file.is_file())]))


class Frame(NamedTuple):
    """A rigid frame in another: origin [m] (3,) and rotation matrix (3, 3)."""

    position: np.ndarray
    rotation: np.ndarray

    def then(self, inner: Frame) -> Frame:
        """The frame `inner`, given in this one, seen from where this one is given."""
        return Frame(self.position + self.rotation @ inner.position, self.rotation @ inner.rotation)

    def inverse(self) -> Frame:
        """The frame this one is given in, seen from this one."""
        return Frame(-self.rotation.T @ self.position, self.rotation.T)

    def quat(self) -> np.ndarray:
        """The rotation as a unit quaternion (x, y, z, w), w >= 0."""
        return quat_of_matrix(self.rotation)


IDENTITY = Frame(np.zeros(3), np.eye(3))


@dataclass(frozen=True)
class Units:
    """Factors from a stage's units to SI.

    Attributes:
        length: metres in one unit.
        mass: kilograms in one unit.
        up: rotation from the stage's world axes to z-up ones, (3, 3).
    """

    length: float
    mass: float
    up: np.ndarray

    @property
    def density(self) -> float:
        """Mass for each volume."""
        return self.mass / self.length**3

    @property
    def inertia(self) -> float:
        """Mass times length squared: also of angular armature, and of torque for each radian."""
        return self.mass * self.length**2


class Stage:
    """An opened USD file."""

    def __init__(self, path: str | Path) -> None:
        """Open a file and read its units.

        Raises:
            ValueError: no such file, not USD, damaged, with missing parts, or with units that are
                not positive.
        """
        self.path = Path(path)
        self.usd = _open(self.path)
        length = UsdGeom.GetStageMetersPerUnit(self.usd)
        mass = UsdPhysics.GetStageKilogramsPerUnit(self.usd)
        for name, value in (("metersPerUnit", length), ("kilogramsPerUnit", mass)):
            if not (np.isfinite(value) and value > 0.0):
                raise ArgumentError(str(self.path), f"{name}: {value!r}", "a positive one")
        up_axis = str(UsdGeom.GetStageUpAxis(self.usd))
        if up_axis not in ("Y", "Z"):
            raise ArgumentError(str(self.path), f"upAxis: {up_axis!r}", "'Y' or 'Z'")
        up = np.eye(3) if up_axis == "Z" else _Y_UP_TO_Z_UP
        self.units = Units(float(length), float(mass), up)
        self.notes = _unsaid(self.usd)
        self._xforms = UsdGeom.XformCache(AT_REST)

    def prims(self) -> Iterator[Usd.Prim]:
        """Every active prim in the file's order, those inside instances too."""
        return iter(self.usd.Traverse(Usd.TraverseInstanceProxies()))

    def world_frame(self, prim: Usd.Prim) -> tuple[Frame, np.ndarray]:
        """A prim's frame in the z-up world [m], and the scale (3,) that its transform adds.

        A mirrored transform has three negative scales.

        Raises:
            ValueError: a transform with shear, a scale of zero or numbers that are not finite.
        """
        matrix = np.array(self._xforms.GetLocalToWorldTransform(prim), dtype=np.float64)
        if not np.all(np.isfinite(matrix)):
            raise refuse(
                prim, "its transform has numbers that are not finite; finite ones are accepted"
            )
        linear = matrix[:3, :3].T  # USD multiplies row vectors
        scale = np.linalg.norm(linear, axis=0)
        if np.any(scale < 1e-12):
            raise refuse(prim, f"its transform has scale {scale}, positive ones are accepted")
        if np.linalg.det(linear / scale) < 0.0:
            scale = -scale
        rotation = linear / scale
        if np.abs(rotation.T @ rotation - np.eye(3)).max() > SCALE_TOLERANCE:
            raise refuse(prim, "its transform has shear, only rotation and scale are accepted")
        rotation = rotation_matrix(quat_of_matrix(rotation))  # exactly orthogonal
        up, length = self.units.up, self.units.length
        return Frame(length * (up @ matrix[3, :3]), up @ rotation), scale


def _unsaid(stage: Usd.Stage) -> list[str]:
    """A sentence for each of a stage's units that is USD's default for want of another.

    Few robots are in centimetres and lie on their sides; files that forget to say so are many.
    """
    found = []
    if not UsdGeom.StageHasAuthoredMetersPerUnit(stage):
        found.append(
            "no metersPerUnit is authored: lengths are taken as centimetres, USD's default"
        )
    if not stage.HasAuthoredMetadata(UsdGeom.Tokens.upAxis):
        found.append("no upAxis is authored: y is taken as up, USD's default")
    return found


def _open(path: Path) -> Usd.Stage:
    """Open a stage, with everything it refers to.

    Raises:
        ValueError: naming the file and what is wrong with it.
    """
    if not path.is_file():
        raise ArgumentError("path", repr(str(path)), "an existing USD file")
    if path.suffix.lower() not in USD_SUFFIXES:
        how = "; gippo convert makes one of it" if path.suffix in (".xml", ".mjcf", ".urdf") else ""
        raise ArgumentError("path", repr(str(path)), f"a file ending in {USD_SUFFIXES}", how)
    try:
        if not _is_harmless(path):
            _try_out(path)
        stage = Usd.Stage.Open(str(path))
        errors = stage.GetCompositionErrors()
    except (Tf.ErrorException, RuntimeError, OSError) as error:
        raise unreadable(path, error) from None
    if errors:
        raise ArgumentError(str(path), f"a part of it cannot be read: {errors[0]}")
    return stage


def _is_harmless(path: Path) -> bool:
    """Whether a file is text of little depth that draws in no other file."""
    content = path.read_bytes()
    brackets = sum(content.count(bracket) for bracket in (b"{", b"[", b"("))
    return content.startswith(b"#usda") and b"@" not in content and brackets < _HARMLESS_BRACKETS


def _try_out(path: Path) -> None:
    """Open a file in another process first.

    Raises:
        ValueError: that process did not end well.
    """
    limit = _TRIAL_BYTES + path.stat().st_size
    try:
        trial = subprocess.run(
            [sys.executable, "-c", _TRIAL, str(path), str(limit)],
            capture_output=True,
            timeout=_TRIAL_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise unreadable(path, f"its reader does not end in {_TRIAL_SECONDS:.0f} s") from None
    if trial.returncode != 0:
        output = trial.stderr.decode(errors="replace") if trial.returncode > 0 else ""
        raise unreadable(path, output or "its reader crashes")


def read_value(prim: Usd.Prim, name: str) -> Any:
    """The value of an attribute at rest, None where there is none."""
    attribute = prim.GetAttribute(name)
    return attribute.Get(AT_REST) if attribute else None


def read_text(prim: Usd.Prim, name: str, default: str) -> str:
    """An authored text, or the default; an empty one is none.

    Raises:
        ValueError: of another type.
    """
    value = read_value(prim, name)
    if not isinstance(value, str | None):
        raise refuse(prim, f"{name} is {value!r}, a text accepted")
    return value or default


def read_array(prim: Usd.Prim, name: str) -> np.ndarray | None:
    """An authored array of any number of numbers (n,), None where there is none.

    Raises:
        ValueError: no array of numbers, or NaN in it.
    """
    value = read_value(prim, name)
    if value is None:
        return None
    array = np.array(value)
    if array.ndim != 1 or array.dtype.kind not in "fiu" or np.any(np.isnan(array)):
        given = repr(array.tolist() if array.ndim else value)
        raise refuse(prim, f"{name} is {given}, an array of numbers without NaN accepted")
    return _as_written(prim.GetAttribute(name), array)


def read_doubles(prim: Usd.Prim, name: str, size: int) -> np.ndarray | None:
    """An authored array of `size` numbers, None where there is none.

    Raises:
        ValueError: another number of them, or what `read_array` refuses.
    """
    array = read_array(prim, name)
    if array is not None and len(array) != size:
        raise refuse(prim, f"{name} is {array.tolist()}, {size} number(s) accepted")
    return array


def read_points(prim: Usd.Prim) -> np.ndarray:
    """The points of a mesh (n, 3) in its units, none where none are authored.

    Raises:
        ValueError: no array of three numbers each.
    """
    value = read_value(prim, "points")
    array = np.zeros((0, 3)) if value is None else np.array(value)
    if array.size == 0:
        return np.zeros((0, 3))
    if array.dtype.kind not in "fiu" or array.ndim > 2 or array.shape[-1:] != (3,):
        given = repr(value if array.ndim == 0 else array[:3].tolist())
        raise refuse(prim, f"points is {given}, three numbers for each point accepted")
    return array.reshape(-1, 3).astype(np.float64)


def read_numbers(prim: Usd.Prim, name: str, size: int) -> np.ndarray | None:
    """An authored attribute of `size` numbers in the stage's units, None where there is none.

    Quaternions come as (x, y, z, w). A float32 value is read as the shortest decimal that it
    stands for, so that an authored 0.45 is 0.45 and not 0.449999988.

    Raises:
        ValueError: not a number, not `size` of them, or NaN.
    """
    attribute = prim.GetAttribute(name)
    if not attribute or not attribute.HasAuthoredValue():
        return None
    value = attribute.Get(AT_REST)
    if value is None:
        return None
    if isinstance(value, (Gf.Quatf, Gf.Quatd, Gf.Quath)):
        value = [*value.GetImaginary(), value.GetReal()]
    array = np.atleast_1d(np.array(value))
    if array.shape != (size,) or array.dtype.kind not in "fiu" or np.any(np.isnan(array)):
        raise refuse(prim, f"{name} is {attribute.Get(AT_REST)!r}, {size} number(s) accepted")
    return _as_written(attribute, array)


def _as_written(attribute: Usd.Attribute, numbers: np.ndarray) -> np.ndarray:
    """Numbers (n,) of an attribute in double precision, single ones as their shortest decimals."""
    type_name = str(attribute.GetTypeName()).removesuffix("[]")
    if type_name.startswith(("double", "int")) or type_name.endswith("d"):
        return numbers.astype(np.float64)
    return np.array([float(str(np.float32(number))) for number in numbers], dtype=np.float64)


def read_name(prim: Usd.Prim) -> str:
    """What a prim is called: `NAME` where it is authored, else the last part of its path."""
    return read_text(prim, NAME, str(prim.GetName()))


def read_vector(prim: Usd.Prim, name: str) -> np.ndarray | None:
    """An authored vector, None where there is none or it is the sentinel -inf.

    Raises:
        ValueError: not three finite numbers.
    """
    vector = read_numbers(prim, name, 3)
    if vector is None or np.all(np.isneginf(vector)):
        return None
    if not np.all(np.isfinite(vector)):
        raise refuse(prim, f"{name} is {vector}, finite numbers accepted")
    return vector


def read_quat(prim: Usd.Prim, name: str) -> np.ndarray | None:
    """An authored rotation as a unit quaternion (x, y, z, w), None where there is none.

    Raises:
        ValueError: a quaternion of length zero or with numbers that are not finite.
    """
    quat = read_numbers(prim, name, 4)
    if quat is None:
        return None
    length = np.linalg.norm(quat)
    if not (np.isfinite(length) and length > 1e-6):
        raise refuse(prim, f"{name} is {quat} (xyzw), a quaternion of unit length accepted")
    return quat / length


def read_gain(prim: Usd.Prim, name: str) -> float | None:
    """An authored number that may not be negative, None where there is none or it is -inf.

    Raises:
        ValueError: negative or not finite.
    """
    value = read_numbers(prim, name, 1)
    if value is None or np.isneginf(value[0]):
        return None
    if not (np.isfinite(value[0]) and value[0] >= 0.0):
        raise refuse(prim, f"{name} is {value[0]}, a finite number >= 0 accepted")
    return float(value[0])


def read_flag(prim: Usd.Prim, name: str, default: bool) -> bool:
    """An authored truth value, or the default.

    Raises:
        ValueError: of another type: the text "false" is not false.
    """
    value = read_value(prim, name)
    if not isinstance(value, bool | None):
        raise refuse(prim, f"{name} is {value!r}, a bool, true or false, accepted")
    return default if value is None else value


def read_axis(prim: Usd.Prim, name: str, default: str) -> np.ndarray:
    """An authored axis token X, Y or Z as a unit vector (3,).

    Raises:
        ValueError: another token.
    """
    token = read_text(prim, name, default)
    if token not in ("X", "Y", "Z"):
        raise refuse(prim, f"{name} is {token!r}, 'X', 'Y' or 'Z' accepted")
    return np.eye(3)["XYZ".index(token)]


def quat_of_matrix(matrix: np.ndarray) -> np.ndarray:
    """The unit quaternion (x, y, z, w), w >= 0, of a rotation matrix.

    Each of the four columns below is the quaternion times one of its own components; the longest
    is the accurate one.
    """
    m, trace = matrix, np.trace(matrix)
    columns = np.empty((4, 4))
    columns[:3, :3] = m + m.T + (1.0 - trace) * np.eye(3)
    columns[3, :3] = columns[:3, 3] = m[2, 1] - m[1, 2], m[0, 2] - m[2, 0], m[1, 0] - m[0, 1]
    columns[3, 3] = 1.0 + trace
    quat = columns[int(np.argmax(np.diag(columns)))]
    quat = quat / np.linalg.norm(quat)
    return -quat if quat[3] < 0.0 else quat
