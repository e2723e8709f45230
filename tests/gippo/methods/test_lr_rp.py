import pytest
import torch

from gippo.experience.advantages import ActionGradients
from gippo.methods.lr_rp import (
    LRRP,
    LRRPConfig,
    covariance_trace,
    lr_surrogate,
    rp_surrogate,
    sample_gradients,
    trajectories,
)
from gippo.networks.perceptron import log_prob
from gippo.updates.window import Window
from tests.gippo.policies import NUM_ACTIONS, NUM_OBS, make_context

GAMMA, LAMBDA = 0.99, 0.95


def randn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


class FakeRollout:
    def __init__(self, actor, num_envs, horizon):
        self.obs = randn(horizon, num_envs, NUM_OBS, seed=1)
        self.eps = randn(horizon, num_envs, NUM_ACTIONS, seed=2)
        with torch.no_grad():
            self.mu, self.log_sigma = actor.forward(self.obs)
        self.action = self.mu + self.log_sigma.exp() * self.eps
        self.reward = torch.zeros(horizon, num_envs, dtype=torch.float64)


def made_up_window(actor, num_envs=5, horizon=4, subtrajectories=7):
    rollout = FakeRollout(actor, num_envs, horizon)
    of_first = randn(horizon, num_envs, NUM_ACTIONS, seed=3)
    discount = (GAMMA * LAMBDA) ** torch.arange(horizon, dtype=torch.float64)
    discount = discount.unsqueeze(1).expand(horizon, num_envs)
    gradients = ActionGradients(
        of_first, of_first / discount.unsqueeze(-1), discount, torch.tensor(subtrajectories)
    )
    advantage = randn(horizon, num_envs, seed=4)
    return Window(rollout, advantage, gradients, torch.tensor(1.0, dtype=torch.float64))


def looped(actor, parameters, window, estimate):
    """One backward pass per environment, from the formulas."""
    rollout, gradients = window.rollout, window.gradients
    advantage = window.advantage - window.advantage.mean()
    rows = []
    for env in range(rollout.obs.shape[1]):
        mu, log_sigma = actor.forward(rollout.obs[:, env])
        total = 0.0
        for t in range(len(mu)):
            if estimate == "lr":
                score = log_prob(rollout.action[t, env], mu[t], log_sigma[t])
                total = total + gradients.discount[t, env] * advantage[t, env] * score
            else:
                action = mu[t] + log_sigma[t].exp() * rollout.eps[t, env]
                total = total + gradients.of_first[t, env] @ action
        scale = rollout.obs.shape[1] / gradients.num_subtrajectories
        rows.append(parameters.gradient(scale * total))
    return torch.stack(rows)


@pytest.mark.parametrize(("estimate", "surrogate"), [("lr", lr_surrogate), ("rp", rp_surrogate)])
def test_sample_gradients_are_those_of_single_backward_passes(estimate, surrogate):
    context = make_context()
    window = made_up_window(context.actor)
    expected = looped(context.actor, context.parameters, window, estimate)
    given = sample_gradients(
        surrogate, context.actor, context.parameters.parameters, trajectories(window)
    )
    assert expected.abs().amax() > 0.1
    torch.testing.assert_close(given, expected, rtol=1e-10, atol=1e-12)


def test_the_mixture_by_hand():
    context = make_context()
    window = made_up_window(context.actor)
    lr = looped(context.actor, context.parameters, window, "lr")
    rp = looped(context.actor, context.parameters, window, "rp")

    def variance(rows):
        part = rows[:3, :40]  # as configured below
        return ((part - part.mean(0)) ** 2).mean(0).sum()

    kappa = variance(rp) / (variance(rp) + variance(lr))
    mixed = kappa * lr.mean(0) + (1.0 - kappa) * rp.mean(0)
    seen = []
    method = LRRP(context, LRRPConfig(variance_samples=3, variance_entries=40))
    method._step._optimizer.step_along = lambda gradient, rate: seen.append(gradient.clone())
    report = method.update(window, 0)
    torch.testing.assert_close(seen[0], -mixed, rtol=1e-10, atol=1e-12)
    assert report.metrics["kappa_lr"].item() == pytest.approx(kappa.item(), rel=1e-10)
    assert 0.01 < kappa.item() < 0.99


def test_estimates_without_variance_count_half_each():
    context = make_context()
    window = made_up_window(context.actor)
    window.advantage[:] = 0.0
    window.gradients.of_first[:] = 0.0
    report = LRRP(context, LRRPConfig()).update(window, 0)
    assert report.problem is None
    assert report.metrics["kappa_lr"].item() == 0.5


def test_weights_by_known_variances_leave_less_variance_than_either_estimate():
    """Independent unbiased estimates with traces 4 and 1: the mixture has 4/5 of the smaller."""
    count, entries = 20_000, 4
    noisy = 1.0 + 1.0 * randn(count, entries, seed=5)  # trace 4
    quiet = 1.0 + 0.5 * randn(count, entries, seed=6)  # trace 1
    kappa = covariance_trace(quiet) / (covariance_trace(quiet) + covariance_trace(noisy))
    assert kappa.item() == pytest.approx(0.2, abs=0.01)
    mixed = covariance_trace(kappa * noisy + (1.0 - kappa) * quiet)
    assert mixed.item() == pytest.approx(0.8, rel=0.03)


def test_both_estimates_are_of_the_objectives_gradient():
    """Their means agree within their errors, for r_t = -|a_0 + ... + a_t - 1|^2, no critic."""
    context = make_context()
    horizon, num_envs = 3, 20_000
    window = made_up_window(context.actor, num_envs, horizon, subtrajectories=num_envs)
    discount = window.gradients.discount
    action = window.rollout.action.requires_grad_()
    reward = -((action.cumsum(0) - 1.0) ** 2).sum(-1)
    objective = (discount * reward).sum()
    (window.gradients.of_first,) = torch.autograd.grad(objective, action)
    action.requires_grad_(False)
    to_go = (discount * reward.detach()).flip(0).cumsum(0).flip(0)
    window.advantage = to_go / discount
    data = trajectories(window)
    lr, rp = (
        sample_gradients(surrogate, context.actor, context.parameters.parameters, data)
        for surrogate in (lr_surrogate, rp_surrogate)
    )
    error = (lr - rp).std(0) / num_envs**0.5
    assert (rp.mean(0).abs() / error).max() > 20.0  # there is something to agree on
    assert ((lr - rp).mean(0).abs() <= 4.5 * error).all()
