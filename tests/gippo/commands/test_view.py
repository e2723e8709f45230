"""`gippo view` writes the page beside the recording and opens it."""

import webbrowser
from pathlib import Path

import pytest

from gippo.cli import main
from tests.warp_envs.recording.recorded import Cars
from tests.warp_envs.recording.test_recorder import record
from tests.warp_envs.viewing.pages import read_page


@pytest.fixture
def opened(monkeypatch):
    """The addresses that the browser was asked to open."""
    addresses: list[str] = []
    monkeypatch.setattr(webbrowser, "open", lambda address: addresses.append(address) or True)
    return addresses


@pytest.fixture
def run_dir(tmp_path) -> Path:
    folder = tmp_path / "env=cars,seed=1"  # as a sweep calls it
    folder.mkdir()
    record(Cars(num_vehicles=3), folder / "rollout.usdc", steps=3)
    return folder


def test_a_run_or_a_file(run_dir, opened, capsys):
    assert main(["view", str(run_dir)]) == 0
    page = run_dir / "rollout.html"
    assert opened == [page.as_uri()]
    assert f"page: {page}" in capsys.readouterr().out
    assert str(run_dir / "rollout.usdc") in page.read_text(encoding="utf-8")


def test_another_place_without_opening(run_dir, tmp_path, opened, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["view", f"{run_dir}/rollout.usdc", "out=other.html", "open=false"]) == 0
    assert (tmp_path / "other.html").exists()
    assert opened == []


def test_a_damaged_file_is_refused(tmp_path, opened, capsys):
    damaged = tmp_path / "rollout.usdc"
    damaged.write_bytes(b"PXR-USDC" + bytes(200))
    assert main(["view", str(tmp_path)]) == 2
    assert "not a readable USD file" in capsys.readouterr().err
    assert opened == []
    assert not (tmp_path / "rollout.html").exists()


def test_several_runs_on_one_page(run_dir, tmp_path, opened, capsys):
    record(Cars(num_vehicles=3), tmp_path / "crowd.usdc", steps=3)
    assert main(["view", str(run_dir), f"{tmp_path}/crowd.usdc", str(run_dir), "open=true"]) == 0
    page = run_dir / "rollouts.html"  # beside the first
    assert opened == [page.as_uri()]
    assert f"page: {page}" in capsys.readouterr().out
    titles = [scene["title"] for scene in read_page(page).rollouts]
    assert titles == [str(run_dir), f"{tmp_path}/crowd.usdc", str(run_dir)]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([".", "nowhere"], "'nowhere': no such folder or file"),
        ([".", "nothing"], "rollout.usdc: not there"),
        ([".", ".", "out=both.gif"], "a film shows one rollout, only the page several"),
        ([".", ".", "viewer=gl"], "viewer=gl shows one rollout, only the page several"),
        (["."] * 7, "recordings: 7 given, 1 to 6 on a page accepted"),
    ],
)
def test_several_that_are_refused(arguments, said, run_dir, monkeypatch, opened, capsys):
    monkeypatch.chdir(run_dir)
    Path("nothing").mkdir()
    before = set(run_dir.iterdir())
    assert main(["view", *arguments]) == 2
    assert said in capsys.readouterr().err
    assert set(run_dir.iterdir()) == before and opened == []
