"""The examples run, and do what their pages say."""

import importlib.util
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


def test_drivers_of_ones_own_stop_and_go_and_are_differentiated():
    drivers = load("fvdm_drivers")
    gentle = drivers.make_ring(difference_gain=0.9).run(3000)["speed"]
    assert gentle.std() < 0.01  # V' = 1.03 < kappa / 2 + lambda = 1.1: the flow is stable
    waves = drivers.make_ring(difference_gain=0.2).run(3000)["speed"]
    assert waves.min() < 0.1
    assert waves.max() > 14.0
    seconds, step = 10.0, 1e-6
    gain = 0.2
    _, gradient = drivers.spread_gradient(seconds)

    def spread(value):
        return drivers.make_ring(difference_gain=value).run(round(seconds / 0.1))["speed"].std()

    difference = (spread(gain + step) - spread(gain - step)) / (2.0 * step)
    assert gradient == pytest.approx(float(difference), rel=1e-5)
