"""What a recording tells of its environments beside their motion: rewards, terms, ground forces.

What is not as `warp_envs.recording.signals` writes it is left out, and told of by its prim.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from pxr import Tf, Usd, UsdGeom

from warp_envs.usd.stage import FAR, refuse
from warp_envs.viewing.contents import Problems

_SIGNALS = ("reward", "return")
_MOST_TERMS = 100
_MOST_FORCES = 100  # of an environment


@dataclass(frozen=True)
class Contacts:
    """The ground's forces on robots.

    Attributes:
        bodies: the body of each force, a path from its environment's prim.
        envs: the number of its environment, (forces,).
        forces: (frames, forces, 3) [N]; zero while there is none.
        points: where they act, in the world [m], (frames, forces, 3).
        weight: that holds the robot up at rest [N].
        length: of the arrow that shows this weight [m].
    """

    bodies: list[str]
    envs: np.ndarray
    forces: np.ndarray
    points: np.ndarray
    weight: float
    length: float


class Told:
    """Reads the attributes of environments' prims."""

    def __init__(
        self, envs: list[Usd.Prim], times: np.ndarray, problems: Problems, most: int
    ) -> None:
        """Of environments, at times; of terms and forces no more numbers than `most`."""
        self.envs, self.times, self.problems = envs, times, problems
        self.left = most

    def signals(self) -> dict[str, np.ndarray]:
        """Rewards and returns, name -> (frames, envs)."""
        found = {}
        for name in _SIGNALS:
            attributes = [env.GetAttribute(f"gippo:{name}") for env in self.envs]
            if attributes and all(attributes):
                columns = [[a.Get(time) for time in self.times.tolist()] for a in attributes]
                try:
                    found[name] = np.array(columns, dtype=np.float32).T
                except (TypeError, ValueError):
                    self.problems.tell(self.envs[0], f"gippo:{name} is not a number in each frame")
        return found

    def terms(self) -> dict[str, np.ndarray]:
        """Terms of the reward, name -> (frames, envs); none if the environments differ in them."""
        if not self.envs or not all(env.GetAttribute("gippo:rewardTerms") for env in self.envs):
            return {}
        return self.problems.unless_refused(self._read_terms) or {}

    def contacts(self, to_world: np.ndarray) -> Contacts | None:
        """The ground's forces on all robots; `to_world` (4, 4) turns the stage's units to ours."""
        found = [
            (number, read)
            for number, env in enumerate(self.envs)
            if env.GetAttribute("gippo:contactForces")
            for read in [self.problems.unless_refused(lambda e=env: self._read_forces(e))]
            if read is not None
        ]
        if not found:
            return None
        cache, points = UsdGeom.XformCache(self.times[0]), []
        for number, (_, _, places, _) in found:
            world = np.array(cache.GetLocalToWorldTransform(self.envs[number])) @ to_world
            points.append(places + world[3, :3])
        return Contacts(
            bodies=[body for _, read in found for body in read[0]],
            envs=np.repeat([number for number, _ in found], [len(read[0]) for _, read in found]),
            forces=np.concatenate([read[1] for _, read in found], axis=1),
            points=np.concatenate(points, axis=1),
            weight=found[0][1][3],
            length=_round_length(0.5 * self._size(self.envs[found[0][0]], to_world)),
        )

    def _read_terms(self) -> dict[str, np.ndarray]:
        first = self.envs[0]
        names = _names(first, "gippo:rewardTermNames", _MOST_TERMS)
        columns = []
        for env in self.envs:
            if _names(env, "gippo:rewardTermNames", _MOST_TERMS) != names:
                raise refuse(env, f"gippo:rewardTermNames are not those of {first.GetPath()}")
            columns.append(self._rows(env, "gippo:rewardTerms", (len(names),)))
        values = np.stack(columns, axis=1)
        return {name: values[..., number] for number, name in enumerate(names)}

    def _read_forces(self, env: Usd.Prim) -> tuple[list[str], np.ndarray, np.ndarray, float]:
        """Bodies, forces and places (frames, bodies, 3) in the environment, and the weight."""
        bodies = _names(env, "gippo:contactBodies", _MOST_FORCES)
        weight = _value(env, "gippo:weight")
        if not isinstance(weight, float) or not 0.0 < weight <= FAR:
            raise refuse(env, f"gippo:weight = {weight}, which is no force")
        shape = (len(bodies), 3)
        forces = self._rows(env, "gippo:contactForces", shape)
        return bodies, forces, self._rows(env, "gippo:contactPoints", shape), weight

    def _rows(self, env: Usd.Prim, name: str, shape: tuple[int, ...]) -> np.ndarray:
        """An attribute at all times, (frames, *shape).

        Raises:
            ArgumentError: it has another shape at one of them, or what is no finite number.
        """
        attribute = env.GetAttribute(name)
        self.left -= len(self.times) * int(np.prod(shape))
        if self.left < 0:
            raise refuse(env, f"{name} has more numbers, with all before it, than are shown")
        found = np.empty((len(self.times), *shape), dtype=np.float32)
        for frame, time in enumerate(self.times.tolist()):
            value = np.array(attribute.Get(time) if attribute else None)
            if value.dtype.kind not in "fiu" or value.shape != shape:
                raise refuse(env, f"{name} is not {shape[0]} values in each frame")
            found[frame] = value
        if not (np.abs(found) <= FAR).all():  # nor is NaN
            raise refuse(env, f"{name} that are not finite, or beyond {FAR:g}")
        return found

    def _size(self, env: Usd.Prim, to_world: np.ndarray) -> float:
        """The longest edge of the box around an environment [m], 1 where it has none."""
        cache = UsdGeom.BBoxCache(self.times[0], [UsdGeom.Tokens.default_, UsdGeom.Tokens.render])
        try:
            edges = np.array(cache.ComputeWorldBound(env).ComputeAlignedRange().GetSize())
        except Tf.ErrorException:  # an instancer whose prototype is not there
            return 1.0
        size = float(np.max(edges) * np.linalg.norm(to_world[0, :3]))
        return size if 0.0 < size <= FAR else 1.0


def _value(env: Usd.Prim, attribute: str) -> Any:
    return env.GetAttribute(attribute).Get() if env.HasAttribute(attribute) else None


def _names(env: Usd.Prim, attribute: str, most: int) -> list[str]:
    """Different names.

    Raises:
        ArgumentError: they are none, too many or not names.
    """
    try:
        names = [str(name) for name in _value(env, attribute) or ()]
    except TypeError:
        names = []
    if not 0 < len(names) <= most or len(set(names)) < len(names):
        raise refuse(env, f"{attribute} are not from 1 to {most} different names")
    return names


def _round_length(length: float) -> float:
    """The greatest 1, 2 or 5 times a power of ten that is no longer."""
    ten = 10.0 ** np.floor(np.log10(length))
    return float(ten * max(factor for factor in (1.0, 2.0, 5.0) if factor * ten <= length * 1.001))
