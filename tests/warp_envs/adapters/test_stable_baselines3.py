import numpy as np
import pytest
import torch

pytest.importorskip(
    "stable_baselines3", reason="stable_baselines3 is not installed: pip install 'gippo[adapters]'"
)

from stable_baselines3 import PPO
from stable_baselines3.common.vec_env import VecEnv, VecMonitor, VecNormalize

import warp_envs
from warp_envs.adapters.stable_baselines3 import StableBaselines3VecEnv

from .toy import STEPS, actions, springs


def test_it_steps_as_the_environment_does():
    env, twin = springs()
    adapted = StableBaselines3VecEnv(env)
    assert isinstance(adapted, VecEnv)
    assert adapted.observation_space.shape == (2,) and adapted.action_space.shape == (1,)
    for action in actions():
        obs, reward, done, infos = adapted.step(action.numpy())
        expected = twin.step(action)
        assert obs.dtype == reward.dtype == np.float32 and done.dtype == np.bool_
        assert np.array_equal(obs, expected[0]) and np.array_equal(reward, expected[1])
        assert np.array_equal(done, expected[2] | expected[3])
        for index, info in enumerate(infos):
            if done[index]:
                last = info["terminal_observation"]
                assert np.array_equal(last, expected[4]["final_obs"][index])
            else:
                assert info == {}


def test_only_the_time_limit_is_a_time_out():
    env, _ = springs()
    env.set_state({"step_count": torch.full((3,), STEPS - 1, dtype=torch.int32)})
    _, _, done, infos = StableBaselines3VecEnv(env).step(actions()[0].numpy())
    assert done.all()
    assert [info["TimeLimit.truncated"] for info in infos] == [False, True, True]


def test_a_seed_takes_effect_at_the_next_reset():
    adapted, other = (StableBaselines3VecEnv(env) for env in springs())
    adapted.seed(3)
    other.seed(3)
    first = adapted.reset()
    assert np.array_equal(first, other.reset())
    assert not np.array_equal(first, adapted.reset())
    adapted.seed(None)  # any number up to 2^32
    assert not np.array_equal(first, adapted.reset())


def test_what_is_handed_out_is_a_copy():
    env, twin = springs()
    adapted = StableBaselines3VecEnv(env)
    obs, reward, _, _ = adapted.step(actions()[0].numpy())
    twin.step(actions()[0])
    obs[:], reward[:] = 9.0, 9.0
    assert torch.equal(env.get_state()["last_reward"], twin.get_state()["last_reward"])
    assert torch.equal(env.observe(), twin.observe())


def test_environments_cannot_be_changed_apart():
    adapted = StableBaselines3VecEnv(springs()[0])
    assert adapted.get_attr("bound", indices=[0, 2]) == [1.5, 1.5]
    assert adapted.env_is_wrapped(VecMonitor) == [False] * 3
    with pytest.raises(NotImplementedError, match="bound"):
        adapted.set_attr("bound", 2.0)
    with pytest.raises(NotImplementedError, match="reset"):
        adapted.env_method("reset")


def test_its_ppo_trains_through_its_wrappers():
    env = StableBaselines3VecEnv(
        warp_envs.make("cartpole", num_envs=8, max_episode_steps=16, seed=1)
    )
    model = PPO(
        "MlpPolicy", VecNormalize(VecMonitor(env)), n_steps=16, batch_size=64, seed=1, device="cpu"
    )
    before = {name: value.clone() for name, value in model.policy.state_dict().items()}
    model.learn(256)
    assert model.num_timesteps == 256
    after = model.policy.state_dict()
    assert all(bool(torch.isfinite(value).all()) for value in after.values())
    assert any(not torch.equal(before[name], after[name]) for name in before)
    assert [episode["l"] for episode in model.ep_info_buffer] == [16] * 16
