"""`gippo identify`."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gippo.configuration.compose import configure
from gippo.configuration.run_config import TrainConfig
from gippo.errors import UserError
from gippo.terminal.help_text import describe_keys
from gippo.terminal.progress import make_console
from warp_envs.checks import ArgumentError, check_integer, check_number

HELP = """\
gippo identify: find a robot's physical parameters in its recorded motion.

The recording is cut into short windows; in each the robot is simulated from what was measured, and
the parameters are moved, by the gradient through the simulation, until it moves as the recording
does. Several starts of them are simulated side by side. Standard errors come from the curvature.

Usage: gippo identify env=robot env.asset=ROBOT data=FILE fit=[NAME,...] [key=value ...]

Keys:
{keys}

  Any env.KEY of env=robot is taken as well. The names in fit are those of env.parameters
  (docs/parameters.md). env.control_step is the longest step of the simulation; without
  env.substeps it takes 64 of them.

Files: the layer `out` over the robot's file, the picture `picture`.

Examples:
  gippo identify env=robot env.asset=arm.usda data=run.npz fit=[damping,armature,payload.mass]
  gippo identify env=robot env.asset=leg.usda data=run.csv fit=[knee.rest] bounds.knee.rest=[0,2]"""

SUBSTEPS = 64


@dataclass
class IdentifyConfig:
    """What was recorded, and what is sought in it."""

    data: str | None = None
    """The recording, .npz or .csv: time, positions, velocities, actions: docs/identification.md."""
    fit: list[str] = field(default_factory=list)
    """Names of the parameters, or patterns of them."""
    bounds: Any = None
    """Name -> [low, high]; null: from a tenth to ten times the file's number."""
    window: int = 10
    """Intervals of the recording in a window."""
    starts: int = 4
    """Sets of parameters to start from: the file's, and others drawn between the bounds."""
    held_out: float = 0.2
    """Share of the windows, the last of them, that only judges."""
    iterations: int = 50
    """At most."""
    out: str | None = None
    """The USD layer with what was found; null: the robot's name, ending in _identified.usda."""
    picture: str | None = None
    """Measured and simulated positions, .png; null: as `out`, ending in .png."""

    def __post_init__(self) -> None:
        """Raise ValueError naming a key out of range."""
        check_integer("window", self.window, 1)
        check_integer("starts", self.starts, 1)
        check_integer("iterations", self.iterations, 1)
        check_number("held_out", self.held_out, 0.0, 1.0, open_low=True, open_high=True)
        if self.bounds is not None and not isinstance(self.bounds, Mapping):
            raise ArgumentError("bounds", repr(self.bounds), "a mapping of names to [low, high]")
        for key, suffixes in (("out", (".usda", ".usd", ".usdc")), ("picture", (".png",))):
            value = getattr(self, key)
            if value is not None and Path(value).suffix not in suffixes:
                raise ArgumentError(key, repr(value), f"a {' or '.join(suffixes)} file")


def help_text() -> str:
    """What `gippo identify --help` prints."""
    return HELP.format(keys=describe_keys(IdentifyConfig))


def run(arguments: Sequence[str]) -> int:
    """Identify as the arguments say."""
    names = {entry.name for entry in dataclasses.fields(IdentifyConfig)}
    own = [argument for argument in arguments if argument.split("=")[0].split(".")[0] in names]
    others = [argument for argument in arguments if argument not in own]
    settings = configure("identify", IdentifyConfig, _quoted(own))
    for key in ("data", "fit"):
        if not getattr(settings, key):
            raise UserError(f"{key}: nothing given; gippo identify --help tells of it")
    config = configure("train", TrainConfig, ["algo=rp", *others])
    if config.env["id"] != "robot":
        raise UserError(f"env: {config.env['id']!r} given, 'robot' accepted")
    asset = Path(str(config.env_options["asset"]))
    out = Path(f"{asset.stem}_identified.usda" if settings.out is None else settings.out)
    picture = out.with_suffix(".png") if settings.picture is None else Path(settings.picture)
    for key, path in (("out", out), ("picture", picture)):
        if not path.absolute().parent.is_dir():
            raise UserError(f"{key}: the folder of {str(path)!r} does not exist")
    given = any(argument.startswith("env.substeps=") for argument in others)
    options = {**config.env_options, **({} if given else {"substeps": SUBSTEPS})}
    from gippo.studies.identification_report import identify_robot  # torch and Warp, after checks

    identify_robot(settings, options, config.seed, out, picture, make_console())
    return 0


def _quoted(arguments: Sequence[str]) -> list[str]:
    """``bounds.knee.damping=[0,2]`` as one entry of the mapping, whose keys may have dots."""
    plain = [argument for argument in arguments if not argument.startswith("bounds.")]
    pairs = [a.removeprefix("bounds.").partition("=") for a in arguments if a not in plain]
    if pairs:
        entries = ",".join(f"{name}: {value}" for name, _, value in pairs)
        plain.append(f"bounds={{{entries}}}")
    return plain
