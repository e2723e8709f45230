"""What of a compiled MuJoCo model touches the ground, and where its ground lies."""

from __future__ import annotations

from typing import Any

import numpy as np

from warp_envs.usd.conversion.frames import frame_of
from warp_envs.usd.conversion.mujoco_model import import_mujoco, joint_kind
from warp_envs.usd.conversion.source import Source
from warp_envs.usd.description import SHAPE_KINDS
from warp_envs.usd.ground import STEEPEST
from warp_envs.usd.stage import Frame

GROUNDS = ("plane", "hfield")
_WORDS = {"plane": "plane", "hfield": "height field"}


def geom_kind(model: Any, geom: int) -> str:
    """A geom's kind as a word: "sphere", "mesh" ..."""
    kinds = import_mujoco().mjtGeom
    return kinds(int(model.geom_type[geom])).name.removeprefix("mjGEOM_").lower()


def touching_geoms(source: Source, ground: bool | None) -> list[int]:
    """Geoms of the robot that touch its ground, by masks, excludes and pairs as MuJoCo has them."""
    model = source.model
    grounds = ground_geoms(model)
    if ground is None:
        ground = bool(grounds) or _floats(model)
    if not ground or source.is_off("CONTACT", "CONSTRAINT"):
        return []
    paired = {int(g) for pair in zip(model.pair_geom1, model.pair_geom2, strict=True)
              if set(map(int, pair)) & set(grounds) or not grounds for g in pair}  # fmt: skip
    kinds, affinities, bodies = model.geom_contype, model.geom_conaffinity, model.geom_bodyid
    excluded = _excluded_bodies(model)

    def meets(geom: int) -> bool:
        body = int(bodies[geom])
        if not grounds:  # one to come is the world's
            return bool(kinds[geom] or affinities[geom]) and (0, body) not in excluded
        return any(
            (kinds[geom] & affinities[other] or kinds[other] & affinities[geom])
            and (int(bodies[other]), body) not in excluded
            for other in grounds
        )

    return [
        geom
        for geom in range(model.ngeom)
        if model.body_weldid[model.geom_bodyid[geom]] > 0
        and geom_kind(model, geom) not in GROUNDS
        and (meets(geom) or geom in paired)
    ]


def sliding_friction(source: Source, geoms: list[int]) -> dict[float, list[int]]:
    """Friction coefficients of geoms with the ground, as MuJoCo combines the two.

    Of equal priority, the greater coefficient and the more dimensions count; a contact of one
    dimension has no friction.
    """
    model = source.model
    grounds = ground_geoms(model)
    found: dict[float, list[int]] = {}
    for geom in geoms:
        own, dim = float(model.geom_friction[geom][0]), int(model.geom_condim[geom])
        if grounds:
            other = float(model.geom_friction[grounds[0]][0])
            other_dim = int(model.geom_condim[grounds[0]])
            above = int(model.geom_priority[geom]) - int(model.geom_priority[grounds[0]])
            if above <= 0:
                own = max(own, other) if above == 0 else other
                dim = max(dim, other_dim) if above == 0 else other_dim
        else:
            dim = 3  # as MuJoCo's own default has it for a ground to come
        for pair in range(model.npair):
            if geom in (model.pair_geom1[pair], model.pair_geom2[pair]):
                own, dim = float(model.pair_friction[pair][0]), int(model.pair_dim[pair])
        found.setdefault(own if dim > 1 else 0.0, []).append(geom)
    return found


def _excluded_bodies(model: Any) -> set[tuple[int, int]]:
    """Two bodies whose geoms do not touch unless a pair says so, either way round."""
    halves = [divmod(int(signature), 1 << 16) for signature in model.exclude_signature]
    return {*halves, *((two, one) for one, two in halves)}


def _meet_each_other(model: Any) -> bool:
    """Whether shapes of two moving bodies could touch, by masks, pairs and excludes."""
    moving = [g for g in range(model.ngeom) if model.body_weldid[model.geom_bodyid[g]] > 0]
    if model.npair and any(
        {int(one), int(two)} <= set(moving)
        for one, two in zip(model.pair_geom1, model.pair_geom2, strict=True)
    ):
        return True
    excluded, holders = _excluded_bodies(model), model.body_weldid
    carriers: dict[tuple[int, int, int], None] = {}  # a body's masks, each once
    for geom in moving:
        masks = int(model.geom_contype[geom]), int(model.geom_conaffinity[geom])
        if any(masks):
            carriers[(int(model.geom_bodyid[geom]), *masks)] = None
    bodies = list(carriers)
    for k, (one, kinds, affinities) in enumerate(bodies):
        for two, others, likings in bodies[k + 1 :]:
            held = {int(holders[one]), int(holders[two])}
            parents = {int(holders[model.body_parentid[body]]) for body in held}
            if len(held) == 1 or held & parents or (one, two) in excluded:
                continue
            if kinds & likings or others & affinities:
                return True
    return False


def describe_ground(source: Source, ground: bool | None) -> tuple[list[str], list[str]]:
    """What of the ground and of contact is listed, and what would move otherwise."""
    model = source.model
    if source.is_off("CONTACT", "CONSTRAINT"):
        return [], []
    touching = touching_geoms(source, ground)
    listed, differing = _other_grounds(source, touching)
    mute: dict[str, list[str]] = {}
    for geom in touching:
        kind = geom_kind(model, geom)
        if kind not in SHAPE_KINDS:
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
        and geom_kind(model, geom) not in GROUNDS
        and (model.geom_contype[geom] or model.geom_conaffinity[geom])
    ]
    if fixed:
        names = ", ".join(source.name("geom", geom) for geom in fixed)
        listed.append(f"contact with shapes of the world, {names}: what moves passes through them")
    if _meet_each_other(model):
        listed.append("contact of bodies with each other: they pass through each other")
    if not touching and ground is None and not ground_geoms(model) and not _floats(model):
        listed.append(
            "no ground: the source has none and holds the robot, so nothing touches z = 0; "
            "ground=true lets it"
        )
    elif not touching and ground is not False:
        by = "contype, conaffinity and excludes" if model.nexclude else "contype and conaffinity"
        listed.append(f"no shape of the robot touches the ground, by its {by}")
    return listed, differing


def _floats(model: Any) -> bool:
    return any(joint_kind(model, joint) == "free" for joint in range(model.njnt))


def ground_geoms(model: Any) -> list[int]:
    """Planes and height fields of the world that something could touch, the ground first.

    The ground is the first height field that is not level, else the first plane that faces up.
    """
    found = [
        geom
        for geom in range(model.ngeom)
        if geom_kind(model, geom) in GROUNDS
        and model.body_weldid[model.geom_bodyid[geom]] == 0
        and (model.geom_contype[geom] or model.geom_conaffinity[geom] or model.npair)
    ]
    return sorted(found, key=lambda geom: _rank(model, geom))


def _rank(model: Any, geom: int) -> int:
    if geom_kind(model, geom) == "hfield":
        return 0 if np.ptp(grid_of(model, geom)) > 0.0 else 2
    return 1 if is_ground(model, geom) else 3


def is_ground(model: Any, geom: int) -> bool:
    """Whether a plane faces up enough, or a height field lies along the world's axes."""
    turn = frame_in_world(model, geom).rotation
    if geom_kind(model, geom) == "plane":
        return bool(np.linalg.norm(turn[:2, 2]) <= STEEPEST * turn[2, 2])
    return bool(np.allclose(np.abs(turn), np.round(np.abs(turn)), atol=1e-9) and turn[2, 2] > 0.5)


def frame_in_world(model: Any, geom: int) -> Frame:
    """The frame of a geom that does not move."""
    frame, body = frame_of(model.geom_pos[geom], model.geom_quat[geom]), model.geom_bodyid[geom]
    while body:
        frame = frame_of(model.body_pos[body], model.body_quat[body]).then(frame)
        body = model.body_parentid[body]
    return frame


def grid_of(model: Any, geom: int) -> np.ndarray:
    """Heights of a height field above its frame [m], (rows along y, columns along x)."""
    field = int(model.geom_dataid[geom])
    rows, columns = int(model.hfield_nrow[field]), int(model.hfield_ncol[field])
    first = int(model.hfield_adr[field])
    data = np.array(model.hfield_data[first : first + rows * columns], dtype=np.float64)
    return data.reshape(rows, columns) * float(model.hfield_size[field][2])


def _other_grounds(source: Source, touching: list[int]) -> tuple[list[str], list[str]]:
    """Planes and height fields beside the ground (listed), and such as cannot be it (differ)."""
    model = source.model
    grounds = ground_geoms(model) if touching else []
    listed = [
        f"plane {source.name('geom', geom)} on a moving body: left out"
        for geom in range(model.ngeom)
        if geom_kind(model, geom) == "plane" and model.body_weldid[model.geom_bodyid[geom]] > 0
    ]
    if grounds and geom_kind(model, grounds[0]) == "plane" and not is_ground(model, grounds[0]):
        what = "it faces sideways: the ground is z = 0 here, and what moves passes through it"
        listed.append(f"plane {source.name('geom', grounds[0])}, {what}")
    for geom in grounds[1:]:
        kind, name = geom_kind(model, geom), source.name("geom", geom)
        listed.append(f"{_WORDS[kind]} {name} beside the ground: what moves passes through it")
    differing = []
    if grounds and not is_ground(model, grounds[0]):
        kind, name = geom_kind(model, grounds[0]), source.name("geom", grounds[0])
        if kind == "plane":  # a wall, as a source with another axis up has it
            what = "it faces sideways; the ground is z = 0 here, and what moves passes through it"
            listed.append(f"plane {name}: {what}")
        else:
            differing.append(f"height field {name}: it is turned; one along x and y can be ground")
    return listed, differing
