"""`gippo identify`."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from gippo.configuration.compose import configure, refuse_unused
from gippo.configuration.run_config import TrainConfig
from gippo.errors import UserError
from gippo.files import check_place
from gippo.terminal.help_text import describe_keys
from gippo.terminal.progress import make_console
from warp_envs.checks import ArgumentError, check_integer, check_number

HELP = """\
gippo identify: find a robot's or drivers' parameters in recorded motion.

The recording is cut into windows; in each the robot, or the driver behind its recorded leader, is
simulated from what was measured, and the parameters are moved, by the gradient through the
simulation, until it moves as the recording does. Several starts of them, and all drivers, are
simulated side by side. Standard errors come from the curvature.

Usage: gippo identify env=robot env.asset=ROBOT data=FILE fit=[NAME,...] [key=value ...]
       gippo identify env=traffic data=FILE fit=[NAME,...] [key=value ...]

Keys:
{keys}

  Any env.KEY of env=robot is taken as well. The names in fit are those of env.parameters
  (docs/parameters.md). env.control_step is the longest step of the simulation; without
  env.substeps it takes 64 of them.

  env=traffic takes env.model (idm), env.driving (plain), env.integrator (euler), env.dt (0.1, the
  longest step), env.planning_step, and a number of every driver by its name, as env.delta=4, where
  a fit starts or stays. Files are SUMO's FCD (.xml), NGSIM's or highD's, or have the columns time,
  vehicle, lane, x, speed (docs/identification.md).

Files: the layer `out` over the robot's file, or the drivers' numbers; the picture `picture`.

Examples:
  gippo identify env=robot env.asset=arm.usda data=run.npz fit=[damping,armature,payload.mass]
  gippo identify env=robot env.asset=leg.usda data=run.csv fit=[knee.rest] bounds.knee.rest=[0,2]
  gippo identify env=traffic data=trajectories.csv fit=[v0,T,a,b,s0]
  gippo identify env=traffic data=fcd.xml fit=[T,a] shared=true env.driving=sumo"""

_NEEDED = {
    "data": "a recording, as data=run.npz,",
    "fit": "names of what is sought, as fit=[damping,payload.mass] or, of drivers, fit=[v0,T],",
}
SUBSTEPS = 64
WINDOW = 10
"""Of a robot's recording, where not given: control steps in a step, intervals in a window."""


@dataclass
class IdentifyConfig:
    """What was recorded, and what is sought in it."""

    data: str | None = None
    """The recording of a robot, .npz or .csv, or of traffic, .csv, .txt or .xml."""
    fit: list[str] = field(default_factory=list)
    """Names of the parameters, or patterns of them."""
    bounds: Any = None
    """Name -> [low, high]; null: a tenth to ten times the file's, of drivers a fifth to five."""
    window: int | None = None
    """Intervals of the recording in a window; null: 10 of a robot's, 20 s of a driver's."""
    starts: int = 4
    """Sets of parameters to start from: those given, and others drawn between the bounds."""
    held_out: float = 0.2
    """Share of the windows, the last of them (of each driver), that only judges."""
    shared: bool = False
    """true: all drivers have the same numbers; false: each has its own."""
    iterations: int = 50
    """At most."""
    out: str | None = None
    """What was found: a USD layer (null: the robot's name, ending in _identified.usda), or the
    drivers' numbers, .yaml (null: the recording's name, ending in _drivers.yaml)."""
    picture: str | None = None
    """Measured and simulated positions or gaps, .png; null: as `out`, ending in .png."""

    def __post_init__(self) -> None:
        """Raise ValueError naming a key out of range."""
        if self.window is not None:
            check_integer("window", self.window, 1)
        check_integer("starts", self.starts, 1)
        check_integer("iterations", self.iterations, 1)
        check_number("held_out", self.held_out, 0.0, 1.0, open_low=True, open_high=True)
        if self.bounds is not None and not isinstance(self.bounds, Mapping):
            raise ArgumentError("bounds", repr(self.bounds), "a mapping of names to [low, high]")
        for key, suffixes in (
            ("out", (".usda", ".usd", ".usdc", ".yaml")),
            ("picture", (".png",)),
        ):
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
    for key, accepted in _NEEDED.items():
        if not getattr(settings, key):
            raise UserError(f"{key}: nothing given, {accepted} accepted")
    identify = _identify_traffic if "env=traffic" in others else _identify_robot
    identify(settings, others)
    return 0


def _identify_robot(settings: IdentifyConfig, others: Sequence[str]) -> None:
    refuse_unused("identify", others, ("env", "seed"))
    config = configure("train", TrainConfig, ["algo=rp", *others])
    if config.env["id"] != "robot":
        raise UserError(f"env: {config.env['id']!r} given, 'robot' or 'traffic' accepted")
    if settings.shared:
        raise UserError("shared: true given; of a robot there are no drivers")
    asset = Path(str(config.env_options["asset"]))
    out, picture = _files(settings, f"{asset.stem}_identified.usda", (".usda", ".usd", ".usdc"))
    if not Path(str(settings.data)).is_file():  # a robot takes its time to build
        raise UserError(f"data: {settings.data}: No such file or directory")
    given = any(argument.startswith("env.substeps=") for argument in others)
    options = {**config.env_options, **({} if given else {"substeps": SUBSTEPS})}
    settings.window = WINDOW if settings.window is None else settings.window
    from gippo.studies.identification_report import identify_robot  # torch and Warp, after checks

    identify_robot(settings, options, config.seed, out, picture, make_console())


def _identify_traffic(settings: IdentifyConfig, others: Sequence[str]) -> None:
    options, seed = {}, 0
    for argument in others:
        key, _, text = argument.partition("=")
        if key == "seed":
            seed = check_integer("seed", yaml.safe_load(text), 0, 2**31 - 1)
        elif key.startswith("env."):
            options[key.removeprefix("env.")] = yaml.safe_load(text)
        elif argument != "env=traffic":
            raise UserError(f"{key}: no key of gippo identify env=traffic")
    out, picture = _files(settings, f"{Path(str(settings.data)).stem}_drivers.yaml", (".yaml",))
    from gippo.studies.calibration_report import calibrate_drivers  # torch and Warp, after checks

    calibrate_drivers(settings, options, seed, out, picture, make_console())


def _files(settings: IdentifyConfig, name: str, suffixes: Sequence[str]) -> tuple[Path, Path]:
    """Where what was found and the picture go."""
    out = Path(name if settings.out is None else settings.out)
    picture = out.with_suffix(".png") if settings.picture is None else Path(settings.picture)
    if out.suffix not in suffixes:
        raise UserError(f"out: {str(out)!r} given, a {' or '.join(suffixes)} file accepted")
    for key, path in (("out", out), ("picture", picture)):
        check_place(key, path)
    return out, picture


def _quoted(arguments: Sequence[str]) -> list[str]:
    """``bounds.knee.damping=[0,2]`` as one entry of the mapping, whose keys may have dots."""
    plain = [argument for argument in arguments if not argument.startswith("bounds.")]
    pairs = [a.removeprefix("bounds.").partition("=") for a in arguments if a not in plain]
    if pairs:
        entries = ",".join(f"{name}: {value}" for name, _, value in pairs)
        plain.append(f"bounds={{{entries}}}")
    return plain
