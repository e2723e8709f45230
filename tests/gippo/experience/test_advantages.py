import pytest
import torch

from gippo.experience.advantages import (
    Values,
    action_gradients,
    evaluate,
    generalized_advantage,
    normalized,
    subtrajectory_steps,
)
from gippo.experience.rollout import collect
from gippo.networks.normalization import Normalizer
from gippo.networks.perceptron import GaussianActor, ValueNetwork
from tests.gippo.toy import Particle

GAMMA, LAMBDA = 0.99, 0.95
HORIZON, NUM_ENVS = 7, 3
ENDS = {
    (2, 0): "terminated",
    (4, 1): "truncated",
    (5, 1): "terminated",
    (6, 2): "truncated",
}


def column(*values):
    return torch.tensor(values, dtype=torch.float64).unsqueeze(1)


def flags(*values):
    return torch.tensor(values).unsqueeze(1)


class Setup:
    """A window of the toy environment, with everything its gradients depend on."""

    def __init__(self, ends, horizon=HORIZON):
        generator = torch.Generator().manual_seed(7)
        shared = {"generator": generator, "dtype": torch.float64}
        self.actor = GaussianActor(2, [8], 2, **shared)
        self.critic = ValueNetwork(2, [8], 1.4, **shared)
        self.normalizer = Normalizer(
            torch.tensor([0.1, -0.2], dtype=torch.float64),
            torch.tensor([0.7, 1.9], dtype=torch.float64),
        )
        self.ends = ends
        self.eps = torch.randn(horizon, NUM_ENVS, 2, generator=generator, dtype=torch.float64)

    def collect(self):
        env = Particle(NUM_ENVS, ends=self.ends, num_actions=2)
        obs, _ = env.reset(seed=3)
        return collect(env, obs, self.actor, self.normalizer, self.eps, record_gradient=True)

    def gradients(self, gae_lambda=LAMBDA):
        rollout = self.collect()
        values = evaluate(rollout, self.critic.forward, self.normalizer)
        return action_gradients(rollout, values, GAMMA, gae_lambda)

    def graph_advantages(self, gae_lambda=LAMBDA):
        """Every A_t with autograd's graph of every delta, as Eq. 14 is written; the actions."""
        env = Particle(NUM_ENVS, ends=self.ends, num_actions=2)
        obs, _ = env.reset(seed=3)
        actions, deltas, done = [], [], []
        for noise in self.eps:
            mu, log_sigma = self.actor.forward((obs - self.normalizer.mean) / self.normalizer.scale)
            action = mu + log_sigma.exp() * noise
            next_obs, reward, terminated, truncated, info = env.step(torch.tanh(action))
            reached = self.value(info["final_obs"])
            bootstrap = torch.where(terminated, torch.zeros_like(reached), reached)
            deltas.append(reward + GAMMA * bootstrap - self.value(obs))
            actions.append(action)
            done.append(terminated | truncated)
            obs = next_obs
        advantages = []
        for t in range(len(deltas)):
            advantage = torch.zeros(NUM_ENVS, dtype=torch.float64)
            weight = torch.ones_like(advantage)
            for k in range(t, len(deltas)):
                advantage = advantage + weight * deltas[k]
                weight = weight * GAMMA * gae_lambda * ~done[k]
            advantages.append(advantage)
        return advantages, actions

    def value(self, obs):
        return self.critic.forward((obs - self.normalizer.mean) / self.normalizer.scale)


def test_gae_by_hand_with_a_termination_and_a_truncation():
    # gamma 0.5, lambda 0.5: the decay is 0.25. Step 1 terminates, step 3 is truncated.
    advantage = generalized_advantage(
        reward=column(1, 2, 3, 4, 5),
        values=Values(
            value=column(10, 20, 30, 40, 50),
            next_value=column(20, 99, 40, 60, 80),
            next_value_gradient=None,
        ),
        terminated=flags(False, True, False, False, False),
        done=flags(False, True, False, True, False),
        gamma=0.5,
        gae_lambda=0.5,
    )
    # delta: 1+10-10, 2+0-20, 3+20-30, 4+30-40, 5+40-50
    assert advantage.squeeze(1).tolist() == [1 - 0.25 * 18, -18, -7 - 0.25 * 6, -6, -5]


def test_steps_count_from_the_windows_start_and_after_every_end():
    done = torch.tensor([[0, 1, 0, 0, 1, 1], [0, 0, 0, 0, 0, 0]]).bool().T
    assert subtrajectory_steps(done).T.tolist() == [[0, 1, 0, 1, 2, 0], [0, 1, 2, 3, 4, 5]]


def test_values_use_the_observation_before_the_reset():
    setup = Setup(ENDS)
    rollout = setup.collect()
    values = evaluate(rollout, setup.critic.forward, setup.normalizer)
    torch.testing.assert_close(values.next_value[2, 0], setup.value(rollout.final_obs[2, 0]))
    torch.testing.assert_close(values.value[3, 0], setup.value(rollout.raw_obs[3, 0]))
    assert values.next_value[2, 0] != values.value[3, 0]
    torch.testing.assert_close(values.next_value[0], values.value[1])


@pytest.mark.parametrize("gae_lambda", [LAMBDA, 1.0, 0.3])
@pytest.mark.parametrize("ends", [{}, ENDS], ids=["whole", "with resets and ends"])
def test_one_backward_pass_gives_every_steps_own_gradient(ends, gae_lambda):
    setup = Setup(ends)
    gradients = setup.gradients(gae_lambda)
    advantages, actions = setup.graph_advantages(gae_lambda)
    for t, (advantage, action) in enumerate(zip(advantages, actions, strict=True)):
        (brute,) = torch.autograd.grad(advantage.sum(), action, retain_graph=True)
        torch.testing.assert_close(gradients.of_own[t], brute, rtol=1e-10, atol=1e-12)
    assert int(gradients.num_subtrajectories) == NUM_ENVS + (3 if ends else 0)


def test_gradients_pass_through_later_actions():
    # With the later actions held, the gradient is another.
    setup = Setup({}, horizon=2)
    rollout = setup.collect()
    closed = setup.gradients().of_own[0]
    held = torch.autograd.grad(
        [rollout.reward_steps[0], rollout.reward_steps[1]],
        rollout.action_steps[0],
        [torch.ones(NUM_ENVS, dtype=torch.float64)] * 2,
    )[0]
    assert (closed - held).abs().max() > 1e-4


def test_the_gradient_matches_differences_of_the_advantage():
    setup = Setup(ENDS)
    advantages, _ = setup.graph_advantages()
    gradients = setup.gradients()
    with torch.no_grad():
        sigma = torch.exp(setup.collect().log_sigma)
    step = 1e-6
    for t, env in ((0, 0), (3, 0), (1, 1), (6, 2)):
        ahead, behind = Setup(ENDS), Setup(ENDS)
        ahead.eps[t, env, 1] += step / sigma[t, env, 1]
        behind.eps[t, env, 1] -= step / sigma[t, env, 1]
        difference = ahead.graph_advantages()[0][t][env] - behind.graph_advantages()[0][t][env]
        numeric = difference.item() / (2 * step)
        assert gradients.of_own[t, env, 1].item() == pytest.approx(numeric, rel=1e-6, abs=1e-9)
    assert len(advantages) == HORIZON


def test_a_reset_of_one_environment_leaves_the_others_gradients_alone():
    with_reset = Setup({(3, 0): "terminated"}).gradients()
    without = Setup({}).gradients()
    assert torch.equal(with_reset.of_own[:, 1:], without.of_own[:, 1:])
    assert not torch.equal(with_reset.of_own[:, 0], without.of_own[:, 0])


def test_nothing_passes_an_episodes_end():
    plain, changed = Setup({(3, 0): "terminated"}), Setup({(3, 0): "terminated"})
    changed.eps[4:, 0] += 1.0
    before, after = plain.gradients().of_own, changed.gradients().of_own
    assert torch.equal(before[:4, 0], after[:4, 0])
    assert not torch.equal(before[4:, 0], after[4:, 0])


def test_normalized_has_zero_mean_and_unit_variance():
    values = normalized(torch.tensor([1.0, 2.0, 6.0], dtype=torch.float64), torch.float64)
    assert values.mean().item() == pytest.approx(0.0, abs=1e-12)
    assert (values * values).mean().item() == pytest.approx(1.0)
    assert normalized(torch.full((4,), 3.0), torch.float32).tolist() == [0.0] * 4


def test_rewards_small_beside_the_values_keep_their_differences():
    # One-step episodes cut by time, as in function optimisation, with a value of another magnitude.
    value = torch.full((1, 4), -44.0)
    reward = torch.tensor([[1e-9, 2e-9, 3e-9, 4e-9]])
    done = torch.ones(1, 4, dtype=torch.bool)
    advantage = generalized_advantage(reward, Values(value, value, None), ~done, done, 0.99, 0.95)
    expected = torch.tensor([[-3.0, -1.0, 1.0, 3.0]]) / 5.0**0.5
    torch.testing.assert_close(normalized(advantage, torch.float32), expected, rtol=1e-3, atol=0.0)
