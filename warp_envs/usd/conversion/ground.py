"""What of a compiled MuJoCo model touches the ground, and where its ground lies."""

from __future__ import annotations

from typing import Any

import numpy as np

from warp_envs.usd.conversion.source import Source, import_mujoco, joint_kind
from warp_envs.usd.ground import STEEPEST

SHAPES_THAT_TOUCH = ("sphere", "capsule", "box", "cylinder", "ellipsoid", "mesh")
"""Kinds of geoms that this project's contact has points for."""

_FLAT = 1e-9  # metres off, or sine of the angle, within which two planes are one


def geom_kind(model: Any, geom: int) -> str:
    """A geom's kind as a word: "sphere", "mesh" ..."""
    kinds = import_mujoco().mjtGeom
    return kinds(int(model.geom_type[geom])).name.removeprefix("mjGEOM_").lower()


def touching_geoms(source: Source, ground: bool | None) -> list[int]:
    """Geoms of the robot that touch its ground, by masks and pairs as MuJoCo has them."""
    model = source.model
    planes = _planes(model)
    if ground is None:
        ground = bool(planes) or any(
            joint_kind(model, joint) == "free" for joint in range(model.njnt)
        )
    if not ground or source.is_off("CONTACT", "CONSTRAINT"):
        return []
    paired = {int(g) for pair in zip(model.pair_geom1, model.pair_geom2, strict=True)
              if set(map(int, pair)) & set(planes) or not planes for g in pair}  # fmt: skip
    kinds, affinities = model.geom_contype, model.geom_conaffinity

    def meets(geom: int) -> bool:
        if not planes:
            return bool(kinds[geom] or affinities[geom])
        return any(
            kinds[geom] & affinities[plane] or kinds[plane] & affinities[geom] for plane in planes
        )

    return [
        geom
        for geom in range(model.ngeom)
        if model.body_weldid[model.geom_bodyid[geom]] > 0
        and geom_kind(model, geom) not in ("plane", "hfield")
        and (meets(geom) or geom in paired)
    ]


def sliding_friction(source: Source, geoms: list[int]) -> dict[float, list[int]]:
    """Friction coefficients of geoms with the ground; as MuJoCo, the greater of the two counts."""
    model = source.model
    planes = _planes(model)
    found: dict[float, list[int]] = {}
    for geom in geoms:
        own, value = model.geom_priority[geom], float(model.geom_friction[geom][0])
        if planes:
            other, floor = model.geom_priority[planes[0]], model.geom_friction[planes[0]][0]
            value = float(max(value, floor)) if own == other else value if own > other else floor
        for pair in range(model.npair):
            if geom in (model.pair_geom1[pair], model.pair_geom2[pair]):
                value = float(model.pair_friction[pair][0])
        found.setdefault(float(value), []).append(geom)
    return found


def describe_ground(source: Source, ground: bool | None) -> tuple[list[str], list[str]]:
    """What of the ground and of contact is listed, and what would move otherwise."""
    model = source.model
    touching = touching_geoms(source, ground)
    listed, differing = _planes_elsewhere(source, touching)
    mute: dict[str, list[str]] = {}
    for geom in touching:
        kind = geom_kind(model, geom)
        if kind not in SHAPES_THAT_TOUCH:
            mute.setdefault(kind, []).append(source.name("geom", geom))
    for kind, names in mute.items():
        listed.append(f"contact of shapes {', '.join(names)} ({kind}): they sink into the ground")
    frictions = sliding_friction(source, touching)
    if len(frictions) > 1:
        most = max(frictions, key=lambda value: len(frictions[value]))
        others = ", ".join(f"{value:g}" for value in sorted(frictions) if value != most)
        listed.append(
            f"friction with the ground of {others}: all shapes have that of most, {most:g}"
        )
    moving = {int(model.body_rootid[body]) for body in np.flatnonzero(model.body_weldid > 0)}
    fixed = [
        geom
        for geom in range(model.ngeom)
        if int(model.body_rootid[model.geom_bodyid[geom]]) not in moving  # not a robot's base
        and geom_kind(model, geom) != "plane"
        and (model.geom_contype[geom] or model.geom_conaffinity[geom])
    ]
    if fixed and not source.is_off("CONTACT", "CONSTRAINT"):
        names = ", ".join(source.name("geom", geom) for geom in fixed)
        listed.append(f"contact with shapes of the world, {names}: what moves passes through them")
    if not touching and ground is None and not _planes(model):
        listed.append(
            "no ground: the source has none and holds the robot, so nothing touches z = 0; "
            "ground=true lets it"
        )
    return listed, differing


def _planes(model: Any) -> list[int]:
    """Geoms that are planes of the world."""
    return [
        geom
        for geom in range(model.ngeom)
        if geom_kind(model, geom) == "plane"
        and model.body_weldid[model.geom_bodyid[geom]] == 0
        and (model.geom_contype[geom] or model.geom_conaffinity[geom] or model.npair)
    ]


def plane_pose(model: Any, geom: int) -> tuple[np.ndarray, np.ndarray]:
    """Where a plane lies in the world: a point (3,) [m] and its axes as columns (3, 3), z up."""
    mujoco = import_mujoco()
    data = mujoco.MjData(model)
    mujoco.mj_kinematics(model, data)
    return np.array(data.geom_xpos[geom]), np.array(data.geom_xmat[geom]).reshape(3, 3)


def tilted_plane(source: Source) -> int | None:
    """The plane that is the ground, where it is another than z = 0."""
    planes = _planes(source.model)
    if not planes or _distance(source.model, planes[0], np.zeros(3), np.eye(3)) <= _FLAT:
        return None
    return planes[0]


def _distance(model: Any, geom: int, place: np.ndarray, axes: np.ndarray) -> float:
    """How much a plane differs from another: metres off it, or sine of the angle between them."""
    own_place, own_axes = plane_pose(model, geom)
    off = abs(float((own_place - place) @ axes[:, 2]))
    return max(off, float(np.linalg.norm(own_axes[:, 2] - axes[:, 2])))


def _planes_elsewhere(source: Source, touching: list[int]) -> tuple[list[str], list[str]]:
    """Planes on moving bodies (listed), and such that something touches beside the ground."""
    model = source.model
    listed = [
        f"plane {source.name('geom', geom)} on a moving body: left out"
        for geom in range(model.ngeom)
        if geom_kind(model, geom) == "plane" and model.body_weldid[model.geom_bodyid[geom]] > 0
    ]
    planes = _planes(model) if touching else []
    differing = []
    for geom in planes:
        place, axes = plane_pose(model, geom)
        where = f"at z = {place[2]:g}, normal {np.round(axes[:, 2], 3).tolist()}"
        if axes[2, 2] * STEEPEST < np.linalg.norm(axes[:2, 2]):
            differing.append(f"plane {source.name('geom', geom)} {where}: too steep for a ground")
        elif _distance(model, geom, *plane_pose(model, planes[0])) > _FLAT:
            first = source.name("geom", planes[0])
            differing.append(
                f"plane {source.name('geom', geom)} {where}: the ground is plane {first} here"
            )
    return listed, differing
