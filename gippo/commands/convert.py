"""`gippo convert`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from gippo.configuration.compose import configure
from gippo.errors import UserError
from gippo.terminal.help_text import describe_keys
from gippo.terminal.progress import make_console
from warp_envs.checks import ArgumentError

HELP = """\
gippo convert: turn a robot's MJCF or URDF file into a USD file to train on.

Usage: gippo convert ROBOT [key=value ...]

ROBOT ends in .xml or .mjcf (MJCF), or in .urdf. Newton reads it: pip install 'gippo[newton]'. What
of it is not in the USD file is listed; what cannot be simulated is refused by name.

Keys:
{keys}

Examples:
  gippo convert crawler.xml
  gippo convert arm.urdf out=robots/arm.usda
  gippo train env=robot env.asset=crawler.usda env.gear=5 run_dir=runs/crawler"""


@dataclass
class ConvertConfig:
    """Where to write."""

    out: str | None = None
    """The file to write, .usda or .usdc; null: the robot's name, ending in .usda."""

    def __post_init__(self) -> None:
        """Raise ValueError naming a key out of range."""
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
        raise UserError(f"{given} given; one robot's file expected: gippo convert ROBOT")
    source = Path(named[0])
    out = source.with_suffix(".usda") if settings.out is None else Path(settings.out)
    if not out.absolute().parent.is_dir():
        raise UserError(f"out: the folder of {str(out)!r} does not exist")
    from warp_envs.articulation.contacts import ground_notes
    from warp_envs.usd.loader import load_robot
    from warp_envs.usd.newton_import import convert_robot

    left_out = convert_robot(source, out)
    console = make_console()
    for what in left_out:
        console.print(f"left out: {what}", soft_wrap=True)
    for note in ground_notes(load_robot(out)):
        console.print(note, soft_wrap=True, markup=False)
    console.print(f"robot: {out}", soft_wrap=True)
    return 0
