"""What of a compiled MuJoCo model this project's dynamics have not, and what that means.

Two lists of lines: what is *listed* (how the robot is driven, touched and rubbed) and what would
make it *move otherwise* by itself, which `convert_robot` refuses unless told to be lenient.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np

from warp_envs.usd.conversion import passive
from warp_envs.usd.conversion.actuators import describe_actuators, driven_joint
from warp_envs.usd.conversion.bad_numbers import reversed_ranges
from warp_envs.usd.conversion.fields import unknown_fields
from warp_envs.usd.conversion.ground import describe_ground, ground_geoms, touching_geoms
from warp_envs.usd.conversion.joints import limit_stiffness
from warp_envs.usd.conversion.mujoco_model import import_mujoco, joint_kind
from warp_envs.usd.conversion.source import Source
from warp_envs.usd.joints import DEFAULT_LIMIT_KE

_EQUALITIES = {
    "CONNECT": ("connect", "two points"),
    "WELD": ("weld", "two bodies"),
    "JOINT": ("joint", "two joints"),
    "TENDON": ("tendon", "two tendons"),
}
_WAYS_OUT = {
    "CONNECT": "lenient=true leaves the loop open there: nothing holds the two points together",
    "WELD": "lenient=true drops the weld: one to a mocap body, which moves it by hand, is not "
    "missed; two bodies that are one are written as one",
}
_FEW = 6
# MuJoCo's own (documentation, "Modeling", Solver parameters)
_SOLREF = (0.02, 1.0)
_SOLIMP = (0.9, 0.95, 0.001, 0.5, 2.0)


def examine(source: Source, ground: bool | None) -> tuple[list[str], list[str]]:
    """What is listed, and what would move otherwise; see `convert_robot` for `ground`."""
    ground_listed, ground_differs = describe_ground(source, ground)
    listed = [line for check in _LISTED for line in check(source)] + ground_listed
    listed += _contact_settings(source, touching_geoms(source, ground))
    differing = [line for check in _DIFFERING for line in check(source)] + ground_differs
    return listed, differing


def _joined(names: Iterable[str]) -> str:
    return ", ".join(dict.fromkeys(names))


def _some(names: Iterable[str]) -> str:
    """The first few of what may be the names of everything."""
    found = list(dict.fromkeys(names))
    more = f" and {len(found) - _FEW} more" if len(found) > _FEW else ""
    return ", ".join(found[:_FEW]) + more


def _has(owner: Any, field: str) -> np.ndarray:
    """Of each row of an array whether it is not zero."""
    values = getattr(owner, field)
    if not np.size(values):
        return np.zeros(0, dtype=bool)
    return np.any(np.reshape(values, (len(values), -1)) != 0, axis=1)


# What would move otherwise ----------------------------------------------------------------------


def _fluid(source: Source) -> Iterator[str]:
    model = source.model
    shaped = np.flatnonzero(model.geom_fluid[:, 0] > 0.0)
    if passive.has_fluid(source) and len(shaped):
        names = _joined(source.name("geom", geom) for geom in shaped)
        yield f"fluidshape of shapes {names}: the fluid acts on their bodies as on boxes here"


def _free_springs(source: Source) -> Iterator[str]:
    model = source.model
    for joint in range(model.njnt):
        sprung = model.jnt_stiffness[joint] != 0.0 and not source.is_off("SPRING")
        if joint_kind(model, joint) == "free" and sprung:
            name = source.name("joint", joint)
            yield f"spring of free joint {name}: nothing draws it back here"


def _curved_springs(source: Source) -> Iterator[str]:
    """Springs and dampers of MuJoCo 4 that are not linear."""
    model = source.model
    for joint in np.flatnonzero(_has(model, "jnt_stiffnesspoly")):
        yield f"spring of joint {source.name('joint', joint)}, not linear: it is linear here"
    for joint in np.flatnonzero(_has(model, "jnt_springyield")):
        yield f"yield of the spring of joint {source.name('joint', joint)}: it only springs here"
    for dof in np.flatnonzero(_has(model, "dof_dampingpoly")):
        name = source.name("joint", int(model.dof_jntid[dof]))
        yield f"damping of joint {name}, not linear: it is linear here"


def _equalities(source: Source) -> Iterator[str]:
    model, kinds = source.model, import_mujoco().mjtEq
    if source.is_off("CONSTRAINT", "EQUALITY"):
        return
    tied_here = {i for i in passive.ties(source) if passive.tie_obstacle(source, i) is None}
    for index in sorted(set(np.flatnonzero(model.eq_active0).tolist()) - tied_here):
        kind = kinds(int(model.eq_type[index])).name.removeprefix("mjEQ_")
        tag, what = _EQUALITIES.get(kind, (kind.lower(), "parts"))
        tied = [model.eq_obj1id[index], model.eq_obj2id[index]]
        object_kind = {"JOINT": "joint", "TENDON": "tendon"}.get(kind)
        if object_kind is None:
            types = import_mujoco().mjtObj
            found = types(int(model.eq_objtype[index])).name.removeprefix("mjOBJ_").lower()
            object_kind = found if found in ("body", "site") else "body"
        names = _joined(source.name(object_kind, int(i)) for i in tied if i >= 0)
        how = passive.tie_obstacle(source, index) if kind in ("JOINT", "TENDON") else None
        how = f" {how}" if how else ""
        means = f"{what} that move independently here"
        if kind in _WAYS_OUT:
            means += f" ({_WAYS_OUT[kind]})"
        yield f"equality {tag} of {names}{how}: {means}"


def _tendons(source: Source) -> Iterator[str]:
    model = source.model
    springs, dampers = (passive.acts(source, flag) for flag in ("SPRING", "DAMPER"))
    limits = not source.is_off("CONSTRAINT", "LIMIT")
    rubs = not source.is_off("CONSTRAINT", "FRICTIONLOSS")
    wound = np.array(
        [
            not (passive.is_fixed(model, t) or passive.is_straight(model, t))
            for t in range(model.ntendon)
        ],
        dtype=bool,
    )
    for field, what, acts in (
        ("tendon_stiffness", "spring around shapes", springs & wound),
        ("tendon_stiffnesspoly", "curved spring", springs),
        ("tendon_springyield", "yielding spring", springs),
        ("tendon_damping", "damping around shapes", dampers & wound),
        ("tendon_dampingpoly", "curved damping", dampers),
        ("tendon_frictionloss", "dry friction", rubs),
        ("tendon_armature", "armature", True),
        ("tendon_limited", "limit around shapes", limits & wound),
    ):
        found = np.flatnonzero(_has(model, field) & acts) if model.ntendon else []
        if len(found):
            names = _joined(source.name("tendon", int(t)) for t in found)
            yield f"{what} of tendons {names}: it does nothing here"


def _driven_lift(source: Source) -> Iterator[str]:
    """Lift (gravcomp) that is a part of what actuators do: MuJoCo applies it with them alone."""
    model = source.model
    joints = np.flatnonzero(np.asarray(model.jnt_actgravcomp) != 0)
    if not len(joints) or not np.any(model.body_gravcomp) or source.is_off("GRAVITY"):
        return
    if source.is_off("ACTUATION"):
        names = _joined(source.name("joint", int(joint)) for joint in joints)
        yield f"gravcomp by the actuators of joints {names}, which are disabled: it acts here"
        return
    bounded = [int(joint) for joint in joints if model.jnt_actfrclimited[joint]]
    if bounded:
        names = _joined(source.name("joint", joint) for joint in bounded)
        yield f"gravcomp within the actuatorfrcrange of joints {names}: nothing bounds it here"


def _soft_bodies_and_plugins(source: Source) -> Iterator[str]:
    model = source.model
    if model.nflex:
        yield f"{model.nflex} flexible bodies: their points move apart here"
    bodies = np.flatnonzero(np.asarray(model.body_plugin) >= 0)
    if len(bodies):
        names = _joined(source.name("body", b) for b in bodies)
        yield f"plugins of bodies {names}: their forces do not act here"


def _actuator_inertia(source: Source) -> Iterator[str]:
    """Armature and damping of actuators that act otherwise than on one hinge or slide."""
    model = source.model
    for index in range(model.nu):
        if driven_joint(source, index) is not None:
            continue
        for field in ("actuator_armature", "actuator_damping"):
            if np.any(getattr(model, field)[index] != 0.0):
                what = field.removeprefix("actuator_")
                yield f"{what} of actuator {source.name('actuator', index)}: it has none here"
    for index in np.flatnonzero(_has(model, "actuator_dampingpoly")):
        yield f"damping of actuator {source.name('actuator', index)} that grows with speed"


def _unknown(source: Source) -> Iterator[str]:
    version = import_mujoco().__version__
    for field in unknown_fields(source.model):
        yield f"{field}, new in MuJoCo {version}: unknown here"


# What is listed ---------------------------------------------------------------------------------


def _ties(source: Source) -> Iterator[str]:
    for index in passive.ties(source):
        if passive.tie_obstacle(source, index) is None:
            name, kind = source.name("equality", index), "joint"
            if not passive.ties_joints(source.model, index):
                kind = "tendon"
            yield f"equality {kind} {name}: a spring, which gives way, holds it"


def _tendon_limits(source: Source) -> Iterator[str]:
    pulls = [*passive.couplings_of(source), *passive.cords_of(source)]
    names = [pull.name for pull in pulls if pull.name.endswith("_limit")]
    if names:
        yield f"limits of tendons ({_joined(names)}): springs, which give way, hold them"


def _free_armature(source: Source) -> Iterator[str]:
    for body in range(1, source.model.nbody):
        armature = passive.free_armature(source, body)
        if armature:
            name = source.name("body", body)
            yield f"armature of the free body {name}: a body of {armature:g} kg without weight"


def _dry_friction(source: Source) -> Iterator[str]:
    model = source.model
    if source.is_off("CONSTRAINT", "FRICTIONLOSS"):
        return
    dofs = np.flatnonzero(model.dof_frictionloss > 0.0)
    if len(dofs):
        names = _joined(source.name("joint", int(model.dof_jntid[dof])) for dof in dofs)
        most = float(model.dof_frictionloss.max())
        yield f"dry friction of joints {names}: they resist by up to {most:g} N m or N less here"


def _mocap(source: Source) -> Iterator[str]:
    bodies = np.flatnonzero(source.model.body_mocapid >= 0)
    if len(bodies):
        yield f"mocap bodies {_joined(source.name('body', b) for b in bodies)}: they stay in place"


def _keyframes(source: Source) -> Iterator[str]:
    model = source.model
    for key in range(model.nkey):
        name = source.name("key", key)
        if np.any(model.key_qvel[key] != 0.0):
            yield f"velocities of keyframe {name}: it starts at rest"


def _keyframe_controls(source: Source) -> Iterator[str]:
    """What a keyframe says beside coordinates and velocities."""
    model = source.model
    said = (
        ("key_ctrl", "controls", "the first action says them"),
        ("key_act", "activations", "actuators start without"),
    )
    for field, what, meaning in said:
        keys = np.flatnonzero(_has(model, field))
        if len(keys):
            names = _some(source.name("key", int(key)) for key in keys)
            yield f"{what} of keyframes {names}: {meaning}"


def _limit_settings(source: Source) -> Iterator[str]:
    """How MuJoCo's limits give way, where a source says so."""
    model = source.model
    if source.is_off("CONSTRAINT", "LIMIT"):
        return
    limited = np.asarray(model.jnt_limited) != 0
    springs = {int(joint): limit_stiffness(model, int(joint)) for joint in np.flatnonzero(limited)}
    light = {joint: ke for joint, ke in springs.items() if ke < DEFAULT_LIMIT_KE}
    if light:
        names = _some(source.name("joint", joint) for joint in light)
        ends = dict.fromkeys(f"{ke:g}" for ke in (min(light.values()), max(light.values())))
        yield (
            f"limits of joints {names}, which move next to nothing: springs of {' to '.join(ends)} "
            f"N m/rad or N/m instead of {DEFAULT_LIMIT_KE:g}, so that some 64 substeps do"
        )
    for field, what, usual in (
        ("jnt_margin", "margin", 0.0),
        ("jnt_solref", "solref", _SOLREF),
        ("jnt_solimp", "solimp", _SOLIMP),
    ):
        values = np.asarray(getattr(model, field)).reshape(model.njnt, -1)
        joints = np.flatnonzero(np.any(values != usual, axis=1) & limited)
        if len(joints):
            names = _some(source.name("joint", int(joint)) for joint in joints)
            yield f"{what} of the limits of joints {names}: springs at the limits hold them"


def _contact_settings(source: Source, touching: list[int]) -> Iterator[str]:
    """How MuJoCo's contact with the ground gives way and rubs, where a source says so."""
    model = source.model
    geoms = [*touching, *ground_geoms(model)] if touching else []
    pairs = zip(model.pair_geom1, model.pair_geom2, strict=True)
    paired = [index for index, pair in enumerate(pairs) if set(map(int, pair)) & set(touching)]
    for field, usual, meaning in (
        ("margin", 0.0, "they touch at their surface"),
        ("gap", 0.0, "they touch at their surface"),
        ("solref", _SOLREF, "the ground's springs hold them"),
        ("solimp", _SOLIMP, "the ground's springs hold them"),
    ):
        names = _named(source, "geom", geoms, field, usual)
        names += _named(source, "pair", paired, field, usual)
        if names:
            yield f"{field} of the contact of {_some(names)}: {meaning}"
    rolling = [source.name("geom", geom) for geom in geoms if int(model.geom_condim[geom]) > 3]
    rolling += [source.name("pair", pair) for pair in paired if int(model.pair_dim[pair]) > 3]
    if rolling:
        yield f"torsional and rolling friction (condim) of {_some(rolling)}: sliding alone rubs"
    override = int(import_mujoco().mjtEnableBit.mjENBL_OVERRIDE)
    if geoms and model.opt.enableflags & override:
        yield "contact settings by which the options override all others: neither acts here"


def _named(source: Source, kind: str, which: list[int], field: str, usual: Any) -> list[str]:
    """Names of those whose setting is not the usual one."""
    values = np.asarray(getattr(source.model, f"{kind}_{field}"))
    return [source.name(kind, index) for index in which if np.any(values[index] != usual)]


def _moving_surfaces(source: Source) -> Iterator[str]:
    for field, what in (("geom_adhesion", "adhesion"), ("geom_surfacevel", "moving surface")):
        geoms = np.flatnonzero(_has(source.model, field))
        if len(geoms):
            yield f"{what} of shapes {_joined(source.name('geom', g) for g in geoms)}: none here"


_Check = Callable[[Source], Iterator[str]]
_DIFFERING: tuple[_Check, ...] = (
    _fluid,
    _free_springs,
    _curved_springs,
    _equalities,
    _tendons,
    _driven_lift,
    _soft_bodies_and_plugins,
    _actuator_inertia,
    _unknown,
)
_LISTED: tuple[_Check, ...] = (
    _dry_friction,
    _ties,
    _tendon_limits,
    _free_armature,
    describe_actuators,
    _mocap,
    _keyframes,
    _keyframe_controls,
    _limit_settings,
    reversed_ranges,
    _moving_surfaces,
)
