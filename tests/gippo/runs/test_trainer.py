import errno
import json
import math
import os
import shutil

import pytest
import torch

from gippo.errors import TrainingFailedError, UserError
from gippo.learner import Learner, LearnerConfig
from gippo.methods.lr import LRConfig
from gippo.methods.rp import RPConfig
from gippo.runs.checkpoint import read, write
from gippo.runs.trainer import Trainer
from tests.gippo.toy import Particle


class Walk:
    """A learner whose return is a random walk."""

    def __init__(self) -> None:
        self.epoch = 0
        self.env_steps = 0
        self.value = torch.zeros(())
        self.generator = torch.Generator().manual_seed(3)

    def train_epoch(self) -> dict[str, float]:
        self.epoch += 1
        self.env_steps += 10
        self.value = self.value + torch.randn((), generator=self.generator)
        known = self.value.item() if self.epoch > 2 else math.nan
        return {"episode_return": known, "episode_length": 5.0, "alpha": 0.5}

    def state_dict(self) -> dict:
        return {
            "epoch": self.epoch,
            "env_steps": self.env_steps,
            "value": self.value.clone(),
            "generator": self.generator.get_state(),
        }

    def load_state_dict(self, state: dict) -> None:
        self.epoch, self.env_steps = state["epoch"], state["env_steps"]
        self.value = state["value"].clone()
        self.generator.set_state(state["generator"])


def trainer(folder, **changes) -> Trainer:
    options = {"num_epochs": 20, "checkpoint_every": 6, "keep_last": 2}
    return Trainer(Walk(), folder, **{**options, **changes})


def rows(folder) -> list[dict]:
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    return [{k: v for k, v in json.loads(line).items() if k != "wall_time"} for line in lines]


@pytest.fixture
def undisturbed(tmp_path):
    folder = tmp_path / "undisturbed"
    folder.mkdir()
    assert trainer(folder).train()
    return folder


def test_every_epoch_is_told_and_the_last_is_kept(undisturbed):
    told = rows(undisturbed)
    assert [row["epoch"] for row in told] == list(range(1, 21))
    assert told[0]["episode_return"] is None
    assert told[-1]["best_return"] == max(row["episode_return"] for row in told[2:])
    names = sorted(path.name for path in (undisturbed / "checkpoints").iterdir())
    assert names == ["best.pt", "epoch_000018.pt", "epoch_000020.pt"]


def test_the_best_policy_is_the_best_epochs(undisturbed):
    best = read(undisturbed / "checkpoints" / "best.pt")
    told = rows(undisturbed)
    highest = max(told[2:], key=lambda row: row["episode_return"])
    assert best["epoch"] == best["learner"]["epoch"] == highest["epoch"]
    assert best["learner"]["value"].item() == highest["episode_return"]


@pytest.mark.parametrize("stop_after", [3, 6, 7, 19])
def test_stopped_and_resumed_is_as_undisturbed(tmp_path, undisturbed, stop_after):
    first = trainer(tmp_path)
    assert not first.train(stop=lambda: first.epoch >= stop_after)
    second = trainer(tmp_path)
    assert second.resume() == []
    assert second.epoch == stop_after
    assert second.train()
    assert rows(tmp_path) == rows(undisturbed)


@pytest.mark.parametrize("killed_after", [1, 8, 13])
def test_killed_and_resumed_is_as_undisturbed(tmp_path, undisturbed, killed_after):
    class Killed(BaseException):
        pass

    first = trainer(tmp_path)

    def report(epoch, row):
        if epoch == killed_after:
            raise Killed

    with pytest.raises(Killed):
        first.train(report=report)
    second = trainer(tmp_path)
    second.resume()
    assert second.epoch == killed_after // 6 * 6
    assert second.train()
    assert rows(tmp_path) == rows(undisturbed)
    best = [read(f / "checkpoints" / "best.pt")["epoch"] for f in (tmp_path, undisturbed)]
    assert best[0] == best[1]


def test_a_damaged_newest_checkpoint_goes_back_one(tmp_path, undisturbed):
    first = trainer(tmp_path)
    first.train(stop=lambda: first.epoch >= 13)
    (tmp_path / "checkpoints" / "epoch_000013.pt").write_bytes(b"damaged")
    second = trainer(tmp_path)
    assert len(second.resume()) == 1
    assert second.epoch == 12
    assert second.train()
    assert rows(tmp_path) == rows(undisturbed)


@pytest.mark.parametrize("wrong", [math.nan, math.inf])
def test_a_newest_checkpoint_that_is_whole_but_not_finite_goes_back_one(
    tmp_path, undisturbed, wrong
):
    first = trainer(tmp_path)
    first.train(stop=lambda: first.epoch >= 13)
    newest = tmp_path / "checkpoints" / "epoch_000013.pt"
    checkpoint = read(newest)
    checkpoint["learner"]["value"].fill_(wrong)
    write(newest, checkpoint)
    second = trainer(tmp_path)
    (line,) = second.resume()
    assert "epoch_000013.pt" in line and f"state.learner.value is {wrong}" in line
    assert second.epoch == 12
    assert second.train()
    assert rows(tmp_path) == rows(undisturbed)


def test_a_checkpoint_made_with_other_settings_is_not_gone_on_from(tmp_path):
    first = trainer(tmp_path, settings={"seed": "1", "learner.horizon": "32"})
    first.train(stop=lambda: first.epoch >= 7)
    second = trainer(tmp_path, settings={"seed": "1", "learner.horizon": "64"})
    with pytest.raises(UserError, match=r"learner\.horizon: trained with 32, .* now says 64"):
        second.resume()
    assert trainer(tmp_path, settings={"seed": "1", "learner.horizon": "32"}).resume() == []


def test_a_setting_that_a_checkpoint_knows_nothing_of_has_its_default(tmp_path):
    first = trainer(tmp_path, settings={"seed": "1"})
    first.train(stop=lambda: first.epoch >= 7)
    defaults = {"seed": "0", "learner.order": "2"}
    second = trainer(tmp_path, settings={"seed": "1", "learner.order": "2"}, defaults=defaults)
    assert second.resume() == [] and second.new_settings == ["learner.order"]
    third = trainer(tmp_path, settings={"seed": "1", "learner.order": "3"}, defaults=defaults)
    with pytest.raises(UserError, match=r"learner\.order: trained with 2, its default, .* says 3"):
        third.resume()
    fourth = trainer(tmp_path, settings={"seed": "1", "env.dim": "2"}, defaults=defaults)
    with pytest.raises(UserError, match=r"env\.dim: trained with None"):
        fourth.resume()


def everything(folder) -> dict:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_without_a_checkpoint_that_fits_nothing_is_done(undisturbed):
    for path in (undisturbed / "checkpoints").glob("epoch_*"):
        checkpoint = read(path)
        checkpoint["learner"]["value"] = torch.zeros(3)
        write(path, checkpoint)
    before = everything(undisturbed)
    with pytest.raises(UserError, match=r"epoch_000020.*learner\.value.*epoch_000018"):
        trainer(undisturbed).resume()
    assert everything(undisturbed) == before


def test_a_checkpoint_of_another_method_is_named_as_such(tmp_path):
    for name in ("one", "other"):
        (tmp_path / name).mkdir()
    config, options = LearnerConfig(), {"num_epochs": 1, "checkpoint_every": 1, "keep_last": 1}
    for name, method in (("one", RPConfig()), ("other", LRConfig())):
        learner = Learner(Particle(4), config, method, num_epochs=1, seed=0)
        Trainer(learner, tmp_path / name, **options).train()
    shutil.copytree(
        tmp_path / "one" / "checkpoints", tmp_path / "other" / "checkpoints", dirs_exist_ok=True
    )
    learner = Learner(Particle(4), config, LRConfig(), num_epochs=1, seed=0)
    with pytest.raises(UserError, match=r"epoch_000001.pt: it is of algo=rp, this run of algo=lr"):
        Trainer(learner, tmp_path / "other", **options).resume()


def test_a_run_whose_checkpoints_are_gone_does_not_begin_again(undisturbed):
    for path in (undisturbed / "checkpoints").iterdir():
        path.unlink()
    before = everything(undisturbed)
    with pytest.raises(UserError, match=r"no checkpoint .* tells of 20 epochs"):
        trainer(undisturbed).resume()
    assert everything(undisturbed) == before


@pytest.mark.parametrize("good", [3, 8, 17])
def test_a_full_disk_ends_the_run_with_its_last_checkpoint_good(
    tmp_path, undisturbed, monkeypatch, good
):
    first, synced, fsync = trainer(tmp_path), [], os.fsync

    def full(handle):
        synced.append(handle)
        if len(synced) > good:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        fsync(handle)

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(TrainingFailedError, match=r"cannot be written \(No space left on device\)"):
        first.train()
    monkeypatch.undo()
    second = trainer(tmp_path)
    assert second.resume() == []
    assert second.epoch < first.epoch or good == 17
    assert second.train()
    assert rows(tmp_path) == rows(undisturbed)


def test_a_finished_run_resumed_changes_nothing(undisturbed):
    before = (undisturbed / "metrics.jsonl").read_bytes()
    again = trainer(undisturbed)
    again.resume()
    assert again.train()
    assert (undisturbed / "metrics.jsonl").read_bytes() == before


def test_wall_time_goes_on(tmp_path):
    first = trainer(tmp_path)
    first.train(stop=lambda: first.epoch >= 5)
    second = trainer(tmp_path)
    second.resume()
    second.train()
    times = [json.loads(x)["wall_time"] for x in (tmp_path / "metrics.jsonl").open()]
    assert times == sorted(times)
