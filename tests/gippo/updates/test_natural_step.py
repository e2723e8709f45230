import dataclasses
import itertools
import math

import pytest
import torch

from gippo.networks.jacobian import jacobian_of
from gippo.networks.perceptron import kl_divergence
from gippo.updates.natural_step import (
    Fisher,
    NaturalStep,
    NaturalStepConfig,
    conjugate_gradients,
)
from tests.gippo.policies import make_context, make_samples


def randn(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def test_conjugate_gradients_solve_a_system_in_as_many_iterations_as_it_has_unknowns():
    root = randn(6, 6)
    matrix = root @ root.T + 0.1 * torch.eye(6, dtype=torch.float64)
    target = randn(6, seed=1)
    for preconditioner in (torch.ones(6, dtype=torch.float64), 1.0 / matrix.diagonal()):
        found = conjugate_gradients(lambda v: matrix @ v, target, preconditioner, 6)
        assert (matrix @ found - target).norm() < 0.02 * target.norm()


def make_fisher(context, obs):
    jacobian = jacobian_of(context.actor.mlp, context.parameters, torch.float64)
    return Fisher(jacobian, context.parameters.vector, obs)


def test_the_fisher_matrix_is_the_divergences_second_derivative():
    context = make_context()
    obs = randn(10, 3)
    size = len(context.parameters.vector)
    fisher = make_fisher(context, obs)
    u, v = randn(2, size, seed=7)
    assert (u @ fisher.times(v)).item() == pytest.approx((v @ fisher.times(u)).item())
    with torch.no_grad():
        mu, log_sigma = context.actor.forward(obs)
        start = context.parameters.vector.clone()
    for seed in range(3):
        d = 1e-4 * randn(size, seed=seed)
        expected = (d @ fisher.times(d)).item() / 2
        with torch.no_grad():
            context.parameters.vector.copy_(start + d)
            divergence = kl_divergence(*context.actor.forward(obs), mu, log_sigma).mean()
        assert divergence.item() == pytest.approx(expected, rel=0.02)


def test_the_diagonals_samples_have_the_diagonal_as_mean():
    context = make_context()
    fisher = make_fisher(context, randn(10, 3))
    generator = torch.Generator().manual_seed(0)
    mean = torch.stack([fisher.diagonal_sample(generator) for _ in range(300)]).mean(0)
    some = range(0, len(mean), 9)
    rows = torch.eye(len(mean), dtype=torch.float64)
    expected = torch.stack([fisher.times(rows[i])[i] for i in some])
    assert (mean[some] - expected).norm() < 0.15 * expected.norm()


def some_gradient(context, samples):
    """Of what the policy does: a step along it is one that the Fisher matrix sees."""
    mu, log_sigma = context.actor.forward(samples.obs)
    return context.parameters.gradient(
        (samples.action_gradient * mu + samples.eps * log_sigma).mean()
    )


def take(step, gradient, metric, radius):
    """A step along the natural gradient."""
    return step.move(step.direction(gradient.double(), metric), radius)


def made(seed=0):
    context = make_context(seed)
    return context, NaturalStep(context, NaturalStepConfig())


@pytest.mark.parametrize("radius", [1e-4, 1e-2])
def test_a_step_diverges_by_the_radius_whatever_the_gradients_unit(radius):
    ends = []
    for unit in (1e-12, 1.0, 1e6):
        context, step = made()
        samples = make_samples(context.actor)
        metric = step.look(samples, 0)
        gradient = unit * some_gradient(context, samples)
        divergence, moved = take(step, gradient, metric, radius)
        assert moved
        assert 0.3 * radius < divergence < 2.0 * radius  # of second order, and damped
        ends.append(context.parameters.vector.clone())
    torch.testing.assert_close(ends[0], ends[1], rtol=1e-5, atol=1e-7)
    torch.testing.assert_close(ends[2], ends[1], rtol=1e-5, atol=1e-7)


def test_steps_on_a_quadratic_go_down_to_a_precision_of_the_policys_own():
    """E (a - 0.7)^2 over a ~ N(mu, sigma) is (mu - 0.7)^2 + sigma^2, per action."""
    context, step = made()
    samples = make_samples(context.actor)
    losses = []
    for epoch in range(60):
        with torch.no_grad():
            samples.mu, samples.log_sigma = context.actor.forward(samples.obs)
        metric = step.look(samples, epoch)
        mu, log_sigma = context.actor.forward(samples.obs)
        loss = ((mu - 0.7).square() + torch.exp(2.0 * log_sigma)).sum(-1).mean()
        losses.append(loss.item())
        gradient = context.parameters.gradient(-loss)
        assert take(step, gradient, metric, 0.1)[1]
    assert losses[20] < 0.5 * losses[0]
    assert losses[-1] < 1e-2 * losses[20]


def test_a_step_that_diverges_too_far_is_halved_and_one_without_end_undone():
    context, step = made()
    samples = make_samples(context.actor)
    metric = step.look(samples, 0)
    gradient = randn(len(metric), seed=4)
    before = context.parameters.vector.clone()
    divergence, moved = take(step, gradient, metric, 50.0)
    assert moved
    assert divergence <= 100.0
    context.parameters.vector.copy_(before)
    assert take(step, gradient * math.nan, metric, 0.01) == (0.0, True)
    assert torch.equal(context.parameters.vector, before)
    (mu, log_sigma), far = step._policy(step._states), itertools.count()
    step._policy = lambda obs: (mu + 1e3 * next(far), log_sigma)  # whatever the step
    assert take(step, gradient, metric, 0.01) == (0.0, False)
    assert torch.equal(context.parameters.vector, before)


def test_a_gradient_of_zero_moves_nothing():
    context, step = made()
    samples = make_samples(context.actor)
    before = context.parameters.vector.clone()
    metric = step.look(samples, 0)
    take(step, torch.zeros_like(metric), metric, 0.01)
    assert torch.equal(context.parameters.vector, before)


def test_the_divergence_is_taken_over_states_of_the_last_windows():
    context = make_context()
    step = NaturalStep(context, NaturalStepConfig(states=16, memory=4))
    windows = [make_samples(context.actor, batch=40, seed=seed) for seed in range(6)]
    for epoch, samples in enumerate(windows):
        step.look(samples, epoch)
        assert step._states.shape == (16, samples.obs.shape[1])
    for age, part in enumerate(step._states.flip(0).split(4)):
        known = (windows[-1 - age].obs == part.unsqueeze(1)).all(-1)
        assert known.any(-1).all()


@pytest.mark.parametrize(("episode", "kept"), [(1.0, 4), (4.0, 4), (15.5, 2), (100.0, 1)])
def test_states_are_kept_for_an_episode_at_least(episode, kept):
    context = dataclasses.replace(make_context(), episode_windows=episode)
    step = NaturalStep(context, NaturalStepConfig(states=16, memory=4))
    first, second = (make_samples(context.actor, batch=40, seed=seed) for seed in range(2))
    step.look(first, 0)
    step.look(second, 1)
    new = (second.obs == step._states.unsqueeze(1)).all(-1).any(-1)
    assert new.sum() == kept
    assert new[-kept:].all()


def test_a_step_that_a_window_asks_for_leaves_what_is_done_elsewhere():
    """Two kinds of states by turns, which want opposite actions: one window must not undo."""
    moved = {}
    for memory in (1, 8):
        context = make_context()
        step = NaturalStep(context, NaturalStepConfig(states=64, memory=memory))
        batches = [make_samples(context.actor, batch=64, seed=seed) for seed in (1, 2)]
        for sign, samples in zip((1.0, -1.0), batches, strict=True):
            samples.obs[:, 0] = sign
        for epoch in range(9):
            samples = batches[epoch % 2]
            metric = step.look(samples, epoch)
        elsewhere = batches[1]
        with torch.no_grad():
            before = context.actor.forward(elsewhere.obs)
        mu, _ = context.actor.forward(samples.obs)
        assert take(step, context.parameters.gradient(mu.sum()), metric, 1e-2)[1]
        with torch.no_grad():
            moved[memory] = kl_divergence(*context.actor.forward(elsewhere.obs), *before).mean()
    assert moved[8] < 0.5 * moved[1]


def test_the_state_continues_to_the_bit():
    context, step = made()
    samples = make_samples(context.actor)
    for epoch in range(3):
        step.look(samples, epoch)
    other_context, other = made(seed=5)
    other_context.parameters.vector.copy_(context.parameters.vector)
    other.load_state_dict(step.state_dict())
    assert torch.equal(step.look(samples, 3), other.look(samples, 3))


@pytest.mark.parametrize("filled", [-1, 10**6])
def test_a_state_with_more_samples_than_are_kept_is_refused(filled):
    _, step = made()
    with pytest.raises(ValueError, match=f"step.filled: {filled} given"):
        step.load_state_dict({**step.state_dict(), "filled": filled})
