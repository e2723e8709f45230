"""What is said while kernels are built."""

import time

import pytest
import warp as wp

from warp_envs.bridge import building
from warp_envs.bridge.program import Program


@wp.kernel
def nothing():
    pass


@pytest.mark.parametrize(("seconds", "spoken"), [(0.0, False), (0.5, True)])
def test_a_long_build_is_announced_and_a_short_one_is_not(seconds, spoken, monkeypatch, capfd):
    monkeypatch.setattr(building, "PATIENCE", 0.2)
    monkeypatch.setattr(building, "load_module", lambda module, device: time.sleep(seconds))
    building.load_kernels([(nothing, "the dynamics of 'ant'")], wp.get_device("cpu"))
    lines = capfd.readouterr().err.splitlines()
    assert bool(lines) is spoken
    if spoken:
        assert lines[0].startswith("building the dynamics of 'ant' for cpu, 0 s so far; once")
        assert lines[-1] == "built in 1 s" or lines[-1] == "built in 0 s"


def test_a_build_that_fails_ends_the_announcements(monkeypatch):
    def fail(module, device):
        raise RuntimeError("no compiler")

    monkeypatch.setattr(building, "load_module", fail)
    with pytest.raises(RuntimeError, match="no compiler"):
        building.load_kernels([(nothing, "")], wp.get_device("cpu"))


def test_what_is_built_elsewhere_does_not_run_and_says_so_afterwards(monkeypatch):
    monkeypatch.setattr(building, "load_module", lambda module, device: pytest.fail("built here"))
    built = []
    program = Program("cpu")
    program.launch(nothing, 1, [], name="nothing")
    with building.built_elsewhere(lambda module, name: built.append((module, name))):
        program.replay()
    assert built == [(nothing.module, "nothing")]
    with pytest.raises(RuntimeError, match="while nothing ran"):
        program.replay()
