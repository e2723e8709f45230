"""`gippo inspect`."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from gippo.configuration.compose import configure
from gippo.errors import UserError
from gippo.files import check_place
from gippo.terminal.help_text import describe_keys
from gippo.terminal.progress import make_console
from warp_envs.checks import ArgumentError, check_flag, check_positive

if TYPE_CHECKING:
    from rich.console import Console

    from warp_envs.articulation.stiffness import Stiffness
    from warp_envs.usd.description import Body, RobotDescription

HELP = """\
gippo inspect: tell what a robot is made of, how stiff it is, and draw it at its start.

Usage: gippo inspect ROBOT [key=value ...]

ROBOT is a USD file with one UsdPhysics articulation, or an MJCF (.xml, .mjcf) or URDF file, which
is converted into a temporary file first.

Keys:
{keys}

It prints mass, joints with their limits, actuators, shapes that touch the ground, the height of the
start above it, and how fast the stiffest contact, limit, spring and damper move by themselves: an
explicit integrator wants that times its step below about 1. What it advises is what
env.substeps=auto takes, 16 at least.

Examples:
  gippo inspect crawler.usda
  gippo inspect dog.urdf floating=true picture=dog.png"""


@dataclass
class InspectConfig:
    """What to assume, and where to draw."""

    picture: str | None = None
    """The picture to write, .png; null: the robot's name, ending in .png, in the folder at hand."""
    control_step: float = 1.0 / 60.0
    """Time between two actions [s]."""
    floating: bool = False
    """Of an MJCF or URDF file, as of `gippo convert`."""
    lenient: bool = False
    """Of an MJCF or URDF file, as of `gippo convert`."""
    ground: bool | None = None
    """Of an MJCF or URDF file, as of `gippo convert`."""

    def __post_init__(self) -> None:
        """Raise ValueError naming a key out of range."""
        check_positive("control_step", self.control_step)
        check_flag("floating", self.floating)
        check_flag("lenient", self.lenient)
        if self.ground is not None:
            check_flag("ground", self.ground)
        if self.picture is not None and Path(self.picture).suffix != ".png":
            raise ArgumentError("picture", repr(self.picture), "a .png file")


def help_text() -> str:
    """What `gippo inspect --help` prints."""
    return HELP.format(keys=describe_keys(InspectConfig))


def run(arguments: Sequence[str]) -> int:
    """Inspect as the arguments say."""
    named = [text for text in arguments if "=" not in text or Path(text).exists()]
    settings = configure("inspect", InspectConfig, [a for a in arguments if a not in named])
    if len(named) != 1:
        given = " ".join(named) or "nothing"
        other = " picture=FILE" if len(named) > 1 else ""
        raise UserError(f"{given} given; one robot's file expected: gippo inspect ROBOT{other}")
    source = Path(named[0])
    picture = Path(f"{source.stem}.png" if settings.picture is None else settings.picture)
    check_place("picture", picture)
    console = make_console()
    with tempfile.TemporaryDirectory() as folder:
        asset = _as_usd(source, Path(folder), settings, console)
        _inspect(asset, picture, settings, console)
    console.print(f"picture: {picture}", soft_wrap=True, markup=False)
    return 0


def _as_usd(source: Path, folder: Path, settings: InspectConfig, console: Console) -> Path:
    """The robot's USD file, converted into `folder` where it is of another kind."""
    from warp_envs.usd.conversion.convert import convert_robot
    from warp_envs.usd.conversion.source import SOURCES

    if source.suffix.lower() not in SOURCES:
        return source
    asset = folder / f"{source.stem}.usda"
    options = {name: getattr(settings, name) for name in ("floating", "lenient", "ground")}
    for what in convert_robot(source, asset, **options):
        console.print(f"left out: {what}", soft_wrap=True, markup=False)
    return asset


def _inspect(asset: Path, picture: Path, settings: InspectConfig, console: Console) -> None:
    from warp_envs.articulation.contacts import ground_notes
    from warp_envs.articulation.model import rest_coordinates
    from warp_envs.articulation.stiffness import LEAST_SUBSTEPS, advised_stiffness
    from warp_envs.usd.loader import load_robot
    from warp_envs.viewing.pose import render_pose

    robot = load_robot(asset)
    q = rest_coordinates(robot.bodies)
    for name, text in _facts(robot, q):
        console.print(f"{name + ':':12s}{text}", soft_wrap=True, markup=False)
    console.print(_joint_table(robot, q))
    if robot.couplings or robot.cords:
        console.print(_tendon_table(robot))
    stiffness = advised_stiffness(robot, settings.control_step, q)
    console.print(_stiffness_table(stiffness, settings.control_step))
    advised = stiffness.substeps(settings.control_step)
    taken = max(advised, LEAST_SUBSTEPS)
    console.print(
        f"substeps: {advised} for a control step of {settings.control_step:.4g} s; "
        f"env.substeps=auto takes {taken}",
        soft_wrap=True,
    )
    calmer = replace(robot, implicit_damping=True)
    fewer = advised_stiffness(calmer, settings.control_step, q).substeps(settings.control_step)
    if max(fewer, LEAST_SUBSTEPS) < taken:
        console.print(f"          {fewer} with env.implicit_damping=true", soft_wrap=True)
    softer = _softer_limit(robot, stiffness, settings.control_step)
    if softer:
        console.print(softer, soft_wrap=True, markup=False)
    for note in ground_notes(robot):
        console.print(note, soft_wrap=True, markup=False)
    render_pose(asset, robot, q, picture)


def _facts(robot: RobotDescription, q: np.ndarray) -> list[tuple[str, str]]:
    """A line for each thing that is told of the whole robot."""
    from warp_envs.articulation.contacts import robot_contacts
    from warp_envs.usd.ground import Plane

    mass = sum(body.mass for body in robot.bodies)
    kinds = Counter(body.joint.kind for body in robot.bodies if body.joint.nv)
    joints = ", ".join(f"{count} {kind}" for kind, count in kinds.items())
    shapes = Counter(s.kind for body in robot.bodies for s in body.shapes if s.collides)
    touching = ", ".join(f"{count} {kind}" for kind, count in shapes.items()) or "none"
    points = len(robot_contacts(robot))
    ground = robot.ground
    if isinstance(ground, Plane):
        where = f"plane, height {ground.height:.4g} m, slopes {ground.slope.tolist()}"
    else:
        where = f"height field of {' x '.join(map(str, ground.heights.shape))} points"
    return [
        ("robot", robot.name),
        ("mass", f"{mass:.6g} kg in {len(robot.bodies)} bodies"),
        ("moves", f"{robot.nv} degrees of freedom: {joints or 'none'}"),
        ("actuators", _actuators(robot)),
        ("touches", f"{touching} ({points} points)"),
        ("ground", where if robot.contact else "none"),
        ("start", _start(robot, q)),
    ]


def _actuators(robot: RobotDescription) -> str:
    kinds = Counter(actuator.kind for actuator in robot.actuators)
    if not kinds:
        return "none in the file: env.gear newton metres or newtons at full action"
    return ", ".join(f"{count} {kind}" for kind, count in kinds.items())


def _start(robot: RobotDescription, q: np.ndarray) -> str:
    """How high the robot stands above the ground, and what of it lies outside its limits."""
    from warp_envs.articulation.stiffness import clearance

    height = clearance(robot, q)
    said = "" if height is None else f"lowest point {height:+.4g} m from the ground"
    names = sorted({name for body in robot.bodies for name in body.joint.keyframes})
    if names:
        said += f"; keyframes {', '.join(names)}"
    return said.removeprefix("; ") or "as authored"


def _jointed(robot: RobotDescription) -> list[tuple[Body, int]]:
    """Bodies on hinges, slides and balls with their first coordinates."""
    from warp_envs.articulation.model import start_indices

    starts = start_indices(robot.bodies)[0]
    pairs = zip(robot.bodies, starts, strict=False)
    return [(b, at) for b, at in pairs if b.joint.kind in ("revolute", "prismatic", "spherical")]


def _joint_table(robot: RobotDescription, q: np.ndarray) -> Any:
    from rich.table import Table

    table = Table("joint", "kind", "start", "limits", "damping", "armature", "driven by")
    table.columns[0].overflow = "fold"
    driven: dict[str, list[str]] = {}
    for actuator in robot.actuators:
        driven.setdefault(actuator.joint, []).append(f"{actuator.kind} {actuator.name}")
    for body, at in _jointed(robot):
        joint = body.joint
        start, limits = q[at], "none"
        if np.isfinite(joint.lower) or np.isfinite(joint.upper):
            limits = f"{joint.lower:.4g} to {joint.upper:.4g}"
        if joint.kind == "spherical":  # the angle that it is turned by
            start = 2.0 * np.arctan2(np.linalg.norm(q[at : at + 3]), abs(q[at + 3]))
            limits = f"0 to {joint.upper:.4g}" if np.isfinite(joint.upper) else "none"
        outside = "" if joint.lower <= start <= joint.upper else " (outside)"
        table.add_row(
            joint.name,
            joint.kind,
            f"{start:.4g}{outside}",
            limits,
            f"{joint.damping + joint.limit_kd:.4g}",
            f"{joint.armature:.4g}",
            ", ".join(driven.get(joint.name, ["-"])),
        )
    return table


def _tendon_table(robot: RobotDescription) -> Any:
    """Springs between joints (couplings) and along lines (cords)."""
    from rich.table import Table

    table = Table("tendon or tie", "of", "slack", "stiffness", "damping")
    table.columns[0].overflow = table.columns[1].overflow = "fold"
    rows = [
        (c, " + ".join(f"{w:.4g} {j}" for j, w in zip(c.joints, c.weights, strict=True)))
        for c in robot.couplings
    ]
    rows += [(c, f"line through {len(c.points)} points") for c in robot.cords]
    for tendon, what in rows:
        slack = f"{tendon.low:.4g} to {tendon.high:.4g}"
        numbers = (f"{tendon.stiffness:.4g}", f"{tendon.damping:.4g}")
        table.add_row(tendon.name, what, slack, *numbers)
    return table


_SOFT = 64
"""Substeps that a robot's limits may ask for unremarked."""


def _softer_limit(robot: RobotDescription, stiffness: Stiffness, control_step: float) -> str:
    """What would spare substeps, where limits ask for the most of them."""
    limit = stiffness.limit
    if limit is None or limit != stiffness.fastest or limit.speed * control_step <= _SOFT:
        return ""
    (joint,) = (b.joint for b in robot.bodies if f"joint {b.joint.name}" == limit.what)
    ke = joint.limit_ke * (_SOFT / (limit.speed * control_step)) ** 2
    unit = "N/m" if joint.kind == "prismatic" else "N m/rad"
    return (
        f"          {_SOFT} with softer limits: {ke:.3g} {unit} instead of {joint.limit_ke:.4g} at "
        f"{limit.what}, others alike (newton:limitStiffness)"
    )


_MEANING = {
    "contact": "on the ground's springs",
    "limit": "on the springs of limits",
    "spring": "on joints' springs",
    "damper": "against joints' damping",
    "coupling": "on couplings of joints",
    "impact": "against the contact's damping",
    "friction": "against the friction (half)",
}


def _stiffness_table(stiffness: Stiffness, control_step: float) -> Any:
    from rich.table import Table

    table = Table("moves fastest", "what", "rate [1/s]", "times the step, 16 substeps")
    for kind, meaning in _MEANING.items():
        rate = getattr(stiffness, kind)
        if rate is not None:
            by_step = rate.speed * control_step / 16
            table.add_row(meaning, rate.what, f"{rate.speed:.4g}", f"{by_step:.2g}")
    return table
