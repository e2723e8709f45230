from dataclasses import dataclass

import pytest
import torch

from gippo.experience.ends import KEPT, TerminalStates
from gippo.networks.normalization import Normalizer

HORIZON, NUM_ENVS = 5, 64


@dataclass
class FakeRollout:
    """What `TerminalStates` reads of a rollout: states that number themselves."""

    terminated: torch.Tensor
    diverged: torch.Tensor
    final_obs: torch.Tensor
    privileged: torch.Tensor


def rollout(ended, start=0, diverged=(), num_envs=NUM_ENVS):
    """One whose states are (number, -number), told 10 number, counted step by step."""
    shape = (HORIZON, num_envs)
    number = start + torch.arange(HORIZON * num_envs, dtype=torch.float64).view(shape)
    flags = [torch.zeros(shape, dtype=torch.bool) for _ in range(2)]
    for flag, places in zip(flags, ((*ended, *diverged), diverged), strict=True):
        flag.view(-1)[list(places)] = True
    return FakeRollout(*flags, torch.stack([number, -number], -1), 10.0 * number.unsqueeze(-1))


def states(count=KEPT, **options):
    ends = TerminalStates(3, torch.float64, "cpu", seed=0, **options)
    ends.any = count > 0
    return ends


def drawn(ends, share=0.2, num_envs=NUM_ENVS, epoch=0):
    """What comes beside a window of ones with targets of 1, of N(2, 3^2) observations."""
    obs = torch.ones((HORIZON, num_envs, 3), dtype=torch.float64)
    statistics = torch.tensor([2.0, 2.0], dtype=torch.float64), torch.tensor([3.0, 3.0])
    normalizer = Normalizer(*(x.double() for x in statistics))
    joined, target = ends.join(obs, obs[..., 0], share, normalizer, epoch)
    assert torch.equal(joined[:, :num_envs], obs)
    assert torch.equal(target[:, :num_envs], obs[..., 0])
    return joined[:, num_envs:], target[:, num_envs:]


def test_states_in_which_episodes_terminated_come_with_the_value_0():
    ends = states()
    ends.take(rollout([3, 70], diverged=[4]))
    assert ends.count == 2
    obs, target = drawn(ends)
    assert target.shape == (HORIZON, 16)  # a fifth of 64 + 16
    assert torch.equal(target, torch.zeros_like(target))
    number = 3.0 * obs[..., 0] + 2.0
    assert set(number.round().flatten().tolist()) == {3.0, 70.0}
    torch.testing.assert_close(3.0 * obs[..., 1] + 2.0, -number)
    torch.testing.assert_close(obs[..., 2], 10.0 * number)  # told as it is


def test_the_last_are_kept():
    ends = states()
    for start in range(0, 3 * 320, 320):
        ends.take(rollout(range(0, 320, 2), start))
    assert ends.count == KEPT
    obs, _ = drawn(ends, share=0.5)
    least = (3.0 * obs[..., 0] + 2.0).min()
    assert least >= 3 * 320 - 2 * KEPT


def test_of_few_environments_one_more_has_its_share_of_them():
    """One copy: an end in a fifth of the draws, a tenth of all, its own sample otherwise."""
    ends = states()
    ends.take(rollout([2], num_envs=1))
    draws = torch.cat([drawn(ends, share=0.1, num_envs=1, epoch=e)[1] for e in range(400)])
    assert draws.shape == (2000, 1)
    assert set(draws.flatten().tolist()) == {0.0, 1.0}
    assert (draws == 0.0).double().mean() == pytest.approx(0.2, abs=0.03)


def test_without_any_a_window_stays_as_it_is():
    obs, target = drawn(states(count=0))
    assert obs.numel() == target.numel() == 0


def test_its_state_is_of_one_shape_and_of_no_state_that_did_not_end():
    ends = states()
    fresh = ends.state_dict()["states"]
    ends.take(rollout([3, 70], start=5))
    kept = ends.state_dict()["states"]
    assert kept.shape == fresh.shape == (KEPT, 3)
    assert torch.equal(kept[:-2], fresh[:-2]) and not fresh.any()
    assert kept[-2:, 0].tolist() == [8.0, 75.0]


@pytest.mark.parametrize("count", [-1, KEPT + 1])
def test_a_state_with_more_than_are_kept_is_refused(count):
    ends = states()
    with pytest.raises(ValueError, match=f"ends.count: {count} given"):
        ends.load_state_dict({**ends.state_dict(), "count": count})


def test_a_copy_goes_on_with_the_same_draws():
    ends, other = states(), states()
    ends.take(rollout([3, 70, 200]))
    other.load_state_dict(ends.state_dict())
    for one in (ends, other):
        one.take(rollout([9], start=1000))
    assert torch.equal(drawn(ends)[0], drawn(other)[0])
    assert not torch.equal(drawn(ends, epoch=0)[0], drawn(ends, epoch=1)[0])
