import dataclasses
import math
from itertools import pairwise

import pytest
import torch

import warp_envs
from gippo.cli import main
from gippo.experience.critic import CriticConfig
from gippo.learner import Learner, LearnerConfig
from gippo.methods.gippo_adaptive import GIPPOAdaptive, GIPPOAdaptiveConfig, squashed_entropy
from gippo.networks.perceptron import ActorConfig, log_prob
from gippo.runs.metrics import read_metrics
from gippo.updates.natural_step import NaturalStepConfig
from tests.gippo.methods.test_lr_rp import GAMMA, LAMBDA, made_up_window
from tests.gippo.policies import make_context
from tests.gippo.test_learner import small_config
from tests.gippo.toy import Particle


def spied_update(window, context, config):
    """What an update hands to the natural step."""
    method = GIPPOAdaptive(context, config)
    seen = []
    direction, move = method._step.direction, method._step.move

    def spy_direction(gradient, metric):
        seen.append(gradient)
        return direction(gradient, metric)

    def spy_move(along, radius):
        seen.append(radius)
        return move(along, radius)

    method._step.direction, method._step.move = spy_direction, spy_move
    report = method.update(window, 0)
    assert report.problem is None
    gradient, radius = seen
    return gradient, radius, report.metrics


def test_the_gradient_and_the_radius_from_the_formulas():
    context = make_context()
    window = made_up_window(context.actor, num_envs=5, horizon=4)
    config = GIPPOAdaptiveConfig(entropy=0.0, clip=1e6)
    gradient, radius, metrics = spied_update(window, context, config)

    method = make_context()  # as the actor was
    rollout, gradients = window.rollout, window.gradients
    weight = (GAMMA * LAMBDA) ** torch.arange(4, dtype=torch.float64)
    weight = (weight / weight.mean()).unsqueeze(1)
    advantage = window.advantage - window.advantage.mean()
    halves = []
    for own in (slice(0, 2), slice(2, 5)):
        mu, log_sigma = method.actor.forward(rollout.obs[:, own])
        action = mu + log_sigma.exp() * rollout.eps[:, own]
        rp = (weight * (gradients.of_own[:, own] * action).sum(-1)).mean()
        score = log_prob(rollout.action[:, own], mu, log_sigma)
        lr = (weight * advantage[:, own] * score).mean()
        parameters = method.parameters.parameters
        halves.append(
            [
                torch.cat(
                    [g.flatten() for g in torch.autograd.grad(x, parameters, retain_graph=True)]
                )
                for x in (rp, lr)
            ]
        )
    (rp_1, lr_1), (rp_2, lr_2) = halves
    kappa = metrics["kappa_lr"]
    assert 0.0 < kappa < 1.0
    assert kappa == pytest.approx(
        (metrics["noise_rp"] / (metrics["noise_rp"] + metrics["noise_lr"])).item()
    )
    rp, lr = 0.4 * rp_1 + 0.6 * rp_2, 0.4 * lr_1 + 0.6 * lr_2
    torch.testing.assert_close(gradient, (1 - kappa) * rp + kappa * lr)
    assert radius == pytest.approx(8.0 * 0.01**2)  # the first step


@pytest.mark.parametrize("overshoot", [0.0, 0.2])
def test_a_step_is_as_long_as_the_slope_that_windows_find_left(overshoot):
    context = make_context()
    config = GIPPOAdaptiveConfig(radius=0.01, entropy=0.0, overshoot=overshoot)
    method = GIPPOAdaptive(context, config)
    told = []
    for sign in (1.0, 1.0, -1.0):
        window = made_up_window(context.actor, num_envs=64, horizon=4)
        window.gradients.of_own[:] = sign  # all signal, and in the end that against it
        told.append(method.update(window, 0).metrics)
    before, agreed, against = [row["slope_left"] for row in told]
    assert math.isnan(before)  # nothing is known
    assert agreed == pytest.approx(1.0, abs=0.05)
    assert against < 0.5
    assert told[0]["actor_learning_rate"] == pytest.approx(0.01 * 0.01**2)
    for windows, row in enumerate(told[1:], 1):
        known = 1.0 - 0.95**windows  # of twenty windows, that many have come
        trust = max(known * (row["slope_left"] + overshoot) / (1.0 + overshoot), 0.01)
        assert row["actor_learning_rate"] == pytest.approx(0.01 * trust**2)


@pytest.mark.parametrize(
    ("epoch", "length"), [(0, 4.0), (50, 2.5), (75, 1.75), (100, 1.0), (200, 1.0)]
)
def test_the_longest_step_falls_linearly_to_its_end(epoch, length):
    """Of 100 epochs, from a divergence of 16 to 1: a step's length is the root."""
    context = make_context()
    config = GIPPOAdaptiveConfig(radius=16.0, final_radius=1.0)
    method = GIPPOAdaptive(context, config)
    window = made_up_window(context.actor, num_envs=64, horizon=4)
    first = method.update(window, epoch).metrics["actor_learning_rate"]
    assert first == pytest.approx((0.01 * length) ** 2)


def test_a_window_in_which_little_is_to_be_gained_moves_the_policy_little():
    """Environments that are at one time of their episodes, at which nothing is left to learn."""
    context = dataclasses.replace(make_context(), episode_windows=30.0)
    method = GIPPOAdaptive(context, GIPPOAdaptiveConfig(entropy=0.0))
    window = made_up_window(context.actor, num_envs=64, horizon=4)
    window.gradients.of_own[:] = 1.0  # all signal
    moved = method.update(window, 0).metrics
    window.gradients.of_own *= 1e-3
    window.advantage *= 1e-3
    del window.samples
    quiet = method.update(window, 1).metrics
    assert moved["gradient_part"] == pytest.approx(1.0)
    assert quiet["share_rp"] > 0.9
    assert quiet["gradient_part"] < 0.01
    assert quiet["kl"] < 1e-3 * moved["kl"]


def test_a_policy_whose_windows_lose_is_taken_back():
    """To the bit, to the last that ten windows have proven, then on trial again."""
    context = make_context()
    method = GIPPOAdaptive(context, GIPPOAdaptiveConfig())
    vector, told, policies = context.parameters.vector, [], []
    for gain in [0.5] * 25 + [-2.0] * 4 + [0.5] + [-2.0] * 4 + [0.5]:  # in standard deviations
        window = made_up_window(context.actor, num_envs=64, horizon=4)
        deviation, mean = torch.std_mean(window.advantage, correction=0)
        window.last_advantage = window.last_residual = (mean - gain * deviation).item()
        policies.append(vector.clone())
        told.append(method.update(window, 0).metrics)
        assert told[-1]["gain"] == pytest.approx(gain)
    assert [k for k, row in enumerate(told) if row["undone"]] == [28, 33]
    # That of window 10, on trial since window 9 had proven the first.
    for after in (29, 34):
        torch.testing.assert_close(policies[after], policies[9], rtol=0.0, atol=0.0)
    assert not any(torch.equal(a, b) for a, b in pairwise(policies))
    lost, after = told[28:30]
    assert lost["kl"] == 0.0
    assert math.isnan(after["slope_left"])  # trust begins anew
    assert after["actor_learning_rate"] == pytest.approx(8.0 * 0.01**2, rel=0.01)


def test_rp_and_lr_estimate_one_gradient():
    """Of E[b . a + c |a|^2], with both estimators' noise averaged away."""
    context = make_context()
    window = made_up_window(context.actor, num_envs=4000, horizon=1)
    action, slope = window.rollout.action, torch.tensor([1.0, -0.5], dtype=torch.float64)
    window.advantage = (action @ slope) - 0.3 * action.square().sum(-1)
    window.gradients.of_own = slope - 0.6 * action
    *_, metrics = spied_update(window, context, GIPPOAdaptiveConfig(clip=1e6))
    method = GIPPOAdaptive(make_context(), GIPPOAdaptiveConfig())
    samples = window.samples
    ones = torch.ones(4000, dtype=torch.float64)
    rp, lr = method._estimates(samples, samples.action_gradient, ones, torch.tensor(0.0), 4000)
    assert (rp.mean - lr.mean).norm() < 0.2 * rp.mean.norm()
    assert metrics["share_rp"] > 0.9
    assert metrics["noise_rp"] < metrics["noise_lr"]
    assert metrics["kappa_lr"] < 0.5


def test_gradients_that_explode_lose_their_weight_in_the_same_epoch():
    context = make_context()
    window = made_up_window(context.actor, num_envs=64, horizon=4)
    calm = spied_update(window, make_context(), GIPPOAdaptiveConfig())[2]["kappa_lr"]
    noise = torch.randn(
        window.gradients.of_own.shape, generator=torch.Generator().manual_seed(5)
    ).double()
    window.gradients.of_own = 1e4 * noise
    del window.samples
    wild = spied_update(window, context, GIPPOAdaptiveConfig())[2]["kappa_lr"]
    assert calm < 0.9
    assert wild > 0.999


def test_the_entropy_of_squashed_actions_has_its_most_at_a_finite_width():
    a = torch.tensor([[0.3, -40.0]], dtype=torch.float64)
    expected = math.log(0.5) + math.log(1 - math.tanh(0.3) ** 2) + math.log(2.0)
    expected += 2.0 * (math.log(2.0) - 40.0)  # log(1 - tanh(a)^2) for large |a|
    given = squashed_entropy(a, torch.tensor([[0.5, 2.0]], dtype=torch.float64).log())
    assert given.item() == pytest.approx(expected)
    eps = torch.randn(20_000, 1, generator=torch.Generator().manual_seed(0)).double()
    means = [
        squashed_entropy(s * eps, torch.full_like(eps, math.log(s))).mean().item()
        for s in (0.3, 0.9, 3.0)
    ]
    assert means[1] > max(means[0], means[2])


def test_de_jongs_function_is_brought_below_what_single_steps_reach():
    env = warp_envs.make("dejong", num_envs=64, dim=2, seed=0)
    network = ActorConfig([16])
    config = LearnerConfig(horizon=1, actor=network, critic=CriticConfig(hidden=[16], iterations=1))
    learner = Learner(env, config, GIPPOAdaptiveConfig(), num_epochs=80, seed=0)
    returns = [learner.train_epoch()["episode_return"] for _ in range(80)]
    assert returns[0] < -1.0
    assert returns[-1] > -1e-4


class Button(Particle):
    """5 for an action above 0.5, and all derivatives say that less is better."""

    def step(self, actions):
        *first, terminated, truncated, info = super().step(actions)
        reward = 5.0 * (actions[:, 0] > 0.5).to(self.dtype) - 0.1 * actions[:, 0]
        return first[0], reward, terminated, truncated, info


def test_what_derivatives_do_not_see_is_learnt_from_likelihood_ratios():
    config = LearnerConfig(
        horizon=4, actor=ActorConfig([16]), critic=CriticConfig(hidden=[16], iterations=4)
    )
    learner = Learner(Button(64, limit=1), config, GIPPOAdaptiveConfig(), num_epochs=60, seed=0)
    told = [learner.train_epoch() for _ in range(60)]
    assert told[0]["episode_return"] < 2.0
    assert told[0]["unseen"] == 0.0  # nothing is known
    assert max(row["unseen"] for row in told) > 0.3
    assert told[-1]["episode_return"] > 4.5


def test_a_gradient_that_is_not_finite_moves_nothing_and_is_told():
    context = make_context()
    window = made_up_window(context.actor)
    window.gradients.of_own[0, 0] = math.nan
    before = context.parameters.vector.clone()
    report = GIPPOAdaptive(context, GIPPOAdaptiveConfig()).update(window, 0)
    assert report.problem == "the policy's gradient is not finite"
    assert torch.equal(context.parameters.vector, before)


def test_a_single_environment_is_halved_in_time_and_a_single_sample_refused():
    learner = Learner(Particle(1), small_config(), GIPPOAdaptiveConfig(), num_epochs=5, seed=0)
    assert 0.0 <= learner.train_epoch()["kappa_lr"] <= 1.0
    config = small_config(horizon=1)
    with pytest.raises(ValueError, match=r"env.num_envs: 1 in windows of 1 .* at least 2 samples"):
        Learner(Particle(1), config, GIPPOAdaptiveConfig(), num_epochs=5, seed=0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"radius": 0.0}, "radius: 0.0 given"),
        ({"radius": 1e30}, r"radius: 1e\+30 given"),
        (
            {"radius": 0.01, "final_radius": 0.02},
            "final_radius: 0.02 given, at most the radius, 0.01",
        ),
        ({"final_radius": 0.0}, "final_radius: 0.0 given"),
        ({"entropy": -1.0}, "entropy: -1.0 given"),
        ({"clip": 0.5}, "clip: 0.5 given"),
    ],
)
def test_settings_out_of_range_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        GIPPOAdaptiveConfig(**options)


@pytest.mark.parametrize(
    "options",
    [
        *({"iterations": 0}, {"states": 0}, {"states": 10**12}, {"memory": 0}),
        *({"damping": 0.0}, {"damping": math.nan}),
    ],
)
def test_settings_of_the_natural_step_out_of_range_are_refused(options):
    (key,) = options
    with pytest.raises(ValueError, match=rf"natural\.{key}: "):
        NaturalStepConfig(**options)


def test_a_run_goes_on_from_its_checkpoint(tmp_path):
    small = ["env=dejong", "env.num_envs=8", "logger=[]", "rollout.num_envs=0"]
    given = [*small, "algo=gippo_adaptive", "num_threads=1", "checkpoint_every=1"]
    whole, part = tmp_path / "whole", tmp_path / "part"
    for run_dir, epochs in ((whole, 4), (part, 2)):
        assert main(["train", *given, f"num_epochs={epochs}", f"run_dir={run_dir}"]) == 0
    config = part / "config.yaml"
    config.write_text(config.read_text().replace("num_epochs: 2", "num_epochs: 4"))
    assert main(["train", f"run_dir={part}", "resume=true"]) == 0
    gone_on, through = read_metrics(part), read_metrics(whole)
    assert gone_on["epoch"].tolist() == [1, 2, 3, 4]
    assert all(math.isfinite(value) for value in gone_on["kl"])
    assert gone_on["share_mixed"][0] == through["share_mixed"][0]
