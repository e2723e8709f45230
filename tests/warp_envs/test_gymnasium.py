"""Registration with Gymnasium, and its contract for vector environments."""

import re
import subprocess
import sys
from pathlib import Path

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.utils import env_checker

import warp_envs
from warp_envs.registry import gymnasium_id

pytest.importorskip("array_api_compat", reason="pip install 'gippo[test]' brings it")

from gymnasium.wrappers.vector import ArrayConversion, RecordEpisodeStatistics

ROOT = Path(__file__).parents[2]
CHECKED = ["dejong", "cartpole", "pace_car"]  # an episode of one step, a robot, traffic
LIMITS = {
    "dejong": 1,
    "ackley": 1,
    "cartpole": 240,
    "ring": 3000,
    "merge": 750,
    "bottleneck": 1500,
}


def make(env_id, num_envs=3, **options):
    return gymnasium.make_vec(gymnasium_id(env_id), num_envs=num_envs, **options)


def in_numpy(env_id, **options):
    return ArrayConversion(make(env_id, **options), torch, np)


def test_names_are_gymnasiums():
    assert gymnasium_id("ant") == "gippo/Ant-v0"
    assert gymnasium_id("ant_dflex") == "gippo/AntDflex-v0"
    assert gymnasium_id("pace_car") == "gippo/PaceCar-v0"


@pytest.mark.parametrize("env_id", warp_envs.env_ids())
def test_every_environment_is_registered_with_its_time_limit(env_id):
    spec = gymnasium.spec(gymnasium_id(env_id))
    assert spec.kwargs == {"env_id": env_id}
    assert spec.max_episode_steps == LIMITS.get(env_id, 1000)
    spec.to_json()


@pytest.mark.parametrize("env_id", CHECKED)
def test_gymnasium_makes_what_make_makes(env_id):
    env, other = make(env_id, seed=4), warp_envs.make(env_id, num_envs=3, seed=4)
    assert type(env) is type(other) and env.max_episode_steps == other.max_episode_steps
    assert env.spec.id == gymnasium_id(env_id)
    assert torch.equal(env.observe(), other.observe())
    again = gymnasium.make_vec(env.spec)
    assert again.num_envs == 3 and torch.equal(again.observe(), env.observe())


def test_options_go_along():
    env = make("pace_car", num_lanes=2, num_vehicles=3)
    assert env.single_observation_space.shape == (16,)
    env = make("dejong", dim=5, dtype=torch.float64)
    assert env.single_action_space.shape == (5,)
    assert env.single_observation_space.dtype == np.float64
    with pytest.raises(ValueError, match="num_lanez: no option of 'pace_car' given"):
        make("pace_car", num_lanez=2)
    with pytest.raises(ValueError, match="asset: not given"):
        make("robot")


def test_a_time_limit_of_ones_own_is_kept():
    env = make("cartpole", max_episode_steps=2)
    action = torch.zeros(3, 1)
    assert not env.step(action)[3].any() and env.step(action)[3].all()
    with pytest.raises(ValueError, match="max_episode_steps: 0 given"):
        make("cartpole", max_episode_steps=0)


@pytest.mark.parametrize("mode", ["sync", "async"])
def test_other_ways_to_vectorise_are_refused(mode):
    with pytest.raises(gymnasium.error.Error, match="gippo/Cartpole-v0"):
        make("cartpole", vectorization_mode=mode)


@pytest.mark.slow
@pytest.mark.parametrize(
    "code",
    [
        "import gymnasium; print(gymnasium.make_vec('warp_envs:gippo/Dejong-v0', num_envs=2))",
        "import gymnasium, warp_envs; print(gymnasium.make_vec('gippo/Dejong-v0', num_envs=2))",
        "import warp_envs, gymnasium; print(gymnasium.make_vec('gippo/Dejong-v0', num_envs=2))",
    ],
)
def test_either_order_of_imports_and_a_module_in_the_name_will_do(code):
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "gippo/Dejong-v0" in done.stdout


@pytest.mark.parametrize("env_id", CHECKED)
def test_gymnasiums_own_checks_pass(env_id):
    """Those of `check_env` that ask nothing of single environments only."""
    env = in_numpy(env_id, num_envs=1)
    env_checker.check_space_limit(env.single_action_space, "action")
    env_checker.check_reset_return_type(env)
    env_checker.check_reset_options(env)
    env_checker.check_reset_seed_determinism(env)
    env_checker.check_returned_data_not_reused(env)


@pytest.mark.parametrize("env_id", CHECKED)
def test_the_contract_of_vector_environments(env_id):
    env = in_numpy(env_id, max_episode_steps=2)
    assert env.metadata["autoreset_mode"] is gymnasium.vector.AutoresetMode.SAME_STEP
    assert env.observation_space == gymnasium.vector.utils.batch_space(
        env.single_observation_space, 3
    )
    assert env.action_space == gymnasium.vector.utils.batch_space(env.single_action_space, 3)
    env.action_space.seed(0)
    first, info = env.reset(seed=5)
    assert first in env.observation_space and isinstance(info, dict)
    assert env.unwrapped.np_random_seed == 5
    for _ in range(2):
        obs, reward, terminated, truncated, info = env.step(env.action_space.sample())
        assert obs in env.observation_space and info["final_obs"] in env.observation_space
        assert reward.shape == terminated.shape == truncated.shape == (3,)
        assert terminated.dtype == truncated.dtype == np.bool_ and reward.dtype == np.float32
    assert truncated.all()
    if env_id != "dejong":  # which observes nothing
        assert (obs != info["final_obs"]).any(axis=1).all()
    env.close()


@pytest.mark.parametrize("env_id", CHECKED)
def test_the_same_seed_gives_the_same_run(env_id):
    env = in_numpy(env_id)

    def run(seed):
        env.action_space.seed(0)
        seen = [env.reset(seed=seed)[0]]
        for _ in range(3):
            obs, reward, *_ = env.step(env.action_space.sample())
            seen += [obs, reward]
        return np.concatenate([values.ravel() for values in seen])

    assert np.array_equal(run(1), run(1))
    if env_id == "cartpole":  # the others' starts hardly or never vary
        assert not np.array_equal(run(1), run(2))


def test_gymnasiums_statistics_wrapper_counts_episodes():
    env = RecordEpisodeStatistics(in_numpy("cartpole", max_episode_steps=3))
    env.reset(seed=0)
    total = np.zeros(3)
    for _ in range(3):
        _, reward, _, _, info = env.step(np.zeros((3, 1), np.float32))
        total += reward
    assert np.allclose(info["episode"]["r"], total)
    assert info["episode"]["l"].tolist() == [3, 3, 3]


def wrapped(name):
    env = in_numpy("cartpole")
    given = {
        "ClipReward": (-1.0, 1.0),
        "RescaleAction": (-1.0, 1.0),
        "RescaleObservation": (-1.0, 1.0),
        "DtypeObservation": (np.float64,),
        "ReshapeObservation": ((5, 1),),
        "TransformAction": (lambda action: action, env.action_space, env.single_action_space),
        "TransformObservation": (lambda obs: obs,),
        "TransformReward": (lambda reward: reward,),
    }
    return getattr(gymnasium.wrappers.vector, name)(env, *given.get(name, ()))


WRAPPERS = [
    re.findall(r"`(\w+)`", row.split("|")[1])
    for row in (ROOT / "docs" / "adapters.md").read_text(encoding="utf-8").splitlines()
    if row.startswith(("| `ClipAction`", "| `NormalizeObservation`"))
]


@pytest.mark.parametrize("name", WRAPPERS[0])
def test_wrappers_that_the_page_says_work_do(name):
    env = wrapped(name)
    env.reset(seed=0)
    if name == "ClipReward" and not np.from_dlpack(torch.zeros(1)).flags.writeable:
        with pytest.raises(ValueError, match="read-only"):  # as the page says of older NumPys
            env.step(env.action_space.sample())
        return
    obs, reward, *_ = env.step(env.action_space.sample())
    assert obs.shape == (3, 5) and np.isfinite(reward).all()


@pytest.mark.parametrize("name", WRAPPERS[1])
def test_wrappers_that_the_page_says_are_refused_are(name):
    with pytest.raises(ValueError, match="Expected autoreset_mode"):
        wrapped(name)
