import os
import pickle

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gippo import checkpoint as module
from gippo.checkpoint import CheckpointFolder, read, write
from gippo.errors import TrainingFailedError, UserError


def sample(epoch: int = 1) -> dict:
    return {"epoch": epoch, "weights": torch.arange(5.0), "nested": {"alpha": 0.5, "name": "x"}}


def test_what_is_written_is_read(tmp_path):
    write(tmp_path / "deep" / "a.pt", sample())
    loaded = read(tmp_path / "deep" / "a.pt")
    assert loaded["nested"] == {"alpha": 0.5, "name": "x"}
    torch.testing.assert_close(loaded["weights"], torch.arange(5.0), rtol=0, atol=0)


def test_a_failed_write_leaves_the_former_file_and_no_other(tmp_path, monkeypatch):
    path = tmp_path / "a.pt"
    write(path, sample(1))

    for error in (OSError(28, "No space left on device"), RuntimeError("file write failed")):

        def half(checkpoint, file, error=error):
            file.write(b"half of it")
            raise error

        monkeypatch.setattr(module.torch, "save", half)
        with pytest.raises(TrainingFailedError, match=r"a\.pt.*(No space left|write failed)"):
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
    assert folder.newest()[0]["epoch"] == 20


def test_a_truncated_newest_is_told_of_and_passed_over(tmp_path):
    folder = CheckpointFolder(tmp_path, keep_last=3)
    folder.save(sample(1))
    newest = folder.save(sample(2))
    newest.write_bytes(newest.read_bytes()[:-200])
    found, refused = folder.newest()
    assert found["epoch"] == 1
    assert len(refused) == 1
    assert "epoch_000002.pt" in refused[0]


def test_no_checkpoint_is_an_error(tmp_path):
    with pytest.raises(UserError, match="no checkpoint"):
        CheckpointFolder(tmp_path / "nowhere", keep_last=1).newest()
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
    (tmp_path / "text.pt").write_text("not a checkpoint")
    for name, reason in (("other", "not one of"), ("newer", "format 99"), ("text", "text.pt")):
        with pytest.raises(UserError, match=reason):
            read(tmp_path / f"{name}.pt")


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_damage_is_an_error_or_does_not_matter(tmp_path_factory, data):
    path = tmp_path_factory.mktemp("damage") / "a.pt"
    write(path, sample())
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 8))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(content[: data.draw(st.integers(0, len(content)))])
    try:
        assert isinstance(read(path), dict)
    except UserError as error:
        assert "a.pt" in str(error)
