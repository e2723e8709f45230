import math
from types import SimpleNamespace

import pytest
import torch

from gippo.experience.statistics import EpisodeStatistics, SmoothedMean


def window(reward, done):
    return SimpleNamespace(
        reward=torch.tensor(reward, dtype=torch.float32), done=torch.tensor(done).bool()
    )


def test_new_episodes_replace_as_many_old_ones_of_a_hundred():
    mean = SmoothedMean()
    mean.update(torch.full((64,), 1.0))
    assert mean.mean == 1.0, "the start is the mean of what there is"
    mean.update(torch.full((64,), 2.0))
    assert mean.mean == pytest.approx((36 * 1.0 + 64 * 2.0) / 100)
    mean.update(torch.full((10,), 5.0))
    assert mean.mean == pytest.approx((90 * 1.64 + 10 * 5.0) / 100)


def test_a_start_of_few_episodes_is_their_mean():
    mean = SmoothedMean()
    mean.update(torch.tensor([1.0, 2.0]))
    mean.update(torch.tensor([6.0]))
    assert mean.mean == pytest.approx(3.0)


def test_more_than_a_hundred_new_ones_are_all_that_counts():
    mean = SmoothedMean()
    mean.update(torch.zeros(50))
    mean.update(torch.full((256,), 3.0))
    assert mean.mean == 3.0


def test_returns_run_over_windows_and_end_with_episodes():
    statistics = EpisodeStatistics(2)
    assert math.isnan(statistics.metrics()["episode_return"])
    statistics.update(window([[1.0, 10.0], [2.0, 20.0]], [[0, 0], [0, 1]]))
    metrics = statistics.metrics()
    assert (metrics["episode_return"], metrics["episode_length"]) == (30.0, 2.0)
    statistics.update(window([[3.0, 40.0]], [[1, 1]]))
    metrics = statistics.metrics()
    assert metrics["episode_return"] == pytest.approx((30.0 + 6.0 + 40.0) / 3)
    assert metrics["episode_length"] == pytest.approx((2 + 3 + 1) / 3)
    assert metrics["num_episodes"] == 3.0
    assert metrics["best_return"] == 30.0


def test_an_episode_of_unknown_return_is_counted_and_spoils_no_mean():
    statistics = EpisodeStatistics(2)
    statistics.update(window([[1.0, math.nan], [2.0, 1.0]], [[0, 0], [1, 1]]))
    metrics = statistics.metrics()
    assert (metrics["episode_return"], metrics["num_episodes"]) == (3.0, 2.0)
    statistics.update(window([[4.0, 5.0]], [[0, 1]]))
    assert statistics.metrics()["episode_return"] == 4.0


def test_a_saved_state_continues():
    one, other = EpisodeStatistics(2), EpisodeStatistics(2)
    one.update(window([[1.0, 10.0], [2.0, 20.0]], [[0, 0], [0, 1]]))
    other.load_state_dict(one.state_dict())
    for each in (one, other):
        each.update(window([[3.0, 40.0]], [[1, 1]]))
    assert one.metrics() == other.metrics()


def test_an_episode_that_began_half_way_is_in_no_return():
    statistics = EpisodeStatistics(2)
    statistics.leave_out(torch.tensor([False, True]))
    statistics.update(window([[1.0, 10.0], [2.0, 20.0]], [[0, 1], [1, 0]]))
    metrics = statistics.metrics()
    assert (metrics["episode_return"], metrics["num_episodes"]) == (3.0, 2.0)
    again = EpisodeStatistics(2)
    again.load_state_dict(statistics.state_dict())
    for each in (statistics, again):
        each.update(window([[0.0, 5.0]], [[0, 1]]))
        assert each.metrics()["episode_return"] == pytest.approx((3.0 + 25.0) / 2)
