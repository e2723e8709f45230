"""Which colliders of a robot a USD file parts from the ground: filtered pairs, collision groups.

Bodies do not touch each other here, so that the ground is all that a filter can matter for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from pxr import Sdf, Usd, UsdPhysics

from warp_envs.usd.stage import Stage

_PAIRS = "physics:filteredPairs"


def parted_colliders(
    stage: Stage, grounds: Sequence[Usd.Prim], colliders: Iterable[Usd.Prim]
) -> set[Sdf.Path]:
    """Paths of the colliders that a filter keeps from touching the ground.

    Args:
        stage: the file.
        grounds: the prims that are the ground, one or none.
        colliders: of the robot.
    """
    if not grounds:
        return set()
    ground = grounds[0].GetPath()
    pairs = [
        pair
        for prim in stage.prims()
        if prim.HasRelationship(_PAIRS)
        for target in prim.GetRelationship(_PAIRS).GetForwardedTargets()
        for pair in ((prim.GetPath(), target), (target, prim.GetPath()))
    ]
    # A filter on a prim holds for all below it.
    roots = [one for one, other in pairs if ground.HasPrefix(other)]
    by_groups = _parted_by_groups(stage, ground)
    paths = [prim.GetPath() for prim in colliders]
    return {path for path in paths if any(map(path.HasPrefix, roots)) or by_groups(path)}


def _parted_by_groups(stage: Stage, ground: Sdf.Path) -> Callable[[Sdf.Path], bool]:
    """Whether a collider is in a collision group that does not touch one of the ground's."""
    kind = UsdPhysics.CollisionGroup
    groups = [kind(prim) for prim in stage.prims() if prim.IsA(kind)]
    table = kind.ComputeCollisionGroupTable(stage.usd)
    members = [
        (group.GetPath(), group.GetCollidersCollectionAPI().ComputeMembershipQuery())
        for group in groups
    ]

    def of(path: Sdf.Path) -> list[Sdf.Path]:
        return [group for group, query in members if query.IsPathIncluded(path)]

    under = of(ground)
    return lambda path: any(
        not table.IsCollisionEnabled(one, other) for one in of(path) for other in under
    )
