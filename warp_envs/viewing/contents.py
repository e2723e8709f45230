"""What a stage holds to look at, read with the distrust that other people's files deserve.

Everything here either gives numbers that can be drawn (finite, in range, of one length) or raises
`ArgumentError` with the prim's path and the reason; whoever draws leaves that prim out and says so.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from pxr import Usd, UsdGeom, UsdShade

from warp_envs.checks import ArgumentError
from warp_envs.usd.stage import FAR, refuse

GREY = (0.35, 0.35, 0.35)
_MOST_PROBLEMS = 20

T = TypeVar("T")
_CONSTANT = (
    *("points", "faceVertexCounts", "faceVertexIndices", "size", "radius", "height"),
    *("primvars:displayColor", "primvars:displayOpacity"),
)
"""What of a shape is read once."""


class Problems:
    """What could not be shown, each said once."""

    def __init__(self) -> None:
        """Nothing yet."""
        self._said: dict[str, None] = {}

    def tell(self, prim: Usd.Prim, reason: str) -> None:
        """Note something about a prim that is shown without it."""
        self._said[f"{prim.GetPath()}: {reason}"] = None

    def unless_refused(self, make: Callable[[], T]) -> T | None:
        """What `make` returns; None, and a note, if it refuses a prim."""
        try:
            return make()
        except ArgumentError as error:
            self._said[str(error)] = None
            return None

    def lines(self) -> list[str]:
        """A line for each, the first twenty of many."""
        found = list(self._said)
        more = len(found) - _MOST_PROBLEMS
        return [*found[:_MOST_PROBLEMS], *([f"and {more} more like these"] if more > 0 else [])]


@dataclass(frozen=True)
class Instances:
    """The copies that a point instancer makes.

    Attributes:
        models: roots of what is copied.
        indices: which of them each copy is of, (copies,).
    """

    models: list[Usd.Prim]
    indices: np.ndarray


def read_mesh(mesh: UsdGeom.Mesh, time: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Points (n, 3), the number of corners of each face (m,), and all corners one after another.

    Raises:
        ArgumentError: there is nothing to draw, or the numbers do not fit together.
    """
    prim = mesh.GetPrim()
    points = _numbers(prim, mesh.GetPointsAttr().Get(time), "points").reshape(-1, 3)
    counts = _integers(mesh.GetFaceVertexCountsAttr().Get(time))
    corners = _integers(mesh.GetFaceVertexIndicesAttr().Get(time))
    if len(points) == 0 or len(counts) == 0:
        raise refuse(prim, "a mesh without points or faces")
    if counts.min() < 0 or counts.sum() != len(corners):
        text = f"faces of {counts.sum()} corners in all, but {len(corners)} are given"
        raise refuse(prim, text)
    if counts.max() < 3:
        raise refuse(prim, "a mesh without a face of three corners")
    if corners.min() < 0 or corners.max() >= len(points):
        odd = corners[(corners < 0) | (corners >= len(points))][0]
        raise refuse(prim, f"a face has a corner at point {odd}, of {len(points)} points")
    return points, counts, corners


def read_size(prim: Usd.Prim, attribute: Usd.Attribute, time: Any) -> float:
    """A radius, height or edge.

    Raises:
        ArgumentError: it is no finite number of at least zero.
    """
    value = attribute.Get(time)
    if not isinstance(value, (int, float)) or not 0.0 <= value <= FAR:
        raise refuse(prim, f"{attribute.GetName()} = {value}")
    return float(value)


def read_axis(prim: Usd.Prim, attribute: Usd.Attribute, time: Any) -> str:
    """X, Y or Z.

    Raises:
        ArgumentError: it is another.
    """
    value = str(attribute.Get(time))
    if value not in ("X", "Y", "Z"):
        raise refuse(prim, f"axis = {value!r}")
    return value


def read_instances(instancer: UsdGeom.PointInstancer, times: np.ndarray) -> Instances:
    """What an instancer copies, the same copies at all `times`.

    Raises:
        ArgumentError: a prototype that is not there, or indices and places that do not fit.
    """
    prim, stage = instancer.GetPrim(), instancer.GetPrim().GetStage()
    targets = instancer.GetPrototypesRel().GetTargets()
    models = [stage.GetPrimAtPath(path) for path in targets]
    for path, model in zip(targets, models, strict=True):
        if not model:
            raise refuse(prim, f"its prototype {path} is not there")
    attribute = instancer.GetProtoIndicesAttr()
    indices = _integers(attribute.Get(times[0]))
    if attribute.ValueMightBeTimeVarying():
        for time in times.tolist():
            if not np.array_equal(_integers(attribute.Get(time)), indices):
                raise refuse(prim, "its instances change in number or kind")
    if len(indices) and not (indices.min() >= 0 and indices.max() < len(models)):
        raise refuse(prim, f"an instance of prototype {indices.max()}, of {len(models)} prototypes")
    _check_counts(prim, "positions", len(indices), times)
    for name in ("orientations", "orientationsf", "scales"):
        if prim.GetAttribute(name).HasAuthoredValue():
            _check_counts(prim, name, len(indices), times)
    return Instances(models, indices)


def _check_counts(prim: Usd.Prim, name: str, count: int, times: np.ndarray) -> None:
    """Raise ArgumentError unless an attribute holds one value for each instance at all times."""
    attribute = prim.GetAttribute(name)
    varying = attribute.ValueMightBeTimeVarying()
    for time in times.tolist() if varying else times[:1].tolist():
        value = attribute.Get(time)
        given = 0 if value is None else len(value)
        if given != count:
            raise refuse(prim, f"{count} instances, but {given} {name}")


def shown_parts(model: Usd.Prim) -> Iterator[Usd.Prim]:
    """The shapes of an instancer's prototype."""
    return (prim for prim in Usd.PrimRange(model) if prim.IsA(UsdGeom.Gprim))


def check_place(prim: Usd.Prim, matrices: np.ndarray) -> np.ndarray:
    """Transforms (..., 4, 4) as they are.

    Raises:
        ArgumentError: one is not finite, or leads further than `FAR`.
    """
    if not np.isfinite(matrices).all():
        raise refuse(prim, "its transform is not finite")
    if np.abs(matrices).max(initial=0.0) > FAR:
        raise refuse(prim, f"it lies or reaches {np.abs(matrices).max():.3g} m away")
    return matrices


def tell_changes(prim: Usd.Prim, problems: Problems) -> None:
    """Tell of each property of a shape that changes with time: only its place does so here."""
    for name in _CONSTANT:
        attribute = prim.GetAttribute(name)
        if attribute and attribute.ValueMightBeTimeVarying():
            problems.tell(prim, f"{name} changes with time; it is shown as at the start")


def read_look(prim: Usd.Prim, problems: Problems) -> dict[str, Any]:
    """Colour (linear), roughness, metallic and opacity of the material bound, else of the prim.

    What is no number (a texture, a word) is told of, and the default stands in its place.
    """
    material = UsdShade.MaterialBindingAPI(prim).ComputeBoundMaterial()[0]
    surface = material.ComputeSurfaceSource()[0] if material else None
    look: dict[str, Any] = {"color": GREY, "roughness": 0.5, "metallic": 0.0, "opacity": 1.0}
    displayed = UsdGeom.Gprim(prim).GetDisplayColorAttr().Get()
    if displayed:
        _set(look, "color", displayed[0], prim, problems)
    for ours, theirs in (("color", "diffuseColor"), *((key, key) for key in list(look)[1:])):
        shader_input = surface.GetInput(theirs) if surface else None
        value = shader_input.Get() if shader_input else None
        if value is not None and surface is not None:
            _set(look, ours, value, surface.GetPrim(), problems)
    return look


def _set(look: dict[str, Any], name: str, value: Any, prim: Usd.Prim, problems: Problems) -> None:
    wanted = 3 if name == "color" else 1
    try:
        numbers = np.array(value, dtype=np.float64).reshape(-1)
    except (TypeError, ValueError):
        numbers = np.full(0, np.nan)
    if isinstance(value, str) or len(numbers) != wanted or not (np.abs(numbers) <= FAR).all():
        problems.tell(prim, f"{name} = {value}, where {'a colour' if wanted == 3 else 'a number'} "
                            "is shown")  # fmt: skip
        return
    look[name] = tuple(numbers.tolist()) if wanted == 3 else float(numbers[0])


def _numbers(prim: Usd.Prim, value: Any, name: str) -> np.ndarray:
    found = np.array([] if value is None else value, dtype=np.float64)
    if not (np.abs(found) <= FAR).all():
        raise refuse(prim, f"{name} that are not finite, or further than {FAR:g} away")
    return found


def _integers(value: Any) -> np.ndarray:
    return np.array([] if value is None else value, dtype=np.int64)
