"""SHAC, AHAC and SAPO against their equations, written out here a second time."""

import math

import pytest
import torch

import warp_envs
from gippo.experience.critic import CriticConfig
from gippo.learner import Learner, LearnerConfig
from gippo.methods.ahac import AHACConfig, HorizonControl
from gippo.methods.sapo import SAPOConfig, Temperature, TemperatureConfig
from gippo.methods.shac import SHACConfig
from gippo.networks.perceptron import ActorConfig
from gippo.runs.policy import Policy
from tests.gippo.toy import Particle
from warp_envs.checks import ArgumentError

GAMMA, LAMBDA, HORIZON, SEED = 0.99, 0.95, 6, 2
ENDS = {(2, 0): "terminated", (3, 1): "truncated", (5, 2): "terminated"}
SILU = {"activation": "silu", "layer_norm": "before"}
METHODS = {
    "shac": (
        SHACConfig(),
        ActorConfig([8], log_sigma="state_independent"),
        CriticConfig([8], target_rate=0.8),
    ),
    "ahac": (
        AHACConfig(min_horizon=HORIZON, max_horizon=9),
        ActorConfig([8], log_sigma="state_independent"),
        CriticConfig([8], count=2, target=False, iterations=64, tolerance=0.2, max_grad_norm=None),
    ),
    "sapo": (
        SAPOConfig(),
        ActorConfig([8], init_gain=1.0, log_sigma_bounds=[-5.0, 2.0], **SILU),
        CriticConfig(
            [8],
            count=2,
            actor_combine="mean",
            target=False,
            weight_decay=0.01,
            init_gain=1.0,
            **SILU,
        ),
    ),
}


def make_learner(name, env=None, **options):
    method, actor, critic = METHODS[name]
    config = LearnerConfig(horizon=HORIZON, actor=actor, critic=critic, **options)
    env = Particle(3, ends=ENDS) if env is None else env
    return Learner(env, config, method, num_epochs=10, seed=SEED)


class Window:
    """A learner's first window, with the whole graph from the weights on."""

    def __init__(self, learner, env):
        generator = torch.Generator().manual_seed(SEED)
        shape = (HORIZON, env.num_envs, learner.actor.num_actions)
        eps = torch.randn(shape, dtype=torch.float64, generator=generator)
        other = torch.randn(shape, dtype=torch.float64, generator=generator)
        obs, _ = env.reset(seed=SEED)
        env.detach()
        obs = obs.detach()
        rewards, reached, terminated, done, entropies = [], [], [], [], []
        for noise, fresh in zip(eps, other, strict=True):
            mu, log_sigma = learner.actor.forward(self.seen(obs))
            action = mu + log_sigma.exp() * noise
            squash = torch.distributions.TanhTransform(cache_size=1)
            normal = torch.distributions.Normal(mu, log_sigma.exp())
            squashed = torch.distributions.TransformedDistribution(normal, [squash])
            entropies.append(-squashed.log_prob(squash(mu + log_sigma.exp() * fresh)).sum(-1))
            obs, reward, ended, late, info = env.step(torch.tanh(action))
            rewards.append(reward)
            reached.append(info["final_obs"])
            terminated.append(ended)
            done.append(ended | late)
        self.reward, self.entropy = torch.stack(rewards), torch.stack(entropies)
        self.reached = torch.stack(reached)
        self.terminated, self.done = torch.stack(terminated), torch.stack(done)
        self.network = learner.critic.target.mlp

    def seen(self, obs):
        """As the first window's policy does."""
        return obs / (1 + 1e-5) ** 0.5

    def value(self, how):
        values = self.network.forward(self.seen(self.reached))
        return values.min(-1).values if how == "min" else values.mean(-1)

    def objective(self, how, alpha=0.0):
        """1/(N H) sum over sub-trajectories of sum_k gamma^k (r_k + alpha h_k) + gamma^T V(s_T)."""
        target = self.target_entropy
        soft = self.reward + alpha * (self.entropy + target) / (2.0 * target)
        value, total = self.value(how), torch.zeros((), dtype=torch.float64)
        for env in range(self.reward.shape[1]):
            weight = 1.0
            for t in range(HORIZON):
                total = total + weight * soft[t, env]
                weight *= GAMMA
                if self.done[t, env] or t == HORIZON - 1:
                    if not self.terminated[t, env]:
                        total = total + weight * value[t, env]
                    weight = 1.0
        return total / self.reward.numel()

    target_entropy = 0.5
    """|H_target| of one action."""

    def returns(self, how, alpha=0.0):
        """y_t = r_t + gamma ((1 - lambda) V(s_{t+1}) + lambda y_{t+1}) (the critic's targets)."""
        soft = self.reward + alpha * (self.entropy + self.target_entropy) / (
            2.0 * self.target_entropy
        )
        value = self.value(how) * ~self.terminated
        returns = torch.zeros_like(soft)
        for t in reversed(range(HORIZON)):
            if t == HORIZON - 1:
                returns[t] = soft[t] + GAMMA * value[t]
                continue
            goes_on = (1 - LAMBDA) * value[t] + LAMBDA * returns[t + 1]
            returns[t] = soft[t] + GAMMA * torch.where(self.done[t], value[t], goes_on)
        return returns


def spied(learner):
    """An epoch's metrics, what was handed to the actor's optimiser, and the critic's targets."""
    step = learner.method._step._step._optimizer
    step_along, fit = step.step_along, learner.critic.fit
    gradients, targets = [], []

    def spy_step(gradient, rate):
        gradients.append(gradient.clone())
        step_along(gradient, rate)

    def spy_fit(obs, target, epoch):
        targets.append(target.clone())
        return fit(obs, target, epoch)

    step.step_along, learner.critic.fit = spy_step, spy_fit
    metrics = learner.train_epoch()
    (gradient,), (target,) = gradients, targets
    return metrics, gradient, target


def alphas(window):
    """SAPO's temperature before the window, and after by torch's AdamW."""
    log_alpha = torch.zeros((), dtype=torch.float64, requires_grad=True)
    adam = torch.optim.AdamW([log_alpha], lr=5e-3, betas=(0.7, 0.95), weight_decay=0.01)
    target = -window.target_entropy
    loss = log_alpha.exp() * abs(target) * (window.entropy.detach().mean() - target)
    loss.backward()
    torch.nn.utils.clip_grad_norm_([log_alpha], 0.5)
    adam.step()
    return 1.0, log_alpha.exp().item()


@pytest.mark.parametrize("name", METHODS)
def test_the_actor_descends_the_objective_and_the_critic_fits_its_returns(name):
    learner = make_learner(name)
    window = Window(learner, Particle(3, ends=ENDS))
    before, after = alphas(window) if name == "sapo" else (0.0, 0.0)
    objective = window.objective("mean" if name == "sapo" else "min", before)
    returns = window.returns("min", after).detach()
    expected = learner._parameters.gradient(-objective)
    metrics, gradient, target = spied(learner)
    torch.testing.assert_close(gradient, expected, rtol=1e-8, atol=1e-11)
    torch.testing.assert_close(target, returns, rtol=1e-10, atol=1e-11)
    assert metrics["actor_loss"] == pytest.approx(-objective.item(), rel=1e-10)
    if name == "sapo":
        assert metrics["entropy"] == pytest.approx(window.entropy.mean().item(), rel=1e-10)
        assert metrics["temperature"] == 1.0
        assert math.exp(learner.method._temperature.log_alpha) == pytest.approx(after, rel=1e-12)


@pytest.mark.parametrize("name", METHODS)
def test_the_gradient_is_the_difference_quotient_through_cartpole(name):
    def env():
        return warp_envs.make("cartpole", num_envs=2, device="cpu", seed=SEED, dtype=torch.float64)

    learner = make_learner(name, env())
    vector = learner._parameters.vector
    generator = torch.Generator().manual_seed(5)
    direction = torch.randn(vector.shape, dtype=torch.float64, generator=generator)
    how, alpha = ("mean", 1.0) if name == "sapo" else ("min", 0.0)
    start, moved = vector.clone(), env()
    sides = []
    with torch.no_grad():
        for sign in (1.0, -1.0):
            vector.copy_(start + sign * 1e-6 * direction)
            sides.append(Window(learner, moved).objective(how, alpha).item())
        vector.copy_(start)
    _, gradient, _ = spied(learner)
    quotient = (sides[0] - sides[1]) / 2e-6
    assert -(gradient @ direction).item() == pytest.approx(quotient, rel=1e-6)


@pytest.mark.parametrize("name", METHODS)
def test_a_policy_by_itself_acts_as_the_learner(name):
    learner = make_learner(name, Particle(3, num_actions=2))
    learner.train_epoch()
    policy = Policy(learner.config, learner.state_dict())
    assert policy.num_actions == 2
    obs = torch.randn(5, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    assert torch.equal(policy(obs), learner.act(obs, deterministic=True))


def test_the_length_follows_the_window_s_return_and_the_multiplier():
    config = AHACConfig(horizon_rate=2e-3, final_horizon_rate=1e-5, multiplier_rate=1e-4)
    control = HorizonControl(config, num_epochs=100)
    length, multiplier = 8.0, 0.0
    for epoch, objective in enumerate([-500.0, 4000.0, 9000.0, 200_000.0, 60_000.0]):
        assert control.steps == round(length)
        control.adjust(objective, epoch)
        rate = 2e-3 + (1e-5 - 2e-3) * epoch / 100
        length = min(max(length + rate * (objective / length - multiplier * length), 8.0), 64.0)
        multiplier += 1e-4 * (length - 8.0)
        assert (control.length, control.multiplier) == pytest.approx((length, multiplier))
    assert 8.0 < length < 64.0


def test_ahac_s_windows_grow_with_its_objective_and_go_on_after_resuming():
    def learner():
        method = AHACConfig(min_horizon=2, max_horizon=5, horizon_rate=5.0)
        _, actor, critic = METHODS["ahac"]
        config = LearnerConfig(horizon=HORIZON, actor=actor, critic=critic)
        return Learner(Generous(3), config, method, num_epochs=10, seed=SEED)

    undisturbed, resumed = learner(), learner()
    lengths = [undisturbed.train_epoch()["horizon"] for _ in range(3)]
    assert lengths[0] == 2.0 and lengths[2] == 5.0
    resumed.load_state_dict(undisturbed.state_dict())
    for _ in range(3):
        assert repr(resumed.train_epoch()) == repr(undisturbed.train_epoch())
    assert undisturbed.env_steps == 3 * (sum(map(int, lengths)) + 15)


class Generous(Particle):
    """Pays fifty more for every step."""

    def step(self, actions):
        obs, reward, *rest = super().step(actions)
        return obs, reward + 50.0, *rest


def test_a_fixed_horizon_is_the_learner_s():
    _, actor, critic = METHODS["ahac"]
    config = LearnerConfig(horizon=3, actor=actor, critic=critic)
    learner = Learner(Particle(2), config, AHACConfig(horizon="fixed"), num_epochs=2, seed=0)
    assert "horizon" not in learner.train_epoch()
    assert learner.env_steps == 6


def test_the_temperature_follows_torchs_adamw():
    config = TemperatureConfig()
    temperature = Temperature(math.log(0.7))
    log_alpha = torch.tensor(math.log(0.7), dtype=torch.float64, requires_grad=True)
    adam = torch.optim.AdamW([log_alpha], lr=5e-3, betas=(0.7, 0.95), weight_decay=0.01)
    for entropy in (1.5, -4.0, 0.2, -1.51):
        adam.zero_grad()
        (log_alpha.exp() * 1.5 * (entropy + 1.5)).backward()
        torch.nn.utils.clip_grad_norm_([log_alpha], 0.5)
        adam.step()
        temperature = temperature.stepped(entropy, -1.5, config)
        assert temperature.log_alpha == pytest.approx(log_alpha.item(), rel=1e-12)


def test_contact_is_refused_with_what_it_would_need():
    with pytest.raises(ArgumentError, match=r"'contact' given, one of .*'return'.*contact forces"):
        AHACConfig(horizon="contact")


@pytest.mark.parametrize(
    ("config", "options"),
    [
        (AHACConfig, {"horizon": "long"}),
        (AHACConfig, {"min_horizon": 0}),
        (AHACConfig, {"min_horizon": 9, "max_horizon": 8}),
        (AHACConfig, {"horizon_rate": -1.0}),
        (SAPOConfig, {"weight_decay": -0.1}),
        (TemperatureConfig, {"initial": 0.0}),
        (TemperatureConfig, {"target_scale": 0.0}),
        (TemperatureConfig, {"betas": [0.7]}),
    ],
)
def test_settings_out_of_range_are_named(config, options):
    with pytest.raises(ValueError, match=str(next(reversed(options)))):
        config(**options)
