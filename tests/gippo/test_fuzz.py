"""Damaged and hostile files, and any value for any key: one line, nothing lost, no code run.

A few of each kind; ``GIPPO_FUZZ=200 pytest -n 0 tests/gippo/test_fuzz.py`` tries so many.
"""

import copy
import io
import math
import os
import pickle
import re
import zipfile
from functools import cache
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pxr import Usd

from gippo.cli import main
from gippo.configuration.compose import configure
from gippo.configuration.run_config import TrainConfig, keys_of, to_omegaconf
from gippo.distributed import SINGLE
from gippo.environment import make_env
from gippo.errors import UserError
from gippo.runs.checkpoint import CheckpointFolder, checkpoint_of, difference, read
from gippo.runs.folder import CHECKPOINTS
from gippo.runs.policy import Policy
from gippo.runs.trainer import Trainer
from gippo.runs.training import _make_learner
from warp_envs.usd.loader import load_robot

FUZZ = int(os.environ.get("GIPPO_FUZZ", "0"))
TINY = (
    "env=dejong",
    "env.num_envs=4",
    "learner.actor.hidden=[4]",
    "learner.critic.hidden=[4]",
    "learner.critic.iterations=1",
    "num_epochs=3",
    "num_threads=1",
    "logger=[]",
)


def fuzzed(few: int):
    """So many examples, or GIPPO_FUZZ; what another example leaves behind does not matter here."""
    calm = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
    return settings(max_examples=FUZZ or few, deadline=None, suppress_health_check=calm)


# Checkpoints --------------------------------------------------------------------------------------


class Evil:
    def __init__(self, path: Path) -> None:
        self.path = str(path)

    def __reduce__(self):
        return (os.mkdir, (self.path,))


def saved(tree: object) -> bytes:
    buffer = io.BytesIO()
    torch.save(tree, buffer)
    return buffer.getvalue()


def bomb() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", bytes(1 << 24))
    return buffer.getvalue()


def flat(tree: dict, name: tuple = ()) -> list[tuple]:
    """The way to every leaf."""
    found = []
    for key, value in tree.items():
        found += flat(value, (*name, key)) if isinstance(value, dict) else [(*name, key)]
    return found


WRONG = (
    None,
    "text",
    b"bytes",
    -1,
    10**400,
    2.5,
    math.nan,
    True,
    [],
    {},
    torch.zeros(()),
    torch.zeros(3, 3),
    torch.zeros(1).expand(1 << 40),
    torch.zeros(1, 1).expand(1 << 40, 4),
    torch.zeros(2).to_sparse(),
    torch.zeros(4, 4).to_sparse(),
    torch.zeros(4, 4, dtype=torch.int64),
    torch.full((5056,), 255, dtype=torch.uint8),
    torch.tensor([1 + 2j]),
)


class Run:
    """A run of two checkpoints, of which the newer is damaged again and again."""

    def __init__(self, folder: Path) -> None:
        self.config = configure("train", TrainConfig, TINY)
        self.folder = folder
        self.learner = _make_learner(self.config, SINGLE, "cpu")
        self.trainer().train()
        self.newest, self.previous = CheckpointFolder(folder / CHECKPOINTS, 2).epochs().values()
        self.content = self.newest.read_bytes()
        self.tree = read(self.newest)
        self.metrics = (folder / "metrics.jsonl").read_bytes()

    def trainer(self) -> Trainer:
        options = {"num_epochs": 3, "checkpoint_every": 2, "keep_last": 2}
        return Trainer(self.learner, self.folder, **options)


@pytest.fixture(scope="module")
def a_run(tmp_path_factory) -> Run:
    return Run(tmp_path_factory.mktemp("fuzz"))


def damaged(draw: st.DataObject, run: Run, trap: Path) -> tuple[bytes, bool]:
    """A checkpoint's bytes, and whether it may be taken though its numbers are others."""
    kind = draw.draw(
        st.sampled_from(["bits", "cut", "block", "tail", "leaf", "keys", "code", "bomb"])
    )
    content = bytearray(run.content)
    place = st.integers(0, len(content) - 1)
    if kind == "bits":
        for _ in range(draw.draw(st.integers(1, 8))):
            content[draw.draw(place)] ^= 1 << draw.draw(st.integers(0, 7))
    elif kind == "cut":
        del content[draw.draw(place) :]
    elif kind == "block":
        start, block = draw.draw(place), draw.draw(st.binary(min_size=1, max_size=64))
        content[start : start + len(block)] = block
    elif kind == "tail":
        content += draw.draw(st.binary(min_size=1, max_size=64))
    elif kind == "bomb":
        content = bomb()
    elif kind == "code":
        evil = {**run.tree, "epoch": Evil(trap)}
        content = draw.draw(st.sampled_from([saved(evil), pickle.dumps(evil)]))
    else:
        tree = copy.deepcopy(run.tree)
        *way, last = draw.draw(st.sampled_from(flat(tree)))
        node = tree
        for key in way:
            node = node[key]
        if kind == "keys":
            del node[last]
        else:
            node[last] = draw.draw(st.sampled_from(WRONG))
        content = saved(tree)
    return bytes(content), kind == "leaf"


@fuzzed(30)
@given(draw=st.data())
def test_a_damaged_checkpoint_is_passed_over_or_does_no_harm(a_run, draw, tmp_path):
    trap = tmp_path / "executed"
    content, other_numbers = damaged(draw, a_run, trap)
    a_run.newest.write_bytes(content)
    trainer = a_run.trainer()
    refused = trainer.resume()
    assert trainer.epoch == (2 if refused else 3)
    assert all(line.startswith("checkpoint: ") and "\n" not in line for line in refused)
    expected = read(a_run.previous) if refused else a_run.tree
    state = {**expected, "learner": a_run.learner.state_dict()}
    assert difference(expected, state, "state") is None
    if not other_numbers or refused:
        for way in flat(expected["learner"]):
            one, other = expected["learner"], state["learner"]
            for key in way:
                one, other = one[key], other[key]
            same = (
                torch.equal(one, other)
                if isinstance(one, torch.Tensor)
                else repr(one) == repr(other)
            )
            assert same, way
    assert a_run.newest.read_bytes() == content, "nothing was written"
    assert (a_run.folder / "metrics.jsonl").read_bytes() == a_run.metrics
    assert not trap.exists()


@fuzzed(15)
@given(draw=st.data())
def test_a_damaged_checkpoint_plays_nothing_or_as_before(a_run, draw, tmp_path):
    trap = tmp_path / "executed"
    a_run.newest.write_bytes(damaged(draw, a_run, trap)[0])
    env = make_env(a_run.config.env, num_envs=2)
    try:
        state = read(checkpoint_of(a_run.folder, "newest"))["learner"]
        actions = Policy(a_run.config.learner_config, state)(env.reset(seed=0)[0])
    except UserError as error:
        assert "\n" not in str(error)
    else:
        assert actions.shape == (2, 1)
    assert not trap.exists()


# Robots -------------------------------------------------------------------------------------------

ASSETS = Path(__file__).parents[2] / "assets"


@pytest.fixture(scope="module")
def robots(tmp_path_factory) -> dict[str, bytes]:
    """The Ant as text and as binary."""
    folder = tmp_path_factory.mktemp("robots")
    Usd.Stage.Open(str(ASSETS / "ant.usda")).Export(str(folder / "ant.usdc"))
    return {
        ".usda": (ASSETS / "ant.usda").read_bytes(),
        ".usdc": (folder / "ant.usdc").read_bytes(),
    }


@pytest.mark.parametrize("suffix", [".usda", ".usdc"])
def test_a_damaged_robot_is_refused_by_its_file_or_prim(robots, suffix, tmp_path):
    @fuzzed(15 if suffix == ".usda" else 3)
    @given(draw=st.data())
    def check(draw):
        content = bytearray(robots[suffix])
        place = st.integers(0, len(content) - 1)
        kind = draw.draw(st.sampled_from(["bits", "cut", "block", "move"]))
        if kind == "cut":
            del content[draw.draw(place) :]
        for _ in range(draw.draw(st.integers(1, 6))):
            if kind == "bits":
                content[draw.draw(place)] ^= 1 << draw.draw(st.integers(0, 7))
            elif kind == "block":
                start = draw.draw(place)
                content[start : start + 16] = draw.draw(st.binary(min_size=16, max_size=16))
            elif kind == "move":
                start, length = draw.draw(place), draw.draw(st.integers(1, 200))
                piece = content[start : start + length]
                del content[start : start + length]
                start = draw.draw(st.integers(0, len(content)))
                content[start:start] = piece
        path = tmp_path / f"robot{suffix}"
        path.write_bytes(content)
        try:
            robot = load_robot(path)
        except ValueError as error:
            assert re.match(r"/\w|.*robot\.usd", str(error)), str(error)
        else:
            assert all(math.isfinite(body.mass) for body in robot.bodies)

    check()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "existing USD file"),
        (b"", "not a readable USD file"),
        (b"PXR-USDC" + bytes(80), "not a readable USD file"),
        (b"#usda 1.0\n", "no rigid bodies"),
    ],
)
def test_a_robot_that_is_none_is_one_line_and_status_2(
    content, said, tmp_path, capsys, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "robot.usda"
    if content is not None:
        path.write_bytes(content)
    assert main(["train", "env=robot", f"env.asset={path}"]) == 2
    printed = capsys.readouterr().err
    assert re.fullmatch(r"gippo: [^\n]+\n", printed)
    assert said in printed and "robot.usda" in printed
    assert os.listdir(tmp_path) == ([] if content is None else ["robot.usda"])


# Configurations -----------------------------------------------------------------------------------

NUMBERS = st.sampled_from(
    [
        "0",
        "1",
        "-1",
        "2",
        "0.5",
        "1e-30",
        "1e-5",
        "1.0",
        "1e30",
        "1e308",
        "nan",
        "inf",
        "-inf",
        "1e999",
    ]
)
OTHERS = st.sampled_from(
    [
        "null",
        "true",
        "x",
        "''",
        "[]",
        "[1]",
        "[1,2]",
        "[[1]]",
        "{}",
        "{a:1}",
        "${seed}",
        "${x}",
        "1_0",
    ]
)
TEXT = st.text(st.characters(codec="ascii", min_codepoint=32, max_codepoint=126), max_size=12)
# Any number is a size that some machine can bear.
SIZES = re.compile(r"num_|horizon|iterations|retries|hidden|checkpoint|device|run_dir|resume|asset")


@cache
def known_keys(algo: str) -> list[str]:
    config = configure("train", TrainConfig, [*TINY, f"algo={algo}"])
    return [key for key in keys_of(to_omegaconf(config)) if key != "algo.name"]


@fuzzed(15)
@given(draw=st.data())
def test_any_value_of_any_key_trains_or_is_refused(draw, tmp_path_factory, capsys):
    algo = draw.draw(st.sampled_from(("gippo", "ppo", "rp")))
    key = draw.draw(st.sampled_from(known_keys(algo)))
    value = draw.draw(st.one_of(NUMBERS, OTHERS, TEXT))
    overrides = [*TINY, f"algo={algo}", f"{key}={value}"]
    try:
        configure("train", TrainConfig, overrides)
    except UserError as error:
        assert "\n" not in str(error)
        return
    if SIZES.search(key):
        return
    folder = tmp_path_factory.mktemp("config")
    status = main(["train", *overrides, f"run_dir={folder / 'run'}"])
    said = capsys.readouterr().err
    assert status in (0, 1, 2), said
    assert "defect" not in said
    assert status == 0 or re.fullmatch(r"gippo: [^\n]+\n", said), said
    assert status != 2 or os.listdir(folder) == []
