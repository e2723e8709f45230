import errno
import math
import os
import pickle
import zipfile

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gippo import files
from gippo.errors import TrainingFailedError, UserError
from gippo.runs.checkpoint import Checkpoint, CheckpointFolder, difference, read, unsound, write


def sample(epoch: int = 1) -> dict:
    learner = {"weights": torch.arange(5.0), "nested": {"alpha": 0.5, "name": "x"}}
    return {"epoch": epoch, "learner": learner}


def newest(folder: CheckpointFolder) -> tuple[Checkpoint, list[str]]:
    taken: list[Checkpoint] = []
    refused = folder.use_newest(taken.append)
    return taken[0], refused


def test_what_is_written_is_read(tmp_path):
    write(tmp_path / "deep" / "a.pt", sample())
    loaded = read(tmp_path / "deep" / "a.pt")["learner"]
    assert loaded["nested"] == {"alpha": 0.5, "name": "x"}
    torch.testing.assert_close(loaded["weights"], torch.arange(5.0), rtol=0, atol=0)


def test_a_failed_write_leaves_the_former_file_and_no_other(tmp_path, monkeypatch):
    path = tmp_path / "a.pt"
    write(path, sample(1))

    def full(handle):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(files.os, "fsync", full)
    with pytest.raises(TrainingFailedError, match=r"a\.pt cannot be written \(No space left"):
        write(path, sample(2))
    monkeypatch.undo()
    assert read(path)["epoch"] == 1
    assert os.listdir(tmp_path) == ["a.pt"]


def test_only_the_newest_are_kept_and_the_best_apart(tmp_path):
    folder = CheckpointFolder(tmp_path, keep_last=2)
    folder.save_best(sample(3))
    for epoch in (5, 10, 15, 20):
        folder.save(sample(epoch))
    names = sorted(os.listdir(tmp_path))
    assert names == ["best.pt", "epoch_000015.pt", "epoch_000020.pt"]
    assert newest(folder)[0]["epoch"] == 20


def test_what_a_killed_process_left_goes_with_the_next_checkpoint(tmp_path):
    folder = CheckpointFolder(tmp_path, keep_last=2)
    files.unfinished_name(tmp_path / "epoch_000005.pt").write_bytes(b"half of it")
    assert folder.epochs() == {}
    folder.save(sample(6))
    assert os.listdir(tmp_path) == ["epoch_000006.pt"]


def test_a_truncated_newest_is_told_of_and_passed_over(tmp_path):
    folder = CheckpointFolder(tmp_path, keep_last=3)
    folder.save(sample(1))
    last = folder.save(sample(2))
    last.write_bytes(last.read_bytes()[:-200])
    found, refused = newest(folder)
    assert found["epoch"] == 1
    assert len(refused) == 1
    assert "epoch_000002.pt" in refused[0]


def test_one_that_does_not_fit_or_has_another_ones_name_is_passed_over(tmp_path):
    folder = CheckpointFolder(tmp_path, keep_last=9)
    for epoch in (1, 2):
        folder.save(sample(epoch))
    write(tmp_path / "epoch_000003.pt", sample(1))
    tried = []

    def use(checkpoint):
        tried.append(checkpoint["epoch"])
        if checkpoint["epoch"] == 2:
            raise UserError("it does not fit this run")

    refused = folder.use_newest(use)
    assert tried == [2, 1]
    assert ["epoch_000003.pt: it is of epoch 1" in line for line in refused] == [True, False]
    assert "epoch_000002.pt: it does not fit this run" in refused[1]


def test_no_checkpoint_is_an_error(tmp_path):
    with pytest.raises(UserError, match="no checkpoint"):
        newest(CheckpointFolder(tmp_path / "nowhere", keep_last=1))
    with pytest.raises(UserError, match="does not exist"):
        read(tmp_path / "a.pt")


class Evil:
    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self):
        return (os.mkdir, (self.path,))


def test_nothing_in_a_file_is_executed(tmp_path):
    trap = tmp_path / "executed"
    torch.save({"format": 1, "evil": Evil(str(trap))}, tmp_path / "a.pt")
    (tmp_path / "b.pt").write_bytes(pickle.dumps(Evil(str(trap))))
    for name in ("a.pt", "b.pt"):
        with pytest.raises(UserError, match=name):
            read(tmp_path / name)
    assert not trap.exists()


def test_foreign_files_are_refused(tmp_path):
    torch.save({"weights": torch.zeros(1)}, tmp_path / "other.pt")
    torch.save({"format": 99}, tmp_path / "newer.pt")
    torch.save({"format": 1}, tmp_path / "empty.pt")
    with zipfile.ZipFile(tmp_path / "bomb.pt", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", bytes(10**7))
    (tmp_path / "text.pt").write_text("not a checkpoint")
    for name, reason in (
        ("other", "not one of"),
        ("newer", "format 99"),
        ("empty", "no learner"),
        ("bomb", "damaged or foreign"),
        ("text", "damaged or foreign"),
    ):
        with pytest.raises(UserError, match=reason):
            read(tmp_path / f"{name}.pt")


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_damage_is_an_error_or_does_not_matter(tmp_path_factory, data):
    path = tmp_path_factory.mktemp("damage") / "a.pt"
    write(path, sample())
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 3))):
        content[data.draw(st.integers(0, len(content) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    whole = data.draw(st.booleans())
    path.write_bytes(content if whole else content[: data.draw(st.integers(0, len(content)))])
    try:
        found = read(path)
    except UserError as error:
        assert "a.pt" in str(error)
    else:
        assert difference(found, {"format": 1, **sample()}, "file") is None
        assert torch.equal(found["learner"]["weights"], torch.arange(5.0))


@pytest.mark.parametrize(
    ("given", "answer"),
    [
        ({"w": torch.zeros(2), "n": 1, "x": 0.5}, None),
        ({"w": torch.ones(2), "n": 7, "x": 3}, None),
        ({"w": torch.zeros(2), "n": 1}, "s: 'x' is missing"),
        ({"w": torch.zeros(2), "n": 1, "x": 0.5, "y": 0}, "s: 'y' is unknown"),
        ({"w": torch.zeros(3), "n": 1, "x": 0.5}, "s.w: a tensor (3,) of torch.float32 given"),
        ({"w": torch.zeros(2).double(), "n": 1, "x": 0.5}, "s.w: a tensor (2,) of torch.float64"),
        ({"w": torch.zeros(2).to_sparse(), "n": 1, "x": 0.5}, "s.w: a torch.sparse_coo tensor"),
        ({"w": [0.0, 0.0], "n": 1, "x": 0.5}, "s.w: list given"),
        ({"w": torch.zeros(2), "n": 1.0, "x": 0.5}, "s.n: float given, int accepted"),
        ({"w": torch.zeros(2), "n": True, "x": 0.5}, "s.n: bool given"),
        ({"w": torch.zeros(2), "n": 1, "x": 10**400}, "s.x: an int beyond 64 bits given"),
        ([], "s: list given, dict accepted"),
    ],
)
def test_a_tree_of_another_kind_is_told_from_the_expected(given, answer):
    found = difference(given, {"w": torch.zeros(2), "n": 1, "x": 0.5}, "s")
    assert found is None if answer is None else found.startswith(answer)


@pytest.mark.parametrize(
    ("name", "value", "answer"),
    [
        ("actor", torch.tensor([0.0, math.nan]), "s.actor is nan"),
        ("actor", torch.tensor([-math.inf, 1.0]), "s.actor is -inf"),
        ("step", torch.tensor(math.inf), "s.step is inf"),
        ("step", torch.tensor(-3.0), "s.step is -3.0"),
        ("variance", torch.tensor([1.0, -1e-9]), "s.variance is -"),
        ("wall_time", -1.0, "s.wall_time is -1.0"),
        ("best_return", math.inf, "s.best_return is inf"),
        ("best_return", math.nan, "s.best_return is nan"),
        ("best_return", -math.inf, None),  # before an episode has ended
        ("episodes", {"best_return": math.nan, "running_return": torch.tensor([math.nan])}, None),
        ("episodes", {"best_return": math.inf}, "s.episodes.best_return is inf"),
        ("lengths", [1.0, math.nan], "s.lengths is nan"),
        ("lengths", [], None),
        ("generator", torch.zeros(3, dtype=torch.uint8), None),
        ("name", "nan", None),
    ],
)
def test_numbers_that_no_training_leaves_are_told(name, value, answer):
    found = unsound({"w": torch.ones(2), name: value}, "s")
    assert found is None if answer is None else found.startswith(answer)
