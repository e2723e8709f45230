"""`gippo convert`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from gippo.configuration.compose import configure
from gippo.errors import UserError
from gippo.files import check_place
from gippo.terminal.help_text import describe_keys
from gippo.terminal.progress import make_console
from warp_envs.checks import ArgumentError, check_flag

HELP = """\
gippo convert: turn a robot's MJCF or URDF file into a USD file to train on.

Usage: gippo convert ROBOT [key=value ...]

ROBOT ends in .xml or .mjcf (MJCF), or in .urdf. MuJoCo reads it: pip install '.[convert]' in
gippo's checkout. What of it is not in the USD file is listed with what that means; a robot that
would move otherwise than in its file is refused by name, unless lenient=true.

Keys:
{keys}

Examples:
  gippo convert crawler.xml
  gippo convert arm.urdf out=robots/arm.usda
  gippo convert dog.urdf floating=true
  gippo train env=robot env.asset=crawler.usda env.gear=5 run_dir=runs/crawler"""


@dataclass
class ConvertConfig:
    """Where to write, and what is let pass."""

    out: str | None = None
    """The file to write, .usda or .usdc; null: the robot's name, ending in .usda."""
    floating: bool = False
    """Free the first body, which a URDF cannot but fix to the world: true for a robot with legs."""
    lenient: bool = False
    """Convert a robot that moves otherwise than in its file, and list how."""
    ground: bool | None = None
    """Whether it touches the ground z = 0; null: if its file has a plane there, or if it floats."""

    def __post_init__(self) -> None:
        """Raise ValueError naming a key out of range."""
        check_flag("floating", self.floating)
        check_flag("lenient", self.lenient)
        if self.ground is not None:
            check_flag("ground", self.ground)
        if self.out is not None and Path(self.out).suffix not in (".usda", ".usdc"):
            raise ArgumentError("out", repr(self.out), "a .usda or .usdc file")


def help_text() -> str:
    """What `gippo convert --help` prints."""
    return HELP.format(keys=describe_keys(ConvertConfig))


def run(arguments: Sequence[str]) -> int:
    """Convert as the arguments say."""
    named = [text for text in arguments if "=" not in text or Path(text).exists()]
    settings = configure("convert", ConvertConfig, [a for a in arguments if a not in named])
    if len(named) != 1:
        given = " ".join(named) or "nothing"
        other = " out=FILE" if len(named) > 1 else ""
        raise UserError(f"{given} given; one robot's file expected: gippo convert ROBOT{other}")
    source = Path(named[0])
    if not source.is_file():
        raise UserError(f"{named[0]!r}: no such file")
    out = source.with_suffix(".usda") if settings.out is None else Path(settings.out)
    check_place("out", out)
    from warp_envs.articulation.contacts import ground_notes
    from warp_envs.usd.conversion.convert import convert_robot, keyframe_names
    from warp_envs.usd.loader import load_robot

    notes = convert_robot(
        source,
        out,
        floating=settings.floating,
        lenient=settings.lenient,
        ground=settings.ground,
    )
    console = make_console()
    for what in notes:
        console.print(f"note: {what}", soft_wrap=True, markup=False)
    for note in ground_notes(load_robot(out)):
        console.print(note, soft_wrap=True, markup=False)
    names = keyframe_names(out)
    if names:
        console.print(f"keyframes: {', '.join(names)} (env.start={names[0]})", soft_wrap=True)
    console.print(f"robot: {out}", soft_wrap=True)
    return 0
