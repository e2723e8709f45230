"""What was drawn for an episode, told to the critic alone."""

import io

import pytest
import torch

import warp_envs
from gippo.experience.advantages import action_gradients, evaluate, generalized_advantage
from gippo.experience.critic import CriticConfig
from gippo.experience.rollout import collect
from gippo.learner import Learner, LearnerConfig
from gippo.methods.rp import RPConfig
from gippo.networks.normalization import identity
from gippo.networks.perceptron import ActorConfig
from tests.gippo.test_learner import LEARNERS, METHODS

RANDOMIZE = {"pole.mass": {"scale": [0.5, 2.0]}, "gear": {"scale": [0.9, 1.1], "once": True}}


def cartpole(num_envs=3, dtype=torch.float64, **options):
    told = {"randomize": RANDOMIZE, "randomize_observed": "critic", "action_delay": [0, 2]}
    return warp_envs.make("cartpole", num_envs=num_envs, dtype=dtype, **{**told, **options})


def learner(env, method=None, **options):
    small = {"actor": ActorConfig([8]), "critic": CriticConfig([8], iterations=2)}
    config = LearnerConfig(horizon=6, **{**small, **options})
    return Learner(env, config, method or RPConfig(), num_epochs=9, seed=3)


def test_it_is_told_from_minus_one_to_one():
    env = cartpole(64)
    told = env.observe_privileged()
    assert told.shape == (64, env.num_privileged) == (64, 3)
    factor = env.get_parameters()["pole.mass"] / env.parameters()["pole.mass"].default.item()
    assert torch.allclose(told[:, 0], (factor - 0.5) / 0.75 - 1.0)
    gear = env.get_parameters()["gear"][:, 0] / env.parameters()["gear"].default.item()
    assert torch.allclose(told[:, 1], (gear - 0.9) / 0.1 - 1.0)
    assert torch.equal(told[:, 2], env.get_state()["action_delay"][:, 0] - 1.0)
    assert cartpole(randomize_observed=None).observe_privileged().shape == (3, 0)
    assert cartpole(randomize={"gear": [3.0, 3.0]}, action_delay=0).observe_privileged().eq(0).all()


def test_a_final_observation_is_valued_by_what_its_own_episode_had_drawn():
    env = cartpole(max_episode_steps=4)
    own = learner(env)
    eps = torch.randn(6, 3, 1, dtype=env.dtype)
    unit = identity(env.dtype, own._device)
    rollout = collect(env, own._obs, own.actor, unit, eps, record_gradient=True)
    told = rollout.privileged
    assert rollout.truncated[3].all()
    assert torch.equal(told[0], told[3]) and torch.equal(told[4], told[5])
    assert (told[3, :, 0] != told[4, :, 0]).all()  # the mass, drawn anew
    assert torch.equal(told[3, :, 1], told[4, :, 1])  # the gear, drawn once
    value = own.critic.target_value()
    values = evaluate(rollout, value, unit)
    seen = torch.cat([rollout.final_obs, told], dim=-1)
    assert torch.allclose(values.next_value, value(seen).detach(), atol=1e-12)
    assert values.next_value_gradient.shape == rollout.final_obs.shape


def test_gradients_of_bootstrapped_values_are_those_of_differences():
    env = cartpole(max_episode_steps=4)
    own = learner(env)
    state, obs = env.get_state(), own._obs
    generator = torch.Generator().manual_seed(0)
    eps = torch.randn((6, 3, 1), generator=generator, dtype=env.dtype)
    value, unit = own.critic.target_value(), identity(env.dtype, own._device)

    def window(eps, record):
        env.set_state(state)
        rollout = collect(env, obs, own.actor, unit, eps, record_gradient=record)
        return rollout, evaluate(rollout, value, unit)

    def first_advantages(eps):
        rollout, values = window(eps, False)
        done, terminated = rollout.done, rollout.terminated
        advantage = generalized_advantage(rollout.reward, values, terminated, done, 0.99, 0.9)
        first = torch.tensor([True, False, False, False, True, False])
        return (advantage + values.value)[first].sum()

    gradients = action_gradients(*window(eps, True), 0.99, 0.9)
    sigma = torch.exp(window(eps, True)[0].log_sigma)
    direction = torch.randn(eps.shape, generator=generator, dtype=env.dtype)
    step = 1e-6
    sides = [first_advantages(eps + sign * step * direction) for sign in (1.0, -1.0)]
    difference = (sides[0] - sides[1]) / (2.0 * step)
    expected = (gradients.of_first * sigma * direction).sum()
    assert abs(expected) > 1e-3
    assert abs(difference - expected) < 1e-6 * abs(expected)


@pytest.mark.parametrize("method", METHODS)
def test_every_method_goes_on_bit_for_bit(method):
    made = [
        learner(cartpole(4, torch.float32, max_episode_steps=9), METHODS[method], **shape)
        for shape in 2 * [LEARNERS.get(method, {})]
    ]
    weight = next(made[0].critic.network.parameters())
    assert weight.shape[-1] == made[0].env.num_obs + 3
    made[0].train_epoch()
    buffer = io.BytesIO()
    torch.save(made[0].state_dict(), buffer)
    buffer.seek(0)
    made[1].load_state_dict(torch.load(buffer, weights_only=True))
    expected, found = made[0].train_epoch(), made[1].train_epoch()
    assert all(a == b or a != a for a, b in zip(expected.values(), found.values(), strict=True))
    obs = made[0]._obs
    assert obs.shape == (4, made[0].env.num_obs)
    assert torch.equal(made[0].act(obs, True), made[1].act(obs, True))


def test_the_critic_learns_what_the_policy_cannot_see():
    # the same observation, values that differ by what was drawn
    env = cartpole(64, torch.float32, action_delay=0)
    own = learner(env, critic=CriticConfig([16], iterations=200, learning_rate=1e-2))
    obs = torch.zeros(2, 64, env.num_obs)
    told = env.observe_privileged().expand(2, -1, -1)
    target = 3.0 * told[..., 0]
    own.critic.fit(torch.cat([obs, told], dim=-1), target, 0)
    value = own.critic.network.frozen()(torch.cat([obs, told], dim=-1))
    assert (value - target).square().mean() < 0.1 * target.square().mean()
