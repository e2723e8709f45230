"""The examples run, and do what their pages say."""

import importlib.util
from pathlib import Path

import gymnasium
import numpy as np
import pytest
import torch

from gippo.cli import main
from gippo.runs.metrics import read_metrics
from gippo.runs.trainer import Trainer
from gippo.studies.gradient_check import check_env_gradient
from warp_envs.usd.conversion.convert import convert_robot
from warp_envs.usd.loader import load_robot

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


@pytest.fixture(scope="module")
def cheetah():
    return load("planar_cheetah").PlanarCheetah


def test_the_cheetah_observes_and_earns_what_its_table_says(cheetah):
    env = cheetah(num_envs=3, dtype=torch.float64)
    assert (env.num_actions, env.num_obs, env.max_episode_steps) == (6, 17, 1000)
    start = env.get_state()
    bent = torch.tensor(cheetah.start_q, dtype=torch.float64)
    assert 0.0 < (start["joint_q"] - bent).abs().max() <= 0.05
    action = 2 * torch.rand(3, 6, dtype=torch.float64) - 1
    obs, reward, terminated, *_ = env.step(action)
    state = env.get_state()
    assert torch.equal(obs, torch.cat([state["joint_q"][:, 1:], state["joint_qd"]], 1))
    expected = state["joint_qd"][:, 0] - 0.1 * action.square().sum(1)
    assert torch.allclose(reward, expected, rtol=1e-12)
    assert not terminated.any()


def test_the_cheetah_stays_finite_under_full_random_actions(cheetah):
    env = cheetah(num_envs=16)
    for _ in range(100):
        obs, _, _, _, info = env.step(torch.randint(0, 2, (16, 6)) * 2.0 - 1.0)
        assert not info["diverged"].any() and obs.abs().max() < 50.0


@pytest.mark.parametrize("compiled", [False, True])
def test_the_cheetahs_gradient_is_right(cheetah, compiled):
    env = cheetah(num_envs=2, dtype=torch.float64, compiled=compiled)
    checks = check_env_gradient(env, num_steps=4, action_scale=0.8, step_size=1e-6, seed=0)
    assert all(check.magnitude > 1.0 and check.kinks == 0 for check in checks)
    assert max(check.error for check in checks) < 1e-6


def test_the_cheetahs_compiled_and_plain_kernels_agree(cheetah):
    torch.manual_seed(0)
    plain, fast = (cheetah(num_envs=4, dtype=torch.float64, compiled=c) for c in (False, True))
    for _ in range(10):
        action = 2 * torch.rand(4, 6, dtype=torch.float64) - 1
        assert torch.allclose(plain.step(action)[0], fast.step(action)[0], rtol=1e-9, atol=1e-9)


def train_from_the_folder(monkeypatch, run_dir, *settings, status=0):
    """What `gippo train` does in the folder of the examples."""
    monkeypatch.chdir(EXAMPLES)
    monkeypatch.syspath_prepend(str(EXAMPLES))
    usual = ["rollout.num_envs=0", "logger=[]", "num_threads=1", f"run_dir={run_dir}"]
    assert main(["train", *settings, *usual]) == status
    return read_metrics(run_dir)


def test_the_cheetah_trains_by_its_name_and_is_played(tmp_path, monkeypatch):
    run_dir = tmp_path / "run"
    settings = ("env=planar_cheetah:PlanarCheetah", "env.num_envs=4", "num_epochs=2")
    metrics = train_from_the_folder(monkeypatch, run_dir, *settings)
    assert metrics["env_steps"].tolist() == [128, 256]
    assert main(["play", f"run_dir={run_dir}", "num_envs=1", "num_steps=20", "out=null"]) == 0


def test_evolution_strategies_train_by_their_name_and_resume_bit_for_bit(tmp_path, monkeypatch):
    algo = "algo=evolution_strategies:EvolutionStrategies"
    settings = ("env=dejong", algo, "algo.num_pairs=4")
    whole = train_from_the_folder(monkeypatch, tmp_path / "a", *settings, "num_epochs=300")
    assert whole["best_return"][-1] > -2.0 > -10.0 > whole["best_return"][0]
    stop_at = ("num_epochs=300", "checkpoint_every=5")
    monkeypatch.setattr("gippo.runs.trainer.Trainer.train", trains_until(13))
    half = train_from_the_folder(monkeypatch, tmp_path / "b", *settings, *stop_at, status=143)
    assert len(half["epoch"]) == 13
    monkeypatch.undo()
    resumed = train_from_the_folder(monkeypatch, tmp_path / "b", "resume=true")
    assert resumed["actor_loss"].tolist() == whole["actor_loss"].tolist()


def trains_until(epoch):
    """A trainer that is asked to stop after so many epochs."""
    train = Trainer.train

    def stopped(self, stop, **options):
        return train(self, stop=lambda: stop() or self.epoch >= epoch, **options)

    return stopped


def test_the_crawler_of_the_page_is_one_that_its_commands_drive(tmp_path):
    convert_robot(EXAMPLES / "crawler.xml", tmp_path / "crawler.usda")
    robot = load_robot(tmp_path / "crawler.usda")
    joints = {body.joint.name: body.joint for body in robot.bodies}
    assert {"hip_pitch", "knee"} < set(joints) and "home" in joints["knee"].keyframes
    assert joints["knee"].lower < -1.2 and robot.touches_ground
