import pytest
import torch

pytest.importorskip("torchrl", reason="torchrl is not installed: pip install 'gippo[adapters]'")

from tensordict import TensorDict
from torchrl.envs import EnvBase, StepCounter, TransformedEnv
from torchrl.envs.utils import check_env_specs

from warp_envs.adapters.torchrl import TorchRLEnv

from .toy import STEPS, actions, springs


def stepped(env, action):
    return env.step(TensorDict({"action": action}, batch_size=[3]))["next"]


def test_torchrl_finds_no_fault():
    env = TorchRLEnv(springs()[0])
    assert isinstance(env, EnvBase) and env.batch_size == (3,)
    check_env_specs(env)


def test_a_step_shows_the_last_observation_and_a_reset_the_next_start():
    env, twin = springs()
    adapted = TorchRLEnv(env)
    action = actions()[0]
    after = stepped(adapted, action)
    obs, reward, terminated, _, info = twin.step(action)
    assert terminated.tolist() == [True, False, False]
    assert torch.equal(after["observation"], info["final_obs"])
    assert torch.equal(after["reward"], reward[:, None])
    assert after["terminated"][:, 0].tolist() == [True, False, False]
    assert not after["truncated"].any()
    asked = {"_reset": after["done"], "observation": after["observation"]}
    begun = adapted.reset(TensorDict(asked, batch_size=[3]))
    assert torch.equal(begun["observation"], obs)


def test_an_end_at_the_time_limit_is_no_truncation():
    env, _ = springs()
    env.set_state({"step_count": torch.full((3,), STEPS - 1, dtype=torch.int32)})
    after = stepped(TorchRLEnv(env), actions()[0])
    assert after["terminated"][:, 0].tolist() == [True, False, False]
    assert after["truncated"][:, 0].tolist() == [False, True, True]
    assert after["done"].all()


def test_a_reset_of_some_leaves_the_others():
    env, _ = springs()
    before = env.get_state()
    wanted = torch.tensor([[False], [True], [False]])
    asked = {"_reset": wanted, "observation": env.observe()}
    begun = TorchRLEnv(env).reset(TensorDict(asked, batch_size=[3]))
    after = env.get_state()
    for name in ("q", "qd", "step_count", "reset_count"):
        assert torch.equal(after[name][[0, 2]], before[name][[0, 2]]), name
    assert after["q"][1] != before["q"][1]
    assert after["reset_count"][1] == before["reset_count"][1] + 1
    assert torch.equal(begun["observation"], env.observe())


def test_the_same_seed_gives_the_same_rollout_and_no_gradient_is_kept():
    first, second = (TorchRLEnv(env) for env in springs())
    rollouts = []
    for env in (first, second):
        env.set_seed(5)
        torch.manual_seed(0)
        rollouts.append(env.rollout(3 * STEPS, break_when_any_done=False))
    assert torch.equal(rollouts[0]["next", "observation"], rollouts[1]["next", "observation"])
    assert rollouts[0]["next", "done"].any()
    assert not stepped(first, torch.zeros(3, 1, requires_grad=True))["reward"].requires_grad


def test_a_shorter_time_limit_of_torchrls_is_obeyed():
    env = TransformedEnv(TorchRLEnv(springs()[0]), StepCounter(max_steps=2))
    rollout = env.rollout(6, break_when_any_done=False)
    assert rollout["next", "step_count"][1, :, 0].tolist() == [1, 2, 1, 2, 1, 2]
    seen, after = rollout["observation"][1], rollout["next", "observation"][1]
    assert seen[:, 1].tolist()[::2] == [0.0] * 3, "a spring starts at rest"
    assert torch.equal(seen[1::2], after[::2])
