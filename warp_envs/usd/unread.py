"""What a file says of physics that the loader does not read: told of, each name once.

`READ` is what the loader reads, by the sort of prim that it stands on. Any other attribute or
relationship of the physics namespaces that is authored becomes a note, and so do prims of other
types of physics and applied schemas that nobody here knows. Nothing is said of values that mean
nothing (`NEUTRAL`) and of how a simulator steps, prepares or shows things (`HINTS`). A name of
this project's own namespace that is none of its names is refused: it is misspelt.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from fnmatch import fnmatchcase
from functools import lru_cache
from typing import Any

import numpy as np
from pxr import Sdf, Usd

from warp_envs.checks import near_matches
from warp_envs.usd import actuators, passive_reading, shapes
from warp_envs.usd.joints import ARMATURES, BALL_LIMIT, BALL_STIFFNESS, DRIVES, KEYFRAME
from warp_envs.usd.stage import AT_REST, NAME, Stage, read_numbers, refuse

NAMESPACES = re.compile(r"(physics|newton|gippo|mjc|physx\w*|omniphysics|drive|limit|state):")

IDLE, STILL = "idle", "still"
"""Sorts of prims: of what plays no part as a whole; of bodies that belong to the world."""

_MASS = ("mass", "density", "centerOfMass", "diagonalInertia", "principalAxes")
_JOINT = (
    *("physics:body0", "physics:body1", "physics:localPos?", "physics:localRot?"),
    *("physics:jointEnabled", "physics:excludeFromArticulation", "physics:break*"),
    *("newton:friction", KEYFRAME + "*"),
)
_MOVING = (*_JOINT, *ARMATURES, "physics:axis", "newton:damping", "newton:limitStiffness")
_SINGLE = (*_MOVING, "physics:lowerLimit", "physics:upperLimit", "newton:limitDamping")
_SPRING = (passive_reading.STIFFNESS, passive_reading.DAMPING, passive_reading.RANGE)
_BODY = (
    *("physics:rigidBodyEnabled", "physics:kinematicEnabled", "newton:inertia"),
    *(f"physics:{name}" for name in _MASS),
    *(passive_reading.WEIGHTLESS, passive_reading.SHARE, passive_reading.DRAG),
    *(passive_reading.LIFT_MASS, passive_reading.LIFT_POSITION),
)
READ: dict[str, tuple[str, ...]] = {
    "scene": (
        *("physics:gravityDirection", "physics:gravityMagnitude"),
        *("newton:gravityEnabled", "mjc:flag:gravity"),
    ),
    "body": _BODY,
    "free": (*_BODY, KEYFRAME + "*"),
    "collider": (
        *("physics:collisionEnabled", "physics:mass", "physics:density"),
        *("physics:centerOfMass", "physics:diagonalInertia"),  # refused
    ),
    # What the world weighs does not matter.
    "ground": ("physics:collisionEnabled", "physics:approximation", "physics:mass", "*:density"),
    "ground material": ("physics:density",),
    "material": (
        *("physics:density", "physics:dynamicFriction"),
        *(shapes.CONTACT_STIFFNESS, shapes.CONTACT_FRICTION_GAIN, shapes.CONTACT_DAMPING),
    ),
    "fixed": _JOINT,
    "revolute": (*_SINGLE, actuators.FORCE_RANGE),
    "prismatic": (*_SINGLE, actuators.FORCE_RANGE),
    "spherical": (
        *(*_MOVING, "physics:coneAngle?Limit", "newton:limitDamping"),
        *(BALL_STIFFNESS, BALL_LIMIT),
    ),
    actuators.DRIVEN: (
        *(actuators.DRIVEN, actuators.GEAR, actuators.GAIN, actuators.BIAS),
        *(actuators.CONTROL_RANGE, actuators.FORCE_RANGE),
    ),
    passive_reading.COUPLED: (passive_reading.COUPLED, passive_reading.WEIGHTS, *_SPRING),
    passive_reading.CORD_BODIES: (
        *(passive_reading.CORD_BODIES, passive_reading.CORD_NUMBERS, passive_reading.CORD_POINTS),
        *(passive_reading.WEIGHTS, *_SPRING),
    ),
}
"""Names that are read, as patterns; what drives and ties joints is of the sort of its relation."""

_PARTS = (actuators.DRIVEN, passive_reading.COUPLED, passive_reading.CORD_BODIES)

NEEDS: dict[tuple[str, str], str] = {
    ("body", passive_reading.LIFT_POSITION): passive_reading.LIFT_MASS,
    ("free", passive_reading.LIFT_POSITION): passive_reading.LIFT_MASS,
    ("spherical", "newton:limitStiffness"): BALL_LIMIT,
    ("material", "physics:dynamicFriction"): shapes.CONTACT_STIFFNESS,
    ("material", shapes.CONTACT_FRICTION_GAIN): shapes.CONTACT_STIFFNESS,
    ("material", shapes.CONTACT_DAMPING): shapes.CONTACT_STIFFNESS,
}
"""What is read only beside another attribute."""

SAME: dict[str, tuple[str, ...]] = {
    "physics:staticFriction": ("physics:dynamicFriction",),
    "physxJoint:armature": ("newton:armature",),
    "mjc:armature": ("newton:armature", "physxJoint:armature"),
}
"""What says nothing new where it is what another of these says, which is read before it."""

_SOLVER = (
    *("ccd_*", "cone", "impratio", "integrator", "iterations", "jacobian", "ls_*", "magnetic"),
    *("noslip_*", "o_*", "sdf_*", "solver", "timestep", "tolerance"),
)
_SWITCHES = (
    *("autoreset", "energy", "eulerdamp", "filterparent", "fwdinv", "invdiscrete", "island"),
    *("midphase", "multiccd", "nativeccd", "refsafe", "sensor", "warmstart"),
)
HINTS = (
    *(NAME, "physics:simulationOwner", "physics:startsAsleep"),
    *("physics:filtered*", "physics:invertFilteredGroups", "physics:mergeGroup"),  # honoured
    *("physxScene:*", "physxCookedData*:*", "physxContactReport:*", "physx?*Collision:*"),
    *("*:solver*IterationCount", "*:sleepThreshold", "*:stabilizationThreshold"),
    *("physxRigidBody:enable*CCD", "physxRigidBody:cfmScale", "physxCollision:contactOffset"),
    *("physxRigidBody:maxDepenetrationVelocity", "physxRigidBody:contactSlopCoefficient"),
    *("newton:maxSolverIterations", "newton:timeStepsPerSecond", "newton:maxHullVertices"),
    "newton:jointsAddMobility",  # how a solver has its joints
    *("newton:xpbd:*", "newton:kamino:*", "newton:vbd:*", "newton:sdf*", "newton:contactGap"),
    *("mjc:compiler:*", "mjc:group", "mjc:rgba", "mjc:width", "mjc:maxhullvert"),
    *(f"mjc:option:{name}" for name in _SOLVER),
    *(f"mjc:flag:{name}" for name in _SWITCHES),
)
RECORDED = (
    *("action", "reward", "return", "rewardTerms", "rewardTermNames", "contactForces"),
    *("contactPoints", "contactBodies", "weight"),
)
"""What a recording says, after `gippo:`."""

_SOLIMP = (0.9, 0.95, 0.001, 0.5, 2.0)
NEUTRAL: dict[str, tuple[Any, ...]] = {
    "drive:*:maxForce": (),
    "drive:*:type": ("force",),
    "newton:*Limit": (),
    "newton:massModel": ("solid",),
    "newton:mimicEnabled": (False,),
    "limit:*": (),
    "physxJoint:maxJointVelocity": (1e6,),  # PhysX's default, as the next
    "physxRigidBody:maxAngularVelocity": (5729.58,),
    "physxRigidBody:enableGyroscopicForces": (True,),
    "physxArticulation:articulationEnabled": (True,),
    "physxMaterial:*CombineMode": ("average",),
    "physxSurfaceVelocity:*Enabled": (True, False),
    "physics:approximation": ("convexHull",),
    "mjc:flag:override": (False,),
    "mjc:flag:*": (True,),
    "mjc:actuatorfrclimited": ("auto", "false"),
    "mjc:condim": (3,),
    "mjc:inertia": ("legacy", "convex"),
    "mjc:solmix": (1.0,),
    "mjc:solref*": ((0.02, 1.0),),
    "mjc:solimp*": (_SOLIMP,),
}
"""Values that mean nothing, of names whose zero means something; beside what is beyond `_NEVER`.

Of every other name they are zero, false and nothing at all."""

_NEVER = 1e30

_SCHEMAS = {
    "Physics": "RigidBody Mass Collision MeshCollision Material FilteredPairs Limit Drive "
    "ArticulationRoot JointState",
    "Newton": "Scene XpbdScene KaminoScene VbdScene ArticulationRoot Joint Mass Collision "
    "MeshCollision SDFCollision Material Site",
    "Mjc": "Scene Site Imageable Body Collision MeshCollision Joint Material",
    "Physx": "Scene RigidBody Joint Limit JointAxis Articulation Collision ConvexHullCollision "
    "ConvexDecompositionCollision TriangleMeshCollision TriangleMeshSimplificationCollision "
    "SDFMeshCollision SphereFillCollision CookedData ContactReport Material SurfaceVelocity",
}
KNOWN_SCHEMAS = {f"{owner}{name}API" for owner, names in _SCHEMAS.items() for name in names.split()}
"""Applied schemas that say what they say by their attributes."""

_TYPE = re.compile("(Physics|Newton|Mjc|Physx|OmniPhysics)")
_TYPES = ("PhysicsScene", "PhysicsCollisionGroup")

_OWN = {name for names in READ.values() for name in names if name.startswith("gippo:")}
OWN = (*sorted(_OWN), NAME, *(f"gippo:{name}" for name in RECORDED))


def unread_notes(stage: Stage, sorts: Mapping[Sdf.Path, Collection[str]]) -> list[str]:
    """A sentence for each name of physics in a file that plays no part.

    Args:
        stage: the file.
        sorts: of the prims that have some, keys of `READ`, `IDLE` or `STILL`; of others every
            attribute of physics is told.

    Raises:
        ValueError: a misspelt name of this project's own, or one of what drives or ties joints
            on a prim that names none.
    """
    found: dict[str, list[str]] = {}
    for prim in stage.prims():
        own = {*sorts.get(prim.GetPath(), ()), *_own_sorts(prim)}
        _check_own(prim, own)
        for what, where in () if own == {IDLE} else _unread(prim, own):
            found.setdefault(what, []).append(where)
    return [_sentence(what, places) for what, places in found.items()]


def _own_sorts(prim: Usd.Prim) -> set[str]:
    """The sorts of what drives or ties joints."""
    return {name for name in _PARTS if prim.GetRelationship(name)} | (
        {passive_reading.CORD_BODIES} if prim.HasAttribute(passive_reading.CORD_POINTS) else set()
    )


def _check_own(prim: Usd.Prim, sorts: Collection[str]) -> None:
    """Refuse names of this project's own that are misspelt, or on a prim that is nothing of it."""
    for attribute in prim.GetAuthoredPropertiesInNamespace("gippo"):
        name = str(attribute.GetName())
        if not _matches(name, OWN):
            # The nearest of dotted keys: those of USD have colons.
            dotted = [known.replace(":", ".") for known in OWN]
            hint = near_matches(name.replace(":", "."), dotted).replace(".", ":")
            known = hint or f"; {', '.join(OWN)} are"
            raise refuse(prim, f"{name} is no name that is accepted{known}")
        if not sorts and not _matches(name, HINTS) and name[6:] not in RECORDED:
            raise refuse(
                prim,
                f"{name} on a prim that is no body, collider, material, joint or scene and has "
                f"none of the relationships {', '.join(_PARTS)}; on one of them it is accepted",
            )


def _unread(prim: Usd.Prim, sorts: Collection[str]) -> Iterator[tuple[str, str]]:
    """What of a prim plays no part: its name, and a phrase with value and path."""
    path = str(prim.GetPath())
    type_name = str(prim.GetTypeName())
    if _TYPE.match(type_name) and not sorts and type_name not in _TYPES:
        yield type_name, f"the prim {path}"
        return
    for schema in map(str, prim.GetPrimTypeInfo().GetAppliedAPISchemas()):
        if _TYPE.match(schema) and schema.partition(":")[0] not in KNOWN_SCHEMAS:
            yield schema, f"applied to {path}"
    for known in prim.GetAuthoredProperties():
        name = str(known.GetName())
        if not NAMESPACES.match(name) or (STILL in sorts and "elocity" not in name):
            continue
        if isinstance(known, Usd.Relationship):
            value = [str(target) for target in known.GetForwardedTargets()]
        else:
            value = known.Get(AT_REST)
        if not (_matches(name, HINTS) or _is_read(prim, name, sorts) or _is_neutral(name, value)):
            yield name, f"{_shown(value)} on {path}"


def _is_read(prim: Usd.Prim, name: str, sorts: Collection[str]) -> bool:
    """Whether the loader reads an attribute, or has read another that says the same."""
    if name in SAME:
        mine, *others = (read_numbers(prim, one, 1) for one in (name, *SAME[name]))
        first = next((other for other in others if other is not None), None)
        if mine is None:
            return True
        if first is not None:
            return bool(np.isclose(mine[0], first[0]))
    for sort in sorts:
        if _matches(name, READ.get(sort, ())):
            needed = NEEDS.get((sort, name))
            return needed is None or prim.GetAttribute(needed).HasAuthoredValue()
        if name.startswith("drive:") and sort in DRIVES:
            return _is_drive_read(prim, name, DRIVES[sort])
    return False


def _is_drive_read(prim: Usd.Prim, name: str, drive: str) -> bool:
    """Whether an attribute of a hinge's or slide's drive is read: without gains there is none."""
    prefix = f"drive:{drive}:physics:"
    schemas = map(str, prim.GetPrimTypeInfo().GetAppliedAPISchemas())
    if not name.startswith(prefix) or f"PhysicsDriveAPI:{drive}" not in schemas:
        return False
    gains = ("stiffness", "damping")
    what = name.removeprefix(prefix)
    if what in ("targetPosition", "targetVelocity"):
        return any(read_numbers(prim, prefix + gain, 1) for gain in gains)
    return what in (*gains, "type")


def _is_neutral(name: str, value: Any) -> bool:
    """Whether a value means nothing."""
    neutral = next((v for pattern, v in NEUTRAL.items() if fnmatchcase(name, pattern)), None)
    array = np.atleast_1d(np.array(value))
    if array.dtype.kind not in "fiub":
        return not value or value in (neutral or ())
    if np.all(np.abs(array.astype(np.float64)) > _NEVER):  # so is an empty one
        return True
    meant = (np.zeros(array.shape),) if neutral is None else map(np.atleast_1d, neutral)
    return any(
        array.shape == one.shape and one.dtype.kind in "fiub" and np.allclose(array, one)
        for one in meant
    )


def _sentence(what: str, places: list[str]) -> str:
    more = f", and {len(places) - 1} more" if len(places) > 1 else ""
    return f"{what} plays no part: {places[0]}{more}"


def _shown(value: Any) -> str:
    """A value in a few characters."""
    if isinstance(value, float):
        return f"{value:g}"
    text = str(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


@lru_cache(maxsize=4096)  # a file repeats few names many times
def _matches(name: str, patterns: tuple[str, ...]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)
