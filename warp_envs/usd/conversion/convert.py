"""Robots from MJCF and URDF as the UsdPhysics files used here.

    from warp_envs.usd.conversion.convert import convert_robot
    for note in convert_robot("robot.xml", "robot.usda"):
        print(note)

MuJoCo (https://mujoco.org), of the extra ``gippo[convert]``, reads and compiles the file: what it
means (defaults, frames, replication, total mass, inertia of shapes) is then what MuJoCo says it
means. `findings` decides over everything that the compiled model holds: honoured, without effect on
the motion, listed, or refused. `writer` puts the rest into the one format that
`warp_envs.usd.loader` reads and other programs open, too.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from warp_envs.checks import ArgumentError
from warp_envs.usd.conversion.findings import examine
from warp_envs.usd.conversion.source import SOURCES, read_source
from warp_envs.usd.conversion.writer import write_robot
from warp_envs.usd.loader import load_robot


def convert_robot(
    source: str | os.PathLike[str],
    usd_path: str | os.PathLike[str],
    *,
    floating: bool = False,
    lenient: bool = False,
    ground: bool | None = None,
) -> list[str]:
    """Turn an MJCF or URDF file into a UsdPhysics file that `Articulation.from_usd` reads.

    Args:
        source: the robot, ending in .xml or .mjcf (MJCF) or in .urdf.
        usd_path: the file to write, .usda or .usdc.
        floating: free the first body, which the source fixes to the world: URDF has no way to say
            that a robot walks.
        lenient: convert what would move otherwise than in the source, and list how, instead of
            refusing it.
        ground: whether the robot's shapes touch the ground z = 0; None: if the source has a plane
            there, or if the robot floats.

    Returns:
        What of the source is not in the file and what that means for the motion, one line each.

    Raises:
        ValueError: MuJoCo is not installed, a robot that cannot be read or simulated, or one whose
            motion would differ, by names.
    """
    source, usd_path = Path(source), Path(usd_path)
    if not source.is_file() or source.suffix.lower() not in SOURCES:
        raise ArgumentError("source", repr(str(source)), f"a file ending in {SOURCES}")
    if usd_path.suffix not in (".usda", ".usdc"):
        raise ArgumentError("usd_path", repr(str(usd_path)), "a .usda or .usdc file")
    robot = read_source(source, floating=floating)
    if robot.model.nv == 0:
        accepted = "a body with joints, or floating=true for one that nothing should hold"
        raise ArgumentError(str(source), "no body that moves", accepted)
    try:
        listed, differing = examine(robot, ground)
    except ArgumentError as error:
        raise ArgumentError(str(source), str(error)) from error
    if differing and not lenient:
        hint = "; lenient=true converts it without"
        raise ArgumentError(str(source), "; ".join(differing), "", hint)
    with tempfile.TemporaryDirectory(dir=usd_path.parent) as folder:
        work = Path(folder) / usd_path.name
        try:
            write_robot(robot, work, ground)
        except ArgumentError as error:
            raise _of_the_source(error, source, work, usd_path) from error
        try:
            load_robot(work)
        except ValueError as error:
            raise _of_the_source(error, source, work, usd_path) from error
        os.replace(work, usd_path)
    return [*robot.notes, *differing, *listed]


def keyframe_names(usd_path: str | os.PathLike[str]) -> list[str]:
    """Names of the keyframes of a robot's USD file."""
    bodies = load_robot(Path(usd_path)).bodies
    return list(dict.fromkeys(name for body in bodies for name in body.joint.keyframes))


def _of_the_source(error: ValueError, source: Path, work: Path, usd_path: Path) -> ArgumentError:
    """What the loader says against the written file, said of the file that a person gave."""
    text = str(error).replace(str(work), str(usd_path))
    return ArgumentError(str(source), text)
