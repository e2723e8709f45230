import pytest
import torch

pytest.importorskip("skrl", reason="skrl is not installed: pip install 'gippo[adapters]'")

from skrl.agents.torch.ppo import PPO, PPO_CFG
from skrl.envs.wrappers.torch import Wrapper
from skrl.memories.torch import RandomMemory
from skrl.models.torch import DeterministicMixin, GaussianMixin, Model
from skrl.trainers.torch import SequentialTrainer

import warp_envs
from warp_envs.adapters.skrl import SkrlWrapper

from .toy import STEPS, actions, springs


def test_it_steps_as_the_environment_does():
    env, twin = springs()
    adapted = SkrlWrapper(env)
    assert isinstance(adapted, Wrapper)
    assert adapted.num_envs == 3 and adapted.num_agents == 1 and adapted.state_space is None
    assert adapted.observation_space.shape == (2,) and adapted.action_space.shape == (1,)
    assert adapted.device == torch.device("cpu")
    for action in actions():
        obs, reward, terminated, truncated, info = adapted.step(action)
        expected = twin.step(action)
        assert torch.equal(obs, expected[0])
        assert torch.equal(reward, expected[1][:, None])
        assert torch.equal(terminated, expected[2][:, None])
        assert torch.equal(truncated, expected[3][:, None])
        assert torch.equal(info["final_obs"], expected[4]["final_obs"])
    first, _ = adapted.reset()
    assert torch.equal(first, twin.reset()[0])


def test_an_end_at_the_time_limit_is_no_truncation():
    env, _ = springs()
    env.set_state({"step_count": torch.full((3,), STEPS - 1, dtype=torch.int32)})
    _, _, terminated, truncated, _ = SkrlWrapper(env).step(actions()[0])
    assert terminated[:, 0].tolist() == [True, False, False]
    assert truncated[:, 0].tolist() == [False, True, True]


def test_no_gradient_is_kept_and_what_is_handed_out_is_a_copy():
    env, twin = springs()
    action = torch.zeros(3, 1, requires_grad=True)
    obs, reward, *_ = SkrlWrapper(env).step(action)
    twin.step(action.detach())
    assert not obs.requires_grad and not reward.requires_grad
    obs += 9.0
    reward += 9.0
    assert torch.equal(env.get_state()["last_reward"], twin.get_state()["last_reward"])


class Actor(GaussianMixin, Model):
    def __init__(self, env):
        space = {"observation_space": env.observation_space, "action_space": env.action_space}
        Model.__init__(self, **space, device=env.device)
        GaussianMixin.__init__(self)
        self.layer = torch.nn.Linear(self.num_observations, self.num_actions)
        self.log_std = torch.nn.Parameter(torch.zeros(self.num_actions))

    def compute(self, inputs, role=""):
        return self.layer(inputs["observations"]), {"log_std": self.log_std}


class Critic(DeterministicMixin, Model):
    def __init__(self, env):
        space = {"observation_space": env.observation_space, "action_space": env.action_space}
        Model.__init__(self, **space, device=env.device)
        DeterministicMixin.__init__(self)
        self.layer = torch.nn.Linear(self.num_observations, 1)

    def compute(self, inputs, role=""):
        return self.layer(inputs["observations"]), {}


def test_its_ppo_trains(tmp_path):
    torch.manual_seed(0)
    env = SkrlWrapper(warp_envs.make("cartpole", num_envs=8, max_episode_steps=16))
    models = {"policy": Actor(env), "value": Critic(env)}
    config = PPO_CFG()
    config.rollouts, config.learning_epochs, config.mini_batches = 8, 2, 2
    config.time_limit_bootstrap = True
    config.experiment.directory = str(tmp_path)
    config.experiment.write_interval = config.experiment.checkpoint_interval = 0
    agent = PPO(
        models=models,
        memory=RandomMemory(memory_size=8, num_envs=8, device=env.device),
        cfg=config,
        observation_space=env.observation_space,
        action_space=env.action_space,
        device=env.device,
    )
    before = models["policy"].layer.weight.detach().clone()
    trainer = SequentialTrainer(
        cfg={
            "timesteps": 32,
            "headless": True,
            "disable_progressbar": True,
            "close_environment_at_exit": False,
        },
        env=env,
        agents=agent,
    )
    trainer.train()
    after = models["policy"].layer.weight
    assert bool(torch.isfinite(after).all())
    assert not torch.equal(before, after)
