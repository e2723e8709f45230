"""A small actor with a window of made-up samples."""

import torch

from gippo.networks.adam import ParameterVector
from gippo.networks.perceptron import GaussianActor, log_prob
from gippo.updates.window import Context, Samples

NUM_OBS, NUM_ACTIONS = 3, 2


def make_context(seed=0, num_epochs=100, native=True):
    generator = torch.Generator().manual_seed(seed)
    actor = GaussianActor(NUM_OBS, [16], NUM_ACTIONS, generator=generator, dtype=torch.float64)
    return Context(actor, ParameterVector(actor, native=native), num_epochs, 0.95, seed)


def make_samples(actor, batch=32, seed=1):
    """Samples of the actor's own policy, with random advantages and gradients."""
    generator = torch.Generator().manual_seed(seed)

    def randn(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    obs, eps = randn(batch, NUM_OBS), randn(batch, NUM_ACTIONS)
    with torch.no_grad():
        mu, log_sigma = actor.forward(obs)
    action = mu + torch.exp(log_sigma) * eps
    return Samples(
        obs=obs,
        eps=eps,
        action=action,
        mu=mu,
        log_sigma=log_sigma,
        log_prob=log_prob(action, mu, log_sigma),
        advantage=randn(batch),
        action_gradient=randn(batch, NUM_ACTIONS),
    )
