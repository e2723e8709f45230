"""The number of threads is the user's choice and changes no result."""

import pytest
import torch

import warp_envs
from warp_envs.bridge import threads


@pytest.fixture(autouse=True)
def restored():
    before = list(threads._chosen)
    yield
    threads._chosen[:] = before


def test_torch_decides_unless_told():
    threads._chosen.clear()
    assert warp_envs.get_num_threads() == torch.get_num_threads()
    warp_envs.set_num_threads(3)
    assert warp_envs.get_num_threads() == 3


@pytest.mark.parametrize("wrong", [0, -1, 1.5, True, "2"])
def test_wrong_numbers_are_refused(wrong):
    with pytest.raises(ValueError, match=r"num_threads: .* given, an integer of at least 1"):
        warp_envs.set_num_threads(wrong)


@pytest.mark.parametrize(("name", "options"), [("hopper", {}), ("pace_car", {"num_vehicles": 10})])
def test_any_number_of_threads_computes_the_same(name, options):
    def run(num_threads):
        warp_envs.set_num_threads(num_threads)
        env = warp_envs.make(name, num_envs=150, seed=1, **options)
        assert num_threads == 1 or env.num_blocks > 1
        actions = torch.sin(torch.arange(8 * 150 * env.num_actions, dtype=torch.float32))
        actions = actions.reshape(8, 150, env.num_actions).requires_grad_()
        rewards = torch.stack([env.step(action)[1] for action in actions])
        return rewards.detach(), *torch.autograd.grad(rewards.sum(), actions), env.observe()

    alone = run(1)
    for num_threads in (2, 3):
        for one, many in zip(alone, run(num_threads), strict=True):
            assert torch.equal(one, many)
