import math

import pytest
import torch

from gippo.updates.alpha import (
    AlphaConfig,
    AlphaControl,
    AlphaFit,
    AlphaStatistics,
    alpha_statistics,
    determinant_ratio,
)
from tests.gippo.policies import make_context, make_samples


def statistics(det_min=1.0, det_max=1.0, bias=1.0, out_of_range_ratio=0.0):
    values = (det_min, 1.0, det_max, bias, out_of_range_ratio)
    return AlphaStatistics(*(torch.tensor(value, dtype=torch.float64) for value in values))


def test_the_determinant_is_that_of_gs_jacobian_before_and_after():
    # Lemma 4.4, with the Jacobians of g(s, eps) by autograd.
    old, new = make_context(0).actor, make_context(5).actor
    samples = make_samples(old)

    def determinant(actor, i):
        def g(eps):
            mu, log_sigma = actor.forward(samples.obs[i])
            return mu + torch.exp(log_sigma) * eps

        return torch.linalg.det(torch.autograd.functional.jacobian(g, samples.eps[i]))

    with torch.no_grad():
        _, log_sigma = new.forward(samples.obs)
    psi = determinant_ratio(log_sigma, samples.log_sigma)
    for i in range(len(psi)):
        expected = determinant(new, i) / determinant(old, i)
        torch.testing.assert_close(psi[i], expected)


def test_statistics_by_hand():
    samples = make_samples(make_context().actor, batch=2)
    samples.mu = torch.zeros(2, 2, dtype=torch.float64)
    samples.log_sigma = torch.zeros(2, 2, dtype=torch.float64)
    samples.action = torch.tensor([[0.0, 0.0], [1.0, 2.0]], dtype=torch.float64)
    samples.log_prob = -(samples.action**2).sum(1) / 2 - math.log(2 * math.pi)
    samples.advantage = torch.tensor([3.0, -1.0], dtype=torch.float64)
    # The new policy's second sigma doubles: psi = 2; ratios 1/2 and exp(2 - 1/2)/2.
    log_sigma = torch.tensor([[0.0, math.log(2.0)]] * 2, dtype=torch.float64)
    result = alpha_statistics(samples, samples.mu, log_sigma, 0.2, 16.0)
    assert [result.det_min, result.det_mean, result.det_max] == pytest.approx([2.0] * 3)
    assert result.out_of_range_ratio.item() == 1.0
    expected = ((0.5 - 1) * 3 - (math.exp(1.5) / 2 - 1)) / 2
    assert result.bias.item() == pytest.approx(expected)


def test_nothing_binding_raises_alpha_to_its_maximum():
    control = AlphaControl(AlphaConfig(alpha_0=0.5, beta=1.5, max_alpha=1.0))
    alphas = []
    for _ in range(3):
        metrics = control.adjust(statistics(), 4)
        alphas.append(control.alpha)
    assert alphas == [0.75, 1.0, 1.0]
    assert metrics["det_binds"] == metrics["bias_binds"] == metrics["out_of_range_binds"] == 0.0


@pytest.mark.parametrize(
    ("which", "values"),
    [
        ("det_binds", {"det_min": 0.59}),
        ("det_binds", {"det_max": 1.41}),
        ("det_binds", {"det_min": math.nan}),
        ("bias_binds", {"bias": -1e-9}),
        ("bias_binds", {"bias": math.nan}),
        ("out_of_range_binds", {"out_of_range_ratio": 0.76}),
    ],
)
def test_each_criterion_alone_lowers_alpha(which, values):
    control = AlphaControl(AlphaConfig(alpha_0=0.5, beta=1.25, bias_test="strict"))
    metrics = control.adjust(statistics(**values), 4)
    assert control.alpha == pytest.approx(0.4)
    names = ("det_binds", "bias_binds", "out_of_range_binds")
    assert [name for name in names if metrics[name]] == [which]


def test_at_its_bounds_no_criterion_binds():
    control = AlphaControl(AlphaConfig(bias_test="strict", delta_det=0.5))
    metrics = control.adjust(statistics(0.5, 1.5, 0.0, 0.75), 4)
    assert metrics["det_binds"] + metrics["bias_binds"] + metrics["out_of_range_binds"] == 0.0


def test_the_normalised_bias_test_uses_statistics_from_before():
    control = AlphaControl(AlphaConfig())
    # Mean 0, variance 1 at first: -0.5 is no bias yet, -2 would be.
    first = control.adjust(statistics(bias=-0.125), 4)
    assert first["bias_normalized"] == pytest.approx(-0.5, rel=1e-4)
    assert first["bias_binds"] == 0.0
    # Now about mean -0.5 and variance 1e-4 (1 + 0.25): a small shift down binds, one up does not.
    second = control.adjust(statistics(bias=-0.15), 4)
    assert second["bias_normalized"] == pytest.approx(-0.1 / math.sqrt(1.35e-4), rel=1e-2)
    assert second["bias_binds"] == 1.0
    # Far below its mean, but not negative: no bias.
    control.adjust(statistics(bias=100.0), 4)
    third = control.adjust(statistics(bias=0.1), 4)
    assert third["bias_normalized"] < -0.1
    assert third["bias_binds"] == 0.0


def test_alpha_has_a_floor_to_come_back_from():
    control = AlphaControl(AlphaConfig(alpha_0=0.5, beta=10.0))
    for _ in range(9):
        control.adjust(statistics(det_min=0.0), 4)
    assert control.alpha == pytest.approx(0.5e-4)
    control.adjust(statistics(), 4)
    assert control.alpha == pytest.approx(0.5e-3)


def test_the_fit_moves_the_actor_towards_the_alpha_policy():
    context = make_context()
    samples = make_samples(context.actor)
    fit = AlphaFit(context, AlphaConfig(learning_rate=1e-2, iterations=64))
    policy = fit.fit(samples, alpha=0.1, epoch=0)
    assert policy.outcome.succeeded
    with torch.no_grad():
        mu, log_sigma = context.actor.forward(samples.obs)
    torch.testing.assert_close(policy.mu, mu)
    torch.testing.assert_close(policy.log_sigma, log_sigma)
    before = (0.1 * samples.action_gradient).square().sum(-1).mean()
    error = mu + log_sigma.exp() * samples.eps - samples.action - 0.1 * samples.action_gradient
    after = error.square().sum(-1).mean()
    assert after < 0.8 * before
    torch.testing.assert_close(policy.loss, after)


def test_a_failed_fit_leaves_the_actor_and_lowers_the_base_rate():
    context = make_context()
    samples = make_samples(context.actor)
    # The actor is already exact, so that every step away is a rise.
    samples.action_gradient = torch.zeros_like(samples.action)
    samples.action = samples.action + 1e-9
    fit = AlphaFit(context, AlphaConfig(learning_rate=0.1, min_learning_rate=0.05))
    before = context.parameters.vector.clone()
    rates = []
    for _ in range(3):
        policy = fit.fit(samples, alpha=0.5, epoch=0)
        assert not policy.outcome.succeeded
        rates.append(policy.next_rate)
    assert policy.mu is samples.mu
    assert policy.log_sigma is samples.log_sigma
    assert torch.equal(context.parameters.vector, before)
    assert rates == pytest.approx([0.1 / 1.5, 0.05, 0.05])


def test_the_fits_rate_may_fall_over_training():
    context = make_context(num_epochs=10)
    samples = make_samples(context.actor)
    config = AlphaConfig(learning_rate=1e-3, schedule="linear", final_learning_rate=1e-4)
    fit = AlphaFit(context, config)
    rates = [fit.fit(samples, 0.1, epoch).outcome.rate for epoch in (0, 5, 10)]
    assert rates == pytest.approx([1e-3, 5.5e-4, 1e-4])


def test_native_fits_are_torchs():
    policies, vectors = [], []
    for native in (True, False):
        context = make_context(native=native)
        samples = make_samples(context.actor)
        fit = AlphaFit(context, AlphaConfig(learning_rate=3e-2))
        policies.append([fit.fit(samples, 0.1, epoch) for epoch in range(2)])
        vectors.append(context.parameters.vector)
    for mine, plain in zip(*policies, strict=True):
        assert mine.outcome == plain.outcome
        torch.testing.assert_close(mine.loss, plain.loss, rtol=1e-10, atol=1e-10)
    assert any(policy.outcome.retries for policy in policies[0]), "retries agree as well"
    torch.testing.assert_close(*vectors, rtol=1e-10, atol=1e-10)


def test_a_non_finite_gradient_is_reported_and_changes_nothing():
    context = make_context()
    samples = make_samples(context.actor)
    samples.action_gradient[3, 1] = torch.inf
    fit = AlphaFit(context, AlphaConfig(learning_rate=0.1))
    before = context.parameters.vector.clone()
    policy = fit.fit(samples, alpha=0.5, epoch=0)
    assert policy.outcome.problem == "the alpha-policy's loss is inf before its first step"
    assert torch.equal(context.parameters.vector, before)
    assert policy.next_rate == 0.1
