import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gippo.networks.normalization import RunningStatistics, identity


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(1, 9), min_size=1, max_size=5), st.integers(0, 99))
def test_statistics_do_not_depend_on_how_the_samples_are_parted(sizes, seed):
    generator = torch.Generator().manual_seed(seed)
    samples = 3.0 + 2.0 * torch.randn(sum(sizes), 4, generator=generator, dtype=torch.float64)
    parted, whole = RunningStatistics((4,), "cpu"), RunningStatistics((4,), "cpu")
    for part in samples.split(sizes):
        parted.update(part)
    whole.update(samples)
    torch.testing.assert_close(parted.mean, whole.mean)
    torch.testing.assert_close(parted.variance, whole.variance)


def test_the_start_fades_and_the_moments_are_the_samples():
    samples = torch.tensor([[1.0], [2.0], [6.0]])
    statistics = RunningStatistics((1,), "cpu")
    fresh = statistics.frozen(torch.float32)
    torch.testing.assert_close(fresh.normalize(samples), samples / (1 + 1e-5) ** 0.5)
    statistics.update(samples)
    torch.testing.assert_close(statistics.mean.item(), 3.0, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(statistics.variance.item(), 14 / 3, rtol=1e-3, atol=1e-3)


def test_a_frozen_copy_does_not_follow():
    statistics = RunningStatistics((1,), "cpu")
    frozen = statistics.frozen(torch.float64)
    x = torch.ones(1, 1, dtype=torch.float64)
    before = frozen.normalize(x)
    statistics.update(torch.full((5, 1), 7.0))
    assert torch.equal(before, frozen.normalize(x))
    torch.testing.assert_close(frozen.denormalize(before), x)
    assert torch.equal(identity(torch.float64, "cpu").normalize(x), x)


def test_a_saved_state_continues_exactly():
    one, other = RunningStatistics((2,), "cpu"), RunningStatistics((2,), "cpu")
    one.update(torch.rand(5, 2))
    other.load_state_dict(one.state_dict())
    more = torch.rand(3, 2)
    one.update(more)
    other.update(more)
    assert torch.equal(one.variance, other.variance)
    assert torch.equal(one.mean, other.mean)
