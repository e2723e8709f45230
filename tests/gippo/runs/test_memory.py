"""What a training would take is told before it begins."""

import pytest

from gippo.cli import main
from gippo.configuration.compose import configure
from gippo.configuration.run_config import TrainConfig
from gippo.runs import memory


def config(*more):
    return configure("train", TrainConfig, ["env=dejong", *more])


def test_more_than_is_free_is_refused_with_the_estimate_and_what_fits(
    tmp_path, capsys, monkeypatch
):
    monkeypatch.setattr(memory, "free_memory", lambda device: 10**9)
    command = ["train", "env=dejong", f"run_dir={tmp_path / 'run'}"]
    assert main([*command, "env.num_envs=10_000_000"]) == 2
    said = capsys.readouterr().err
    assert "env.num_envs: 10000000 given" in said and "1.0 GB are free; about " in said
    fitting = int(said.partition("about ")[2].partition(" ")[0])
    assert 100 < fitting < 10**6
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("free", [10**12, None])
def test_what_fits_or_is_not_known_is_not_refused(free, monkeypatch):
    monkeypatch.setattr(memory, "free_memory", lambda device: free)
    memory.check_memory(config("env.num_envs=100_000"), "cpu")


def test_a_longer_window_and_gradients_through_it_take_more():
    short, long, blind = (
        memory.bytes_per_env(config(*given), "cpu")
        for given in (["learner.horizon=8"], ["learner.horizon=16"], ["algo=ppo"])
    )
    assert short < long and blind < memory.bytes_per_env(config(), "cpu")


def test_the_system_tells_what_is_free():
    free = memory.free_memory("cpu")
    assert free is None or 10**7 < free < 10**15
