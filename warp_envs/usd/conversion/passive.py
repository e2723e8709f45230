"""What acts on the bodies of a compiled MuJoCo model by itself: fluid, gravcomp, tendons, ties.

Fluids act by MuJoCo's inertia model: on each body as on the box with its inertia (MuJoCo's
documentation, "Computation", Passive forces). A free joint's damping is drag at its body's origin,
and its armature there a body of that mass and inertia without weight, which is exact: MuJoCo's
velocities of a free joint are those of the body's origin.

A tie of joints (equality of joints or fixed tendons), which MuJoCo solves for as a soft constraint,
is a spring here: as stiff against a constant load as MuJoCo's (up to `_STIFFEST`), and half as
damped as lets the mass that it moves in the initial pose creep back.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from warp_envs.checks import ArgumentError
from warp_envs.usd.conversion.frames import frame_of
from warp_envs.usd.conversion.mujoco_model import import_mujoco, joint_kind
from warp_envs.usd.conversion.source import Source
from warp_envs.usd.conversion.tree import WORLD, Place
from warp_envs.usd.joints import DEFAULT_LIMIT_KE
from warp_envs.usd.passive import Coupling, Drag

_SOFTEST = 1e-4  # as MuJoCo has it (mjMINIMP)
_STIFFEST = 0.95
"""Greatest impedance of a tie: 0.999 would ask for hundreds of integration steps in an action."""


class Line(NamedTuple):
    """`warp_envs.usd.passive.Cord` through places in MuJoCo's bodies, by their numbers."""

    name: str
    bodies: tuple[int, ...]
    points: np.ndarray
    weights: tuple[float, ...]
    stiffness: float
    damping: float
    low: float
    high: float


class Lift(NamedTuple):
    """A mass [kg] whose weight is taken off a body, and where in its frame [m]."""

    mass: float
    position: np.ndarray


def acts(source: Source, flag: str) -> bool:
    """Whether springs or dampers act; without either MuJoCo has no passive forces at all."""
    return not source.is_off(flag)


def _has_passive_forces(source: Source) -> bool:
    return acts(source, "SPRING") or acts(source, "DAMPER")


def has_fluid(source: Source) -> bool:
    """Whether bodies move in a fluid."""
    option = source.model.opt
    return _has_passive_forces(source) and (option.density > 0.0 or option.viscosity > 0.0)


# Bodies -----------------------------------------------------------------------------------------


def drags_of(source: Source, places: list[Place]) -> dict[int, list[Drag]]:
    """Drags by the body of ours that they act on."""
    model, found = source.model, {}
    for body in range(1, model.nbody):
        place = places[body]
        if place.holder == WORLD:
            continue
        if has_fluid(source) and model.body_mass[body] > 0.0:
            frame = place.frame.then(frame_of(model.body_ipos[body], model.body_iquat[body]))
            drag = _fluid_drag(model, body, frame.position, frame.quat())
            found.setdefault(place.holder, []).append(drag)
        damping = free_damping(source, body)
        if damping:
            drag = Drag(np.array(place.frame.position), linear=damping, angular=damping)
            found.setdefault(place.holder, []).append(drag)
    return found


def _fluid_drag(model: Any, body: int, position: np.ndarray, rotation: np.ndarray) -> Drag:
    option, inertia = model.opt, np.array(model.body_inertia[body])
    # edges of the box of this mass with this inertia
    edges = np.sqrt(np.maximum(inertia.sum() - 2.0 * inertia, 1e-15) * 6.0 / model.body_mass[body])
    diameter = edges.mean()
    across = np.array([edges[1] * edges[2], edges[2] * edges[0], edges[0] * edges[1]])
    fourths = edges**4
    around = edges * (fourths.sum() - fourths)
    return Drag(
        position=position,
        rotation=rotation,
        linear=3.0 * np.pi * diameter * option.viscosity,
        angular=np.pi * diameter**3 * option.viscosity,
        linear_square=0.5 * option.density * across,
        angular_square=option.density * around / 64.0,
        wind=np.array(option.wind),
    )


def free_damping(source: Source, body: int) -> float:
    """Damping of a body's free joint, zero where it has none [N s/m and N m s/rad]."""
    dof = _free_dof(source.model, body)
    if dof is None or not acts(source, "DAMPER"):
        return 0.0
    return float(source.model.dof_damping[dof])


def free_armature(source: Source, body: int) -> float:
    """Armature of a body's free joint, zero where it has none [kg and kg m^2]."""
    dof = _free_dof(source.model, body)
    return 0.0 if dof is None else float(source.model.dof_armature[dof])


def _free_dof(model: Any, body: int) -> int | None:
    joint = int(model.body_jntadr[body])
    if joint < 0 or joint_kind(model, joint) != "free":
        return None
    return int(model.jnt_dofadr[joint])


def lifts_of(source: Source, places: list[Place]) -> dict[int, Lift]:
    """What gravcomp takes off, by the body of ours that it acts on."""
    model, parts = source.model, {}
    if source.is_off("GRAVITY") or not _has_passive_forces(source):
        return {}
    for body in range(1, model.nbody):
        mass = float(model.body_gravcomp[body] * model.body_mass[body])
        if mass and places[body].holder != WORLD:
            where = places[body].frame
            at = where.position + where.rotation @ np.array(model.body_ipos[body])
            parts.setdefault(places[body].holder, []).append((mass, at))
    lifts = {}
    for holder, found in parts.items():
        total = sum(mass for mass, _ in found)
        if total:
            centre = sum((mass * at for mass, at in found), np.zeros(3)) / total
            lifts[holder] = Lift(total, centre)
    return lifts


# Couplings --------------------------------------------------------------------------------------


def couplings_of(source: Source) -> list[Coupling]:
    """Springs, dampers and limits of fixed tendons, and ties of joints and of such tendons."""
    found = [c for t in range(source.model.ntendon) for c in _tendon(source, t)]
    return found + [c for index in ties(source) if (c := _tie(source, index)) is not None]


def is_fixed(model: Any, tendon: int) -> bool:
    """Whether a tendon is a weighted sum of hinges and slides."""
    first = int(model.tendon_adr[tendon])
    count = int(model.tendon_num[tendon])
    wraps = import_mujoco().mjtWrap
    return bool(np.all(np.array(model.wrap_type[first : first + count]) == wraps.mjWRAP_JOINT))


def _weights(model: Any, tendon: int) -> dict[int, float]:
    """The weight of each joint in a fixed tendon."""
    first, found = int(model.tendon_adr[tendon]), {}
    for k in range(first, first + int(model.tendon_num[tendon])):
        joint = int(model.wrap_objid[k])
        found[joint] = found.get(joint, 0.0) + float(model.wrap_prm[k])
    return found


def _coupling(source: Source, name: str, weights: dict[int, float], **numbers: float) -> Coupling:
    names = tuple(source.name("joint", joint) for joint in weights)
    return Coupling(name, names, tuple(weights.values()), **numbers)


def _tendon(source: Source, tendon: int) -> Iterator[Coupling]:
    if is_fixed(source.model, tendon):
        weights = _weights(source.model, tendon)
        for name, numbers in _springs(source, tendon):
            yield _coupling(source, name, weights, **numbers)


def _springs(source: Source, tendon: int) -> Iterator[tuple[str, dict[str, float]]]:
    """Names and numbers of what a tendon pulls with: its own spring, and that of its limits."""
    model, name = source.model, source.name("tendon", tendon)
    stiffness = float(np.ravel(model.tendon_stiffness[tendon])[0]) * acts(source, "SPRING")
    damping = float(np.ravel(model.tendon_damping[tendon])[0]) * acts(source, "DAMPER")
    low, high = map(float, model.tendon_lengthspring[tendon])
    if stiffness or damping:
        yield name, {"stiffness": stiffness, "damping": damping, "low": low, "high": high}
    if model.tendon_limited[tendon] and not source.is_off("CONSTRAINT", "LIMIT"):
        low, high = map(float, model.tendon_range[tendon])
        numbers = {"stiffness": DEFAULT_LIMIT_KE, "damping": 0.0, "low": low, "high": high}
        yield f"{name}_limit", numbers


def is_straight(model: Any, tendon: int) -> bool:
    """Whether a tendon runs from site to site alone, around nothing."""
    first = int(model.tendon_adr[tendon])
    count = int(model.tendon_num[tendon])
    wraps = import_mujoco().mjtWrap
    straight = (int(wraps.mjWRAP_SITE), int(wraps.mjWRAP_PULLEY))
    return bool(np.all(np.isin(model.wrap_type[first : first + count], straight)))


def cords_of(source: Source) -> list[Line]:
    """Springs, dampers and limits of tendons along points."""
    model, found = source.model, []
    pulley = int(import_mujoco().mjtWrap.mjWRAP_PULLEY)
    for tendon in range(model.ntendon):
        if not is_straight(model, tendon):
            continue
        sites, weights, share, cut = [], [], 1.0, True
        first = int(model.tendon_adr[tendon])
        for k in range(first, first + int(model.tendon_num[tendon])):
            if int(model.wrap_type[k]) == pulley:
                share, cut = 1.0 / float(model.wrap_prm[k]), True
                continue
            if sites:
                weights.append(0.0 if cut else share)
            sites.append(int(model.wrap_objid[k]))
            cut = False
        bodies = tuple(int(model.site_bodyid[site]) for site in sites)
        points = np.array([model.site_pos[site] for site in sites])
        for name, numbers in _springs(source, tendon):
            found.append(Line(name, bodies, points, tuple(weights), **numbers))
    return found


def ties(source: Source) -> list[int]:
    """Equalities of joints, or of tendons, that hold from the start."""
    model, kinds = source.model, import_mujoco().mjtEq
    if source.is_off("CONSTRAINT", "EQUALITY"):
        return []
    return [
        int(index)
        for index in np.flatnonzero(model.eq_active0)
        if int(model.eq_type[index]) in (int(kinds.mjEQ_JOINT), int(kinds.mjEQ_TENDON))
    ]


def tie_obstacle(source: Source, index: int) -> str | None:
    """Why a tie is not the spring of a `Coupling`, None if it is."""
    model = source.model
    if np.any(model.eq_data[index][2:5] != 0.0):
        return "along a curve"
    tied = [int(i) for i in (model.eq_obj1id[index], model.eq_obj2id[index]) if i >= 0]
    if ties_joints(model, index):
        if any(joint_kind(model, joint) not in ("hinge", "slide") for joint in tied):
            return "of balls or free joints"
    elif not all(is_fixed(model, tendon) for tendon in tied):
        return "of tendons along points"
    return None


def ties_joints(model: Any, index: int) -> bool:
    """Whether an equality is one of joints, not of tendons."""
    return int(model.eq_type[index]) == int(import_mujoco().mjtEq.mjEQ_JOINT)


def _tie(source: Source, index: int) -> Coupling | None:
    """y1 - y1(0) = c0 + c1 (y2 - y2(0)) of joints or tendons as a coupling."""
    if tie_obstacle(source, index) is not None:
        return None
    model = source.model
    constant, slope = map(float, model.eq_data[index][:2])
    weights: dict[int, float] = {}
    rest = constant
    for tied, share in ((model.eq_obj1id[index], 1.0), (model.eq_obj2id[index], -slope)):
        if tied < 0:
            continue
        own = {int(tied): 1.0} if ties_joints(model, index) else _weights(model, int(tied))
        for joint, weight in own.items():
            weights[joint] = weights.get(joint, 0.0) + share * weight
            rest += share * weight * float(model.qpos0[model.jnt_qposadr[joint]])
    stiffness, damping = _constraint_spring(source, index, weights)
    numbers = {"stiffness": stiffness, "damping": damping, "low": rest, "high": rest}
    return _coupling(source, source.name("equality", index), weights, **numbers)


def _constraint_spring(
    source: Source, index: int, weights: dict[int, float]
) -> tuple[float, float]:
    """Stiffness and damping of what MuJoCo solves a constraint as.

    At rest its force f leaves R f = -k r of a violation r, with R = (1 - d) / d A for an impedance
    d, the reference k = d / (d timeconst dampratio)^2 and an estimate A of the inverse of the mass
    that it moves (MuJoCo's documentation, "Computation", Constraint model).

    Raises:
        ValueError: a damping ratio of 0.
    """
    model = source.model
    inverse = sum(_inverse_weight(model, index, int(i)) for i in
                  (model.eq_obj1id[index], model.eq_obj2id[index]) if i >= 0)  # fmt: skip
    impedance = float(np.clip(model.eq_solimp[index][1], _SOFTEST, _STIFFEST))
    first, second = map(float, model.eq_solref[index][:2])
    if first > 0.0:  # time constant [s] and damping ratio
        if second == 0.0:
            given = f"solref='{first:g} 0' of {source.name('equality', index)!r}"
            raise ArgumentError("equality", given, "a damping ratio other than 0")
        first = max(first, 2.0 * float(model.opt.timestep))  # as MuJoCo has it by default
        reference = 1.0 / (impedance * (first * second) ** 2)
    else:
        reference = -first / impedance
    stiffness = reference * impedance / ((1.0 - impedance) * inverse)
    return stiffness, float(np.sqrt(stiffness * _moved_mass(model, weights)))


def _inverse_weight(model: Any, index: int, tied: int) -> float:
    """MuJoCo's estimate of how a joint or tendon gives way to a force on it."""
    if ties_joints(model, index):
        return float(model.dof_invweight0[model.jnt_dofadr[tied]])
    return float(model.tendon_invweight0[tied])


def _moved_mass(model: Any, weights: dict[int, float]) -> float:
    """1 / (J M^-1 J^T) of the sum of joint coordinates with these weights, in the initial pose."""
    mujoco = import_mujoco()
    data = mujoco.MjData(model)
    mujoco.mj_forward(model, data)
    row, solved = np.zeros((1, model.nv)), np.zeros((1, model.nv))
    for joint, weight in weights.items():
        row[0, model.jnt_dofadr[joint]] = weight
    mujoco.mj_solveM(model, data, solved, row)
    return 1.0 / float((row @ solved.T).item())
