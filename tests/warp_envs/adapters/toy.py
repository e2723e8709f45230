"""Springs whose first ends by itself and whose others run into the time limit, and their twin."""

import torch

from tests.warp_envs.toy import Spring

STEPS = 4


def springs(num_envs=3):
    """Two equal environments; 0 is about to pass the bound, the rest stay within it."""
    pair = [Spring(num_envs=num_envs, max_episode_steps=STEPS, seed=7) for _ in range(2)]
    q = torch.full((num_envs, 1), 0.2)
    q[0] = 1.49
    qd = torch.zeros(num_envs, 1)
    qd[0] = 3.0
    for env in pair:
        env.set_state({"q": q, "qd": qd})
    return pair


def actions(num_envs=3):
    """(STEPS, num_envs, 1), the first of them beyond the limits."""
    generator = torch.Generator().manual_seed(0)
    drawn = 2.0 * torch.rand(STEPS, num_envs, 1, generator=generator) - 1.0
    drawn[0] = 3.0
    return drawn
