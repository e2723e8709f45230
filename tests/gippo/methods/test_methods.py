import pytest
import torch

from gippo.experience.advantages import normalized
from gippo.learner import Learner
from gippo.methods import config_classes, method_of, methods
from gippo.methods.gippo import GIPPOConfig
from gippo.methods.lr import LRConfig
from gippo.methods.rp import RPConfig
from gippo.networks.perceptron import log_prob
from gippo.updates.surrogate import PPOConfig
from tests.gippo.test_learner import small_config
from tests.gippo.toy import Particle

GAMMA = 0.99
ENDS = {(2, 0): "terminated", (3, 1): "truncated"}


class Reconstruction:
    """A learner's next update's window, recomputed with the whole graph from the weights on."""

    def __init__(self, method_config, gae_lambda=0.95):
        self.learner = Learner(
            Particle(3, ends=ENDS), small_config(), method_config, num_epochs=10, seed=2
        )
        learner = self.learner
        generator = torch.Generator().manual_seed(2)
        eps = torch.randn(6, 3, 1, dtype=torch.float64, generator=generator)
        env = Particle(3, ends=ENDS)
        obs, _ = env.reset(seed=2)
        value = learner.critic.target.forward
        deltas, done, values, log_probs = [], [], [], []
        for noise in eps:  # in the first window nothing is normalised but by sqrt(1 + 1e-5)
            seen = obs / (1 + 1e-5) ** 0.5
            mu, log_sigma = learner.actor.forward(seen)
            action = mu + log_sigma.exp() * noise
            log_probs.append(log_prob(action.detach(), *learner.actor.forward(seen.detach())))
            obs, reward, terminated, truncated, info = env.step(torch.tanh(action))
            reached = value(info["final_obs"] / (1 + 1e-5) ** 0.5)
            values.append(value(seen))
            deltas.append(reward + GAMMA * reached * ~terminated - values[-1])
            done.append(terminated | truncated)
        carry, advantages = torch.zeros(3, dtype=torch.float64), []
        for delta, end in zip(reversed(deltas), reversed(done), strict=True):
            carry = delta + GAMMA * gae_lambda * carry * ~end
            advantages.insert(0, carry)
        self.advantage, self.value = torch.stack(advantages), torch.stack(values)
        self.log_prob, self.done = torch.stack(log_probs), torch.stack(done)

    def applied_gradient(self):
        """What the update handed to the optimiser, before clipping."""
        seen = []
        optimizer = self.learner.method._step._optimizer
        step_along = optimizer.step_along

        def spy(gradient, rate):
            seen.append(gradient.clone())
            step_along(gradient, rate)

        optimizer.step_along = spy
        self.metrics = self.learner.train_epoch()
        (gradient,) = seen
        return gradient

    def gradient_of(self, loss):
        return self.learner._parameters.gradient(loss)


@pytest.mark.parametrize("gae_lambda", [0.95, 1.0])
def test_rp_descends_shacs_loss(gae_lambda):
    case = Reconstruction(RPConfig(gae_lambda=gae_lambda), gae_lambda)
    starts = torch.ones(6, 3)
    starts[1:] = case.done[:-1]
    objective = ((case.advantage + case.value) * starts).sum() / starts.sum()
    expected = case.gradient_of(-objective)
    torch.testing.assert_close(case.applied_gradient(), expected, rtol=1e-8, atol=1e-11)
    assert case.metrics["actor_loss"] == pytest.approx(-objective.item())


def test_lr_descends_log_probabilities_weighted_by_normalised_advantages():
    case = Reconstruction(LRConfig())
    loss = -(normalized(case.advantage.detach(), torch.float64) * case.log_prob).mean()
    expected = case.gradient_of(loss)
    torch.testing.assert_close(case.applied_gradient(), expected, rtol=1e-8, atol=1e-11)
    assert case.metrics["actor_loss"] == pytest.approx(loss.item())


def test_every_method_is_found_with_its_config():
    assert set(methods()) >= {"lr", "rp", "ppo", "lr_rp", "pe", "gippo"}
    assert config_classes()["gippo"] is GIPPOConfig
    for name, config_class in config_classes().items():
        assert method_of(config_class()).name == name


def test_an_unknown_config_is_refused():
    with pytest.raises(ValueError, match=r"method_config: a dict given, one of .*PPOConfig"):
        method_of({})


def test_ppo_needs_no_gradient_and_the_others_say_which():
    def wanted(config):
        learner = Learner(Particle(2), small_config(), config, num_epochs=5, seed=0)
        return learner.method.gradient_lambda

    assert wanted(PPOConfig()) is None
    assert wanted(LRConfig()) is None
    assert wanted(RPConfig(gae_lambda=1.0)) == 1.0
    assert wanted(GIPPOConfig()) == 0.95
