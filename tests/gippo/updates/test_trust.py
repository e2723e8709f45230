import math

import pytest
import torch

from gippo.updates.trust import (
    LEAST,
    Halves,
    RecentSize,
    RunningMean,
    SlopeLeft,
    Unseen,
    clipped_samples,
    inverse_variance_weight,
    noise,
    signal_share,
)


def randn(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def synthetic(count, part, signal, deviation, seed=0, batch=60):
    """Halves of `count` windows of `batch` samples, signal + deviation * standard normal each."""
    n_1 = round(part * batch)
    for k in range(count):
        first, second = randn(2, len(signal), seed=seed + k)
        yield Halves(
            signal + deviation / math.sqrt(n_1) * first,
            signal + deviation / math.sqrt(batch - n_1) * second,
            n_1 / batch,
        )


@pytest.mark.parametrize("part", [0.5, 0.2])
def test_the_noise_of_a_mean_is_estimated_without_bias(part):
    metric = torch.linspace(0.5, 2.0, 40, dtype=torch.float64)
    deviation = torch.linspace(1.0, 3.0, 40, dtype=torch.float64)
    signal = randn(40, seed=9)
    windows = list(synthetic(400, part, signal, deviation))
    told = torch.stack([noise(halves, metric) for halves in windows]).mean()
    expected = (metric * deviation**2).sum() / 60
    assert told.item() == pytest.approx(expected.item(), rel=0.03)
    errors = torch.stack([halves.mean - signal for halves in windows])
    actual = (metric * errors.square()).sum(1).mean()
    assert told.item() == pytest.approx(actual.item(), rel=0.06)


def test_the_product_of_the_halves_is_the_signals_square_without_bias():
    signal = randn(40, seed=9)
    metric = torch.linspace(0.5, 2.0, 40, dtype=torch.float64)
    products = [metric * h.first @ h.second for h in synthetic(2000, 0.5, signal, 5.0)]
    expected = (metric * signal**2).sum()
    error = torch.stack(products).std() / math.sqrt(2000)
    assert abs(torch.stack(products).mean() - expected) < 4 * error
    assert error < 0.05 * expected


NOTHING = torch.zeros((), dtype=torch.float64)


def told(unseen, windows, metric):
    """Weights of windows as they come, before each is taken in."""
    weights = []
    for halves in windows:
        share = signal_share(halves, metric)
        weights.append(unseen.weight(share).item())
        unseen.update(share.item())
    return weights


@pytest.mark.parametrize(("deviation", "rel"), [(5.0, 0.05), (15.0, 0.25)])
def test_what_another_estimate_sees_is_weighed_as_wiener_would(deviation, rel):
    """|b|^2 / (|b|^2 + v), where noise is far below it and where it is five times as much."""
    signal, metric = randn(400, seed=9), torch.ones(400, dtype=torch.float64)
    unseen = Unseen()
    told(unseen, synthetic(100, 0.5, signal, deviation), metric)
    best = (signal @ signal / (signal @ signal + 400 * deviation**2 / 60)).item()
    assert unseen.weight(NOTHING).item() == pytest.approx(best, rel=rel)


def test_noise_is_nothing_that_another_estimate_sees():
    """Nor a window of noise that agrees with itself by chance."""
    nothing, metric = torch.zeros(40, dtype=torch.float64), torch.ones(40, dtype=torch.float64)
    unseen = Unseen()
    weights = told(unseen, synthetic(300, 0.5, nothing, 1.0), metric)
    assert max(weights) < 0.05
    assert sum(weight > 0.0 for weight in weights) < 0.05 * len(weights)
    assert unseen.weight(NOTHING + 0.9).item() < 0.05


def test_a_windows_own_share_counts_where_derivatives_were_blind_before():
    metric = torch.ones(40, dtype=torch.float64)
    unseen = Unseen()
    told(unseen, synthetic(40, 0.5, randn(40, seed=9), 1.0), metric)
    noise = synthetic(100, 0.5, torch.zeros(40, dtype=torch.float64), 1.0, seed=100)
    weights = told(unseen, noise, metric)
    assert weights[-1] < 0.2  # forgotten
    gone_on = Unseen()
    gone_on.load_state_dict(unseen.state_dict())
    for share, least in ((0.95, 0.4), (0.2, 0.0)):
        k = gone_on.weight(NOTHING + share).item()
        assert least <= k < 2.0 * share / (1.0 + share)


def test_one_estimate_less_another_is_so_in_each_half():
    ours, theirs = Halves(*randn(2, 5, seed=1), 0.4), Halves(*randn(2, 5, seed=2), 0.4)
    less = ours.less(theirs)
    assert less.part == 0.4
    torch.testing.assert_close(less.mean, ours.mean - theirs.mean)
    torch.testing.assert_close(less.first, ours.first - theirs.first)


@pytest.mark.parametrize("strength", [0.0, 0.1, 0.5])
def test_the_running_share_is_the_signals_part_of_a_halfs_square(strength):
    """|g|^2 / (|g|^2 + tr cov of a half)."""
    signal = strength * torch.ones(500, dtype=torch.float64)
    expected = strength**2 / (strength**2 + 1.0 / 30)
    running = RunningMean()
    told = []
    for halves in synthetic(120, 0.5, signal, 1.0):
        running.update(signal_share(halves, torch.ones(500)).item())
        told.append(running.value)
    assert told[-1] == pytest.approx(expected, abs=0.05)


def test_alike_halves_are_all_signal_opposite_ones_none_and_zero_is_no_number_problem():
    a, ones = randn(7), torch.ones(7)
    assert signal_share(Halves(a, a, 0.5), ones).item() == pytest.approx(1.0)
    assert signal_share(Halves(a, -a, 0.5), ones).item() == pytest.approx(-1.0)
    zero = torch.zeros(7)
    assert signal_share(Halves(zero, zero, 0.5), ones).item() == 0.0
    kappa, *_ = inverse_variance_weight(Halves(zero, zero, 0.5), Halves(zero, zero, 0.5), ones)
    assert kappa.item() == 0.5


def test_tiny_single_precision_halves_do_not_vanish():
    a = torch.full((5,), 1e-25)
    assert signal_share(Halves(a, a, 0.5), torch.ones(5)).item() == pytest.approx(1.0)


def test_a_running_mean_is_of_what_there_is_and_goes_on_from_what_was_saved():
    running = RunningMean()
    assert math.isnan(running.value)
    assert running.update(-0.5) == -0.5
    assert running.update(0.5) == pytest.approx((0.95 * -0.5 + 0.5) / (0.95 + 1.0))
    other = RunningMean()
    other.load_state_dict(running.state_dict())
    assert other.update(0.2) == running.update(0.2)


def walk(noise: float, length: float, count: int = 400) -> SlopeLeft:
    """Steps along noisy gradients of -|x|^2 / 2, each from x = 1: `length` of the way to 0."""
    slope = SlopeLeft(500, torch.device("cpu"), 0.0)
    generator = torch.Generator().manual_seed(6)

    def gradient(x):
        z = torch.randn(500, dtype=torch.float64, generator=generator)
        return -x * torch.ones(500, dtype=torch.float64) + noise * z

    for _ in range(count):
        own = gradient(1.0)
        slope.begin(own / own.norm(), own)
        promised, found = slope.compare(gradient(1.0 - length))
        slope.update(promised.item(), found.item())
    return slope


@pytest.mark.parametrize("noise", [0.0, 1.0, 3.0])
@pytest.mark.parametrize("length", [0.0, 0.5, 1.0, 1.5])
def test_the_slope_left_falls_with_noise_and_with_the_way_that_was_gone(noise, length):
    """|g|^2 / (|g|^2 + tr cov) without a step; on a parabola 1 - the part of the way to its top."""
    expected = (1.0 - length) / (1.0 + noise**2)
    assert walk(noise, length).value == pytest.approx(expected, abs=0.02)


@pytest.mark.parametrize("overshoot", [0.0, 0.2])
def test_trust_begins_at_the_least(overshoot):
    slope = SlopeLeft(3, torch.device("cpu"), overshoot)
    assert slope.trusted == LEAST
    assert math.isnan(slope.value)
    assert slope.update(1.0, 1.0) == 1.0  # what is told of one window is that window's
    assert slope.trusted == pytest.approx(0.05)
    for _ in range(200):
        slope.update(1.0, 1.0)
    assert slope.trusted == pytest.approx(1.0, abs=1e-4)


def test_trust_begins_at_the_least_and_does_not_fall_below():
    slope = SlopeLeft(3, torch.device("cpu"), 0.0)
    assert slope.trusted == LEAST
    assert math.isnan(slope.update(0.0, 5.0))  # before the first step nothing is promised
    assert slope.update(2.0, 40.0) == pytest.approx(1.0)  # one window counts as 1 at most
    assert slope.update(2.0, -40.0) == pytest.approx((0.95 - 1.0) / (0.95 + 1.0))
    assert slope.trusted == LEAST
    slope.begin(randn(3), randn(3, seed=1))
    other = SlopeLeft(3, torch.device("cpu"), 0.0)
    other.load_state_dict(slope.state_dict())
    given = randn(3, seed=2)
    assert other.compare(given) == slope.compare(given)
    assert other.update(1.0, 0.5) == slope.update(1.0, 0.5)


@pytest.mark.parametrize(("noise", "overshoot"), [(0.0, 0.0), (0.0, 0.2), (1.0, 0.0), (1.0, 0.2)])
def test_long_steps_end_as_far_beyond_the_best_point_as_they_may(noise, overshoot):
    """The longest is 20 times the way: t = 20 trust, of which 1 / (1 + noise^2) - t is left."""
    share = 1.0 / (1.0 + noise**2)
    length, slope = 0.0, SlopeLeft(1, torch.device("cpu"), overshoot)
    for _ in range(300):
        slope.update(1.0, share - length)
        length = 0.9 * length + 0.1 * 20.0 * slope.trusted
    reached = 20.0 * (share + overshoot) / (1.0 + overshoot + 20.0)
    assert length == pytest.approx(reached, rel=1e-3)
    assert -overshoot < slope.value < 0.1


def test_a_gradient_is_small_beside_those_of_an_episode():
    alone = RecentSize(1.0)
    assert [alone.part(x) for x in (3.0, 1e-9, 0.0, 7.0)] == [1.0] * 4
    recent, other = RecentSize(10.0), RecentSize(10.0)
    assert [recent.part(x) for x in (2.0, 2.0)] == pytest.approx([1.0, 1.0])
    assert recent.part(1e-3) == pytest.approx(1e-3 / math.sqrt((4.0 + 4.0 + 1e-6) / 3.0))
    assert recent.part(5.0) == 1.0  # never longer than the radius
    other.load_state_dict(recent.state_dict())
    parts = [recent.part(1e-3) for _ in range(10)]
    assert max(parts[:9]) < 1e-3
    assert parts[9] == pytest.approx(1.0)  # the last ten windows have no other
    assert [other.part(1e-3) for _ in range(10)] == parts


def test_the_mixture_has_the_least_variance():
    signal, metric = randn(200, seed=3), torch.ones(200)
    ours = list(synthetic(30, 0.5, signal, 1.0))
    theirs = list(synthetic(30, 0.5, signal, 2.0, seed=1000))
    kappas, errors = [], {-0.1: 0.0, 0.0: 0.0, 0.1: 0.0}
    for one, other in zip(ours, theirs, strict=True):
        kappa, own, foreign = inverse_variance_weight(one, other, metric)
        assert kappa.item() == pytest.approx((own / (own + foreign)).item())
        kappas.append(kappa.item())
        for shift in errors:
            mixed = one.mixed(other, kappa + shift)
            errors[shift] += (mixed.mean - signal).square().sum().item()
    assert sum(kappas) / 30 == pytest.approx(1 / 5, abs=0.02)  # 1 / (1 + 2^2)
    assert errors[0.0] < min(errors[-0.1], errors[0.1])


def test_mixed_halves_by_hand():
    one = Halves(torch.tensor([1.0]), torch.tensor([3.0]), 0.25)
    other = Halves(torch.tensor([5.0]), torch.tensor([-1.0]), 0.25)
    mixed = one.mixed(other, torch.tensor(0.5, dtype=torch.float64))
    assert (mixed.first.item(), mixed.second.item()) == (3.0, 1.0)
    assert mixed.mean.item() == pytest.approx(0.25 * 3.0 + 0.75 * 1.0)


@pytest.mark.parametrize("size", [1e3, 1e100])
def test_an_outlier_of_any_size_moves_the_mean_no_further(size):
    samples = randn(101, 2)
    samples = samples / samples.norm(dim=1, keepdim=True)
    clean = clipped_samples(samples, 10.0)
    assert torch.equal(clean[0], samples)
    assert clean[1].item() == 0.0
    samples[7] *= size
    clipped, share = clipped_samples(samples, 10.0)
    assert share.item() == pytest.approx(1 / 101)
    assert clipped[7].norm().item() == pytest.approx(10.0)
    assert torch.equal(clipped[8:], samples[8:])


def test_samples_most_of_which_are_zero_are_left_alone():
    samples = torch.zeros(9, 2)
    samples[0] = 5.0
    assert torch.equal(clipped_samples(samples, 10.0)[0], samples)
