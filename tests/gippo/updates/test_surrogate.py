import math

import pytest
import torch

from gippo.networks import graphs
from gippo.networks.perceptron import kl_divergence
from gippo.updates.retries import RetryConfig
from gippo.updates.surrogate import (
    PPOConfig,
    Reference,
    SurrogateAscent,
    clipped_surrogate,
    hybrid_log_prob,
    num_minibatches,
)
from tests.gippo.policies import make_context, make_samples


def reference(samples):
    return Reference(samples.log_prob, samples.mu, samples.log_sigma)


def test_pi_h_by_hand():
    old = torch.log(torch.tensor([0.1, 0.5], dtype=torch.float64))
    alpha = torch.log(torch.tensor([0.3, 0.25], dtype=torch.float64))
    log_prob, share = hybrid_log_prob(old, alpha, 4.0, 1)
    assert log_prob.exp().tolist() == pytest.approx([0.2, 0.375])
    assert share.item() == 0.0


def test_a_minibatch_with_policies_far_apart_takes_pi_alpha_alone():
    old = torch.tensor([0.0, 0.0, 0.0, 0.0], dtype=torch.float64)
    alpha = torch.tensor([1.0, 4.0, -4.001, 1.0], dtype=torch.float64)
    log_prob, share = hybrid_log_prob(old, alpha, 4.0, 2)
    mixture = [math.log(0.5 + 0.5 * math.exp(1.0)), math.log(0.5 + 0.5 * math.exp(4.0))]
    assert log_prob.tolist() == pytest.approx([*mixture, -4.001, 1.0])
    assert share.item() == 0.5
    whole, share = hybrid_log_prob(old, alpha, 4.0, 1)
    assert whole.tolist() == alpha.tolist()
    assert share.item() == 1.0


def test_the_mixture_survives_extreme_densities():
    old = torch.tensor([500.0, -500.0])
    log_prob, _ = hybrid_log_prob(old, -old, 2000.0, 1)
    assert log_prob.tolist() == pytest.approx([500.0 - math.log(2.0)] * 2)


def test_the_clipped_loss_by_hand():
    output = torch.zeros(3, 2, dtype=torch.float64)
    action = torch.zeros(3, 1, dtype=torch.float64)
    own = -0.5 * math.log(2 * math.pi)
    ratios = torch.tensor([1.1, 1.5, 1.5], dtype=torch.float64)
    advantage = torch.tensor([2.0, 1.0, -1.0], dtype=torch.float64)
    losses = clipped_surrogate(output, action, own - ratios.log(), advantage, 0.2, 16.0)
    assert losses.tolist() == pytest.approx([-1.1 * 2.0, -1.2 * 1.0, 1.5 * 1.0])


def test_the_log_ratio_is_clamped():
    output = torch.zeros(1, 2, dtype=torch.float64, requires_grad=True)
    action = torch.zeros(1, 1, dtype=torch.float64)
    advantage = torch.tensor([-1.0], dtype=torch.float64)
    reference_log_prob = torch.tensor([-1000.0], dtype=torch.float64)
    losses = clipped_surrogate(output, action, reference_log_prob, advantage, 0.2, 16.0)
    assert losses.item() == pytest.approx(math.exp(16.0))
    (gradient,) = torch.autograd.grad(losses.sum(), output)
    assert gradient.tolist() == [[0.0, 0.0]], "a bounded ratio does not move"


def test_native_ascents_are_torchs():
    reports, vectors = [], []
    for native in (True, False):
        context = make_context(native=native)
        samples = make_samples(context.actor)
        ascent = SurrogateAscent(context, PPOConfig(learning_rate=3e-2, minibatch_size=8))
        reports.append([ascent.update(samples, reference(samples), epoch) for epoch in range(3)])
        vectors.append(context.parameters.vector)
    for mine, plain in zip(*reports, strict=True):
        for name, value in mine.metrics.items():
            assert float(value) == pytest.approx(float(plain.metrics[name]), rel=1e-9, abs=1e-10)
    torch.testing.assert_close(*vectors, rtol=1e-9, atol=1e-10)


def test_an_ascent_lowers_the_loss_it_is_judged_by():
    context = make_context()
    samples = make_samples(context.actor)
    ascent = SurrogateAscent(context, PPOConfig(learning_rate=1e-2, minibatch_size=8))
    report = ascent.update(samples, reference(samples), 0)
    assert report.problem is None
    assert report.metrics["actor_failed"] == 0.0
    assert report.metrics["actor_loss"] < 0.0


@pytest.mark.parametrize("on_gpu", [False, True])
def test_the_adaptive_rate_follows_the_divergence(on_gpu, monkeypatch):
    monkeypatch.setattr(graphs, "on_gpu", lambda tensor: on_gpu)
    ascent = SurrogateAscent(make_context(), PPOConfig(schedule="adaptive", kl_target=0.01))
    if on_gpu:  # where the rate is a tensor of single precision
        follow = ascent.adapted_rate
        monkeypatch.setattr(ascent, "adapted_rate", lambda *given: follow(*given).item())
        assert ascent.adapted_rate(0.5, torch.tensor(0.01)) == 0.5
    assert ascent.adapted_rate(1e-3, torch.tensor(0.021)) == pytest.approx(1e-3 / 1.5)
    assert ascent.adapted_rate(1e-3, torch.tensor(0.0201)) < 1e-3
    assert ascent.adapted_rate(1e-3, torch.tensor(0.01)) == pytest.approx(1e-3)
    assert ascent.adapted_rate(1e-3, torch.tensor(0.0049)) == pytest.approx(1.5e-3)
    assert ascent.adapted_rate(1e-6, torch.tensor(1.0)) == pytest.approx(1e-6)
    assert ascent.adapted_rate(1e-2, torch.tensor(0.0)) == pytest.approx(1e-2)


def test_the_divergence_is_from_before_the_step_to_the_minibatchs_last_visit():
    context = make_context()
    samples = make_samples(context.actor, batch=16)
    config = PPOConfig(
        schedule="adaptive",
        learning_rate=1e-3,
        minibatch_size=8,
        num_epochs=2,
        retry=RetryConfig(retries=0),
    )
    ascent = SurrogateAscent(context, config)
    policies = []
    descent = ascent._network.descent

    def spy(batch, *loss):
        mean, output, gradient = descent(batch, *loss)
        policies.append(output.chunk(2, -1))
        return mean, output, gradient

    ascent._network.descent = spy
    report = ascent.update(samples, reference(samples), 0)
    start = [part for part in zip(samples.mu.split(8), samples.log_sigma.split(8), strict=True)]
    visits = [(policies[0], start[0]), (policies[1], start[1])]
    visits += [(policies[2], policies[0]), (policies[3], policies[1])]
    divergences = [kl_divergence(*now, *last).mean().item() for now, last in visits]
    assert divergences[0] == pytest.approx(0.0, abs=1e-12), "no step has been taken yet"
    assert report.metrics["kl"].item() == pytest.approx(divergences[3])
    rate = 1e-3
    for divergence in divergences:
        rate = ascent.adapted_rate(rate, torch.tensor(divergence, dtype=torch.float64))
    assert report.metrics["actor_learning_rate"] == pytest.approx(rate)
    assert ascent.state_dict()["learning_rate"] == pytest.approx(rate), "kept between epochs"


@pytest.mark.parametrize(("batch", "size", "expected"), [(64, 64, 1), (65, 64, 2), (10, 2048, 1)])
def test_minibatches_hold_at_most_their_size(batch, size, expected):
    assert num_minibatches(batch, size) == expected
    assert max(len(part) for part in torch.zeros(batch).tensor_split(expected)) <= size


def test_a_last_step_that_leads_away_is_not_kept():
    # One pass takes one step, before which the loss cannot have risen; only after it, it has.
    context = make_context()
    samples = make_samples(context.actor)
    config = PPOConfig(learning_rate=10.0, num_epochs=1, retry=RetryConfig(retries=1))
    before = context.parameters.vector.clone()
    report = SurrogateAscent(context, config).update(samples, reference(samples), 0)
    assert report.metrics["actor_failed"] == 1.0
    assert torch.equal(context.parameters.vector, before)


def test_leaving_all_samples_behind_is_no_improvement():
    # The ascent starts at a policy worse than the reference; far away the loss is lower, but a
    # constant: every ratio is zero.
    context = make_context()
    samples = make_samples(context.actor)
    samples.advantage = samples.eps[:, 0]
    worse = Reference(samples.log_prob + 2.0 * samples.advantage, samples.mu, samples.log_sigma)
    config = PPOConfig(learning_rate=3.0, num_epochs=5, retry=RetryConfig(retries=0))
    ascent = SurrogateAscent(context, config)
    attempts = []
    update = ascent._control.update

    def spied(attempt, epoch):
        def noted(rate):
            attempts.append(attempt(rate))
            return attempts[-1]

        return update(noted, epoch)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ascent._control, "update", spied)
        report = ascent.update(samples, worse, 0)
    first, last = attempts[0][:2]
    assert first.item() == 0.0
    assert last.item() > 0.0
    assert report.metrics["actor_failed"] == 1.0
