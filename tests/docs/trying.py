"""Trying a page's commands one after the other, in a folder like a checkout.

`run` is what a command's own `run` does. Where that would take long, `dry` lets it do all that it
does before torch and Warp get to work - read the command line, compose and check the configuration,
look for the files - and then leaves what the command would have left for those after it.
"""

import os
import re
import shutil
from pathlib import Path

import pytest
from hydra._internal.hydra import Hydra

from gippo.cli import COMMANDS, main
from gippo.configuration.compose import parse
from gippo.configuration.derived import configure_training
from gippo.configuration.run_config import CONFIG_FILE, save_config
from gippo.configuration.sweep import _samples
from gippo.runs import training
from tests.docs.commands import ROOT, Command

LINKED = ("assets", "benchmarks", "configs", "docs", "gippo", "tests")
COPIED = ("examples", "results/policies")  # in which commands may write
_CRAWLER = """\
<mujoco model="crawler"><option timestep="0.005"/><worldbody>
<geom type="plane" size="5 5 0.1"/>
<body name="base" pos="0 0 0.3"><freejoint/><geom type="box" size="0.2 0.1 0.05" mass="4"/>
<body name="thigh" pos="0.2 0 0"><joint name="hip_pitch" axis="0 1 0" range="-60 60" damping="0.1"/>
<geom type="capsule" fromto="0 0 0 0 0 -0.15" size="0.03" mass="0.5"/>
<body name="shin" pos="0 0 -0.15"><joint name="knee" axis="0 1 0" range="-90 90" damping="0.1"/>
<geom type="capsule" fromto="0 0 0 0 0 -0.15" size="0.03" mass="0.3"/>
</body></body></body></worldbody></mujoco>
"""
_MJLAB = "models/mjlab/asset_zoo/robots/unitree_go1/xmls/go1.xml"


def stage(folder: Path, page: str) -> None:
    """Fill a folder with what a reader of a page has: a checkout, and files of one's own."""
    for name in LINKED:
        (folder / name).symlink_to(ROOT / name)
    for name in COPIED:
        shutil.copytree(ROOT / name, folder / name)
    shutil.copy(ROOT / "assets" / "ant.usda", folder)
    (folder / "crawler.xml").write_text(_CRAWLER)
    for name in (_MJLAB, "go1.xml"):  # stands for the Go1's
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(_CRAWLER)
    for name in ("arm.usda", "run.npz", "trajectories.csv"):
        (folder / name).touch()
    text = (ROOT / page).read_text(encoding="utf-8")
    task = re.search(
        r"```python\n(import torch\nfrom warp_envs import RobotState.*?)```", text, re.S
    )
    if task:
        (folder / "my_tasks.py").write_text(task[1])


class Accepted(BaseException):
    """A command has come to where its work begins."""


def dry(arguments: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Do all of a command but its work; what it would leave is there afterwards, if empty.

    Raises:
        AssertionError: it is refused.
    """
    # A disk that a cluster's machines share: here a folder of this one.
    arguments = [text.replace("=/shared/", f"={Path.cwd()}/shared/") for text in arguments]
    with monkeypatch.context() as patch:
        _replace_work(patch, arguments)
        try:
            status = main(arguments)
        except Accepted:
            status = 0
        assert status == 0, arguments
    for text in arguments:
        key, _, value = text.partition("=")
        out = value if key == "out" else text if arguments[0] == "export" else ""
        if out and Path(out).suffix and not Path(out).exists():
            Path(out).touch()


def _replace_work(patch: pytest.MonkeyPatch, arguments: list[str]) -> None:
    def accept(*args, **kwargs):
        raise Accepted

    def train(config, *args):
        if config.resume:
            config = training.resumed(config, Path(config.run_dir), args[0])
        _leave_run(Path(config.run_dir or "runs/unnamed"), config)
        raise Accepted

    def convert(source, out, **options):
        Path(out).touch()
        raise Accepted

    def multirun(self, overrides, **options):
        own = [o for o in parse(overrides) if not o.key_or_group.startswith("hydra")]
        swept = [o.key_or_group for o in own if o.is_sweep_override()]
        folder = next(
            (o.value() for o in parse(overrides) if "sweep.dir" in o.key_or_group), "sweep"
        )
        jobs = _samples(own)
        config = configure_training(jobs[0])  # which stands for all of them
        for job in jobs:
            named = sorted(text for text in job if text.partition("=")[0] in swept)
            _leave_run(Path(str(folder)) / ",".join(named), config)
        raise Accepted

    patch.setattr(Hydra, "multirun", multirun)
    for place, work in {
        "gippo.runs.training.train": train,
        "gippo.runs.evaluation.evaluate": accept,
        "gippo.runs.acting.make_acting": accept,
        "gippo.runs.comparison.gather": accept,
        "gippo.runs.export.export_policy": accept,
        "gippo.studies.bench_report.measure": accept,
        "gippo.studies.diagnosis.diagnose": accept,
        "gippo.studies.identification_report.identify_robot": accept,
        "gippo.studies.calibration_report.calibrate_drivers": accept,
        "gippo.studies.reproduction.experiments.reproduce": accept,
        "gippo.commands.check_gradients.make_env": accept,
        "gippo.commands.compile.make_env": accept,
        "gippo.commands.inspect._inspect": accept,
        "warp_envs.usd.conversion.convert.convert_robot": convert,
        "warp_envs.viewing.page.write_page": accept,
        "warp_envs.viewing.film.render_film": accept,
        "warp_envs.viewing.newton_viewer.show_in_newton": accept,
    }.items():
        patch.setattr(place, work)


def _leave_run(folder: Path, config) -> None:
    (folder / "checkpoints").mkdir(parents=True, exist_ok=True)
    save_config(config, folder / CONFIG_FILE)
    for name in (
        "rollout.usdc",
        "checkpoints/best.pt",
        "checkpoints/epoch_000500.pt",
        "metrics.jsonl",
    ):
        (folder / name).touch()


# Running ----------------------------------------------------------------------------------------

SHORT = {
    "train": {
        "num_epochs": "1",
        "env.num_envs": "4",
        "rollout.num_envs": "1",
        "rollout.num_steps": "4",
        "num_threads": "1",
    },
    "play": {"num_envs": "2", "num_steps": "4"},
    "evaluate": {"num_episodes": "2"},
    "diagnose": {"horizons": "[1,2]", "num_windows": "16", "epochs": "1"},
    "check-gradients": {"num_envs": "1", "num_steps": "2"},
    "bench": {"num_envs": "[4]", "seconds": "0.01"},
    "plot": {"num_envs": "2", "num_steps": "20"},
}
"""Command -> the keys that make it short, in place of what it says of them."""


def shortened(words: tuple[str, ...]) -> list[str]:
    """A command's arguments with the keys that make it short; a sweep keeps two seeds."""
    name, *given = words[1:]
    short = dict(SHORT.get(name, {}))
    if name == "plot" and not any(text.startswith("kind=") for text in given):
        short = {}
    if "resume=true" in given:  # a run goes on with its own values, num_epochs aside
        more = any(text.startswith("num_epochs=") for text in given)
        short = {"num_epochs": "2"} if more else {}
    if any(text.startswith("-") for text in given) and "-m" not in given:
        short = {}  # --keys, --config, --help
    kept = [text for text in given if text.partition("=")[0] not in short]
    kept = [re.sub(r"^(seed=\d+,\d+),.*", r"\1", text) for text in kept]
    return [name, *kept, *(f"{key}={value}" for key, value in short.items())]


def change_folder(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    """`cd`, as a page says it; from there on modules in that folder are found."""
    (where,) = command.words[1:]
    monkeypatch.chdir(where)
    monkeypatch.syspath_prepend(os.getcwd())


def known(command: Command) -> bool:
    """Whether `gippo` has the command at all."""
    return command.words[1] in COMMANDS or command.words[1].startswith("-")
