"""The examples run, and do what their pages say."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import gymnasium
import numpy as np
import pytest
import torch

EXAMPLES = Path(__file__).parents[2] / "examples"


def load(name):
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def pendulum():
    return load("pendulum")


def test_the_pendulum_is_gymnasiums(pendulum):
    """Observation and reward over an episode of random torques, from the same start."""
    peer = gymnasium.make("Pendulum-v1").unwrapped
    seen, _ = peer.reset(seed=0)
    env = pendulum.PendulumEnv(num_envs=1, dtype=torch.float64)
    theta, rate = peer.state
    env.set_state(
        {
            "theta": torch.tensor([[theta]], dtype=torch.float64),
            "rate": torch.tensor([[rate]], dtype=torch.float64),
        }
    )
    assert env.observe()[0].numpy() == pytest.approx(seen, abs=1e-6)  # theirs is float32
    for action in np.random.default_rng(0).uniform(-1.2, 1.2, 100):
        seen, expected, *_ = peer.step(np.array([2.0 * action]))
        obs, reward, terminated, *_ = env.step(torch.tensor([[action]], dtype=torch.float64))
        assert obs[0].numpy() == pytest.approx(seen, abs=1e-5)
        assert float(reward) == pytest.approx(expected, abs=1e-8)
        assert not terminated


def test_the_pendulums_gradient_is_right(pendulum):
    assert pendulum.check_gradient() < 1e-6


def test_the_pendulum_trains(pendulum):
    episodes_end = 7  # epochs of 32 steps; an episode has 200
    assert -2000.0 < pendulum.train(episodes_end) < 0.0


def test_the_ant_trains_with_rsl_rl(tmp_path):
    pytest.importorskip("rsl_rl", reason="rsl_rl is not installed: pip install 'gippo[adapters]'")
    returns = load("ant_rsl_rl").train(str(tmp_path), iterations=1)
    assert len(returns) <= 100
    assert (tmp_path / "model_0.pt").exists()


def test_evolution_strategies_learn_from_the_folder_of_their_file(tmp_path):
    """In a process of its own, as the example's first lines say."""
    arguments = ["algo=evolution_strategies:EvolutionStrategies", "learner.actor.hidden=[16]"]
    arguments += ["num_epochs=300", "tensorboard=false", f"run_dir={tmp_path / 'run'}"]
    done = subprocess.run(
        [sys.executable, "-m", "gippo", "train", "env=dejong", *arguments],
        cwd=EXAMPLES,
        env={**os.environ, "PYTHONPATH": str(EXAMPLES.parent)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    rows = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").open()]
    assert rows[0]["episode_return"] < -5.0
    assert rows[-1]["best_return"] > -1.0
    assert rows[-1]["pairs"] == 149.0
