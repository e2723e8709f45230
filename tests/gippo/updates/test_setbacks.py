import math

import pytest
import torch

from gippo.updates.setbacks import LEAST, PROOF, SLACK, Setbacks


def alarms(gains, rises=None, num_envs=1024):
    """The windows after the first at which there is one."""
    setbacks = Setbacks(3.0)
    assert not setbacks.update(math.nan, math.nan, 1.0, num_envs)
    rises = gains if rises is None else rises
    pairs = enumerate(zip(gains, rises, strict=True))
    return [k for k, (gain, rise) in pairs if setbacks.update(gain, rise, 1.0, num_envs)]


@pytest.mark.parametrize("loss", [0.2, 0.5, 1.0, 50.0])
def test_a_steady_loss_is_told_when_its_sum_beyond_the_slack_is_the_limit(loss):
    beyond = min(loss, 1.0) - SLACK
    (first, *_) = alarms([0.3] * 5 + [-loss] * 100)
    assert first == 5 + math.floor(3.0 / beyond)


def test_gains_are_not_saved_up_and_small_losses_are_none():
    assert alarms([1.0] * 1000 + [-1.0] * 4) == [1003]
    assert alarms([-0.9 * SLACK] * 10_000) == []


def test_neither_values_nor_windows_alone_give_an_alarm():
    """Values sink at the start, to what a policy is worth; windows lose and win by chance."""
    losses, nothing = [-1.0] * 100, [0.0] * 100
    assert alarms(nothing, losses) == []
    assert alarms(losses, nothing) == []
    enough = math.floor(LEAST / (1.0 - SLACK)) + 1
    assert alarms([0.0] * (100 - enough) + losses[:enough], losses) == [99]


@pytest.mark.parametrize("num_envs", [1, 4, 16, 64, 1024])
def test_noise_of_a_window_gives_no_alarm(num_envs):
    """Each environment's mean has the standard deviation of a sample, at worst."""
    generator = torch.Generator().manual_seed(3)
    errors = torch.randn(2, 4000, dtype=torch.float64, generator=generator) / num_envs**0.5
    assert alarms((errors[0] - errors[1]).tolist(), num_envs=num_envs) == []


@pytest.mark.parametrize("num_envs", [1, 4, 16, 64])
def test_noise_gives_none_while_values_sink(num_envs):
    """As in the first windows of all, to what the policy is worth."""
    generator = torch.Generator().manual_seed(3)
    errors = torch.randn(2, 1000, dtype=torch.float64, generator=generator) / num_envs**0.5
    gains = errors[0] - errors[1]
    assert alarms(gains.tolist(), (gains - 1.0).tolist(), num_envs) == []


@pytest.mark.parametrize("num_envs", [16, 64])
def test_a_loss_is_found_in_noise(num_envs):
    generator = torch.Generator().manual_seed(3)
    errors = torch.randn(2, 200, dtype=torch.float64, generator=generator) / num_envs**0.5
    gains = errors[0] - errors[1] - 1.0 * (torch.arange(200) >= 100)
    (first, *_) = alarms(gains.tolist(), num_envs=num_envs)
    assert 103 <= first <= 120


def test_a_policy_is_proven_once_windows_have_come_and_none_is_worse():
    """Not while values are below those of its window; an alarm ends its trial."""
    setbacks = Setbacks(3.0)

    def proven(gains):
        told = []
        for gain in gains:
            setbacks.update(gain, gain, 1.0, 1024)
            told.append(setbacks.proven)
        return [k for k, yes in enumerate(told) if yes]

    assert proven([math.nan] * 30) == []  # nothing is known of them
    assert proven([0.1] * 3 * PROOF) == [PROOF - 1, 2 * PROOF - 1, 3 * PROOF - 1]
    lost = [0.0] * (PROOF - 1) + [-1.0, *[0.0] * 20]
    back = PROOF - 1 + math.ceil((1.0 - SLACK) / SLACK)  # a loss is forgiven by the slack
    assert proven(lost)[0] == back
    setbacks = Setbacks(3.0)
    assert proven([-1.0] * 4 + [0.0] * PROOF) == [3 + PROOF]


def test_losses_weigh_in_units_of_the_best_of_late():
    """Where what is lost makes advantages vary more."""
    setbacks = Setbacks(3.0)
    assert not setbacks.update(math.nan, math.nan, 0.1, 64)  # the first window's
    assert not setbacks.update(0.1, 0.1, 0.2, 64)
    told = [setbacks.update(-0.2, -0.2, 40.0, 64) for _ in range(4)]
    assert told == [False, False, False, True]
    assert setbacks.values == setbacks.windows == 0.0


def test_advantages_that_are_all_alike_are_no_number_problem():
    setbacks = Setbacks(3.0)
    for gain in (math.nan, 0.0, -0.0, 1e-300):
        assert not setbacks.update(gain, gain, 0.0, 64)
        assert setbacks.values == 0.0


def test_a_window_of_which_nothing_is_known_changes_nothing():
    unknown = [(math.nan, -1.0), (-1.0, math.nan), (math.inf, -math.inf)]
    setbacks = Setbacks(3.0)
    assert not setbacks.update(math.nan, math.nan, 1.0, 64)
    told = [setbacks.update(*gains, 1.0, 64) for gains in [(-1.0, -1.0), *unknown] * 4]
    assert [k for k, alarm in enumerate(told) if alarm] == [12]


def test_what_was_saved_goes_on():
    setbacks, other = Setbacks(3.0), Setbacks(3.0)
    for gain in (0.3, -0.5, -0.5):
        setbacks.update(gain, 0.8 * gain, 0.5, 1024)
    assert setbacks.windows == pytest.approx(2.0 * (SLACK - 1.0))
    assert setbacks.values == pytest.approx(2.0 * (SLACK - 0.8))
    other.load_state_dict(setbacks.state_dict())
    told = []
    for each in (setbacks, other):
        gains = [-0.2] * 8 + [0.2] * PROOF
        told.append([(each.update(gain, gain, 0.5, 64), each.proven) for gain in gains])
    assert told[0] == told[1]
    assert any(alarm for alarm, _ in told[0])
    assert any(proven for _, proven in told[0])
