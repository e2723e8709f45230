import copy
import dataclasses
import io
import json
import logging
import math

import pytest
import torch

import gippo.learner as learner_module
import warp_envs
from gippo.experience.critic import CriticConfig
from gippo.learner import Learner, LearnerConfig
from gippo.methods.ahac import AHACConfig
from gippo.methods.gippo import GIPPOConfig
from gippo.methods.gippo_adaptive import GIPPOAdaptiveConfig
from gippo.methods.lr import LRConfig
from gippo.methods.lr_rp import LRRPConfig
from gippo.methods.pe import PEConfig
from gippo.methods.rp import RP, RPConfig
from gippo.methods.sapo import SAPOConfig
from gippo.methods.shac import SHACConfig
from gippo.networks.perceptron import ActorConfig
from gippo.runs.trainer import Trainer
from gippo.seeding import stream_seed
from gippo.updates.alpha import AlphaConfig
from gippo.updates.failures import NonFiniteError
from gippo.updates.surrogate import PPOConfig
from gippo.updates.window import as_floats
from tests.gippo.toy import Particle
from warp_envs.checks import ArgumentError

METHODS = {
    "lr": LRConfig(),
    "rp": RPConfig(),
    "lr_rp": LRRPConfig(variance_entries=10),
    "pe": PEConfig(ppo=PPOConfig(minibatch_size=8)),
    "ppo": PPOConfig(schedule="adaptive", minibatch_size=8),
    "gippo": GIPPOConfig(AlphaConfig(alpha_0=0.1), PPOConfig(minibatch_size=8)),
    "gippo_adaptive": GIPPOAdaptiveConfig(),
    "shac": SHACConfig(),
    "ahac": AHACConfig(min_horizon=6, max_horizon=6),
    "sapo": SAPOConfig(),
}
LEARNERS = {
    "shac": {"actor": ActorConfig([8], log_sigma="state_independent")},
    "ahac": {
        "actor": ActorConfig([8], log_sigma="state_independent"),
        "critic": CriticConfig([8], iterations=8, count=2, target=False, tolerance=0.2),
    },
    "sapo": {
        "actor": ActorConfig([8], activation="silu", layer_norm="before", init_gain=1.0),
        "critic": CriticConfig([8], iterations=2, count=2, actor_combine="mean", weight_decay=0.01),
    },
}
"""What some methods take of the learner."""
SHARED = {
    "actor_loss",
    "actor_learning_rate",
    "critic_loss",
    "critic_learning_rate",
    "sigma_mean",
    "episode_return",
    "episode_length",
    "best_return",
    "num_episodes",
    "num_diverged",
    "skipped_updates",
}
ALPHA = {
    "alpha",
    "alpha_loss",
    "alpha_learning_rate",
    "alpha_retries",
    "alpha_failed",
    "det_min",
    "det_mean",
    "det_max",
    "out_of_range_ratio",
    "bias",
    "bias_normalized",
    "det_binds",
    "bias_binds",
    "out_of_range_binds",
    "pi_alpha_share",
}


def small_config(**options):
    network = {"hidden": [8]}
    defaults = {
        "horizon": 6,
        "actor": ActorConfig(**network),
        "critic": CriticConfig(iterations=2, **network),
    }
    return LearnerConfig(**{**defaults, **options})


def small_learner(method="gippo", seed=0, env=None, **options):
    env = env if env is not None else Particle(4, dtype=torch.float32, limit=10)
    config = small_config(**{**LEARNERS.get(method, {}), **options})
    return Learner(env, config, METHODS[method], num_epochs=20, seed=seed)


def run(learner, epochs):
    return [learner.train_epoch() for _ in range(epochs)]


def same(one, other):
    """Equal to the bit, NaN equal to itself."""
    return repr(one) == repr(other)


@pytest.mark.parametrize("method", METHODS)
def test_metrics_have_the_promised_names_and_are_numbers(method):
    learner = small_learner(method)
    metrics = run(learner, 3)[-1]
    assert set(metrics) >= (SHARED | ALPHA if method == "gippo" else SHARED)
    assert all(type(value) is float and math.isfinite(value) for value in metrics.values())
    assert learner.epoch == 3
    assert learner.env_steps == 3 * 6 * 4
    assert metrics["episode_length"] == 10.0
    assert metrics["num_episodes"] == 4.0


@pytest.mark.parametrize(
    ("config", "method", "message"),
    [
        (None, RPConfig(), "config: None given, an object of LearnerConfig"),
        (
            LearnerConfig(actor={"hidden": [8]}),
            RPConfig(),
            r"config\.actor: .* an object of ActorConfig",
        ),
        (LearnerConfig(), GIPPOAdaptiveConfig(natural=None), r"method_config\.natural: None given"),
        (
            LearnerConfig(),
            GIPPOConfig(ppo=PPOConfig(retry={})),
            r"method_config\.ppo\.retry: \{\} giv",
        ),
    ],
)
def test_a_part_of_the_settings_of_another_kind_is_refused(config, method, message):
    with pytest.raises(ArgumentError, match=message):
        Learner(Particle(4), config, method, num_epochs=1, seed=0)


def test_a_window_in_which_discounts_lose_their_digits_is_refused():
    """Eq. 15 divides by (gamma lambda)^k: 0.2^k is below 1e-31 from k = 45 on."""

    def learner(horizon):
        env = Particle(4, torch.float32, limit=500)
        config = LearnerConfig(gamma=0.4, gae_lambda=0.5, horizon=horizon)
        return Learner(env, config, GIPPOConfig(), num_epochs=1, seed=0)

    with pytest.raises(ArgumentError, match=r"learner\.horizon: 100 steps .* at most 45 in .*32"):
        learner(100)
    assert learner(45).train_epoch()["skipped_updates"] == 0.0


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ActorConfig(hidden=64), r"actor\.hidden: 64 given, a list"),
        (lambda: CriticConfig(betas=None), r"critic\.betas: None given, two numbers"),
        (lambda: ActorConfig(log_sigma_bounds=0.5), r"log_sigma_bounds: 0\.5 given, two numbers"),
        (lambda: PPOConfig(min_learning_rate=0.5), r"at least ppo\.min_learning_rate, 0\.5,"),
    ],
)
def test_a_setting_of_another_kind_is_refused_by_its_name(make, message):
    with pytest.raises(ArgumentError, match=message):
        make()


def test_a_window_knows_of_the_last_what_its_own_critic_makes_of_it(monkeypatch):
    """Mean advantage and residual by another critic than it was collected with, sum by sum."""
    env = Particle(4, ends={(2, 1): "terminated", (8, 3): "truncated"})
    learner = small_learner("rp", env=env, normalize_obs=False, normalize_value=False)
    gamma, decay = learner.config.gamma, learner.config.gamma * learner.config.gae_lambda
    windows, update = [], learner.method.update
    monkeypatch.setattr(learner.method, "update", lambda *w: windows.append(w[0]) or update(*w))
    monkeypatch.setattr(type(learner.method), "looks_back", True)
    before = copy.deepcopy(learner.critic.target).frozen("min")
    run(learner, 1)
    for _ in range(2):
        rollout, advantage = windows[-1].rollout, windows[-1].advantage
        value = copy.deepcopy(learner.critic.target).frozen("min")
        now, then = value(rollout.obs), value(rollout.final_obs)
        run(learner, 1)
        total = 0.0
        for t in range(6):
            for n in range(4):
                factor = 1.0
                for k in range(t, 6):
                    after = 0.0 if rollout.terminated[k, n] else gamma * then[k, n].item()
                    total += factor * (rollout.reward[k, n].item() + after - now[k, n].item())
                    if rollout.done[k, n]:
                        break
                    factor *= decay
        residual = (advantage + before(rollout.obs) - now).mean().item()
        told = windows[-1]
        assert told.last_advantage == pytest.approx(total / 24, rel=1e-9)
        assert told.last_residual == pytest.approx(residual, rel=1e-9)
        assert abs(told.last_advantage - residual) > 1e-6
        before = value


@pytest.mark.parametrize("method", METHODS)
def test_the_same_seed_gives_the_same_run_and_another_does_not(method):
    torch.manual_seed(1)
    first = run(small_learner(method), 4)
    torch.manual_seed(2)
    assert same(first, run(small_learner(method), 4))
    assert not same(first, run(small_learner(method, seed=1), 4))


def test_the_second_thread_changes_no_number():
    assert same(
        run(small_learner(parallel_updates=True), 3),
        run(small_learner(parallel_updates=False), 3),
    )


@pytest.mark.parametrize("normalize", [False, True])
@pytest.mark.parametrize("method", METHODS)
def test_a_saved_run_continues_to_the_bit(method, normalize):
    options = {"normalize_obs": normalize, "normalize_value": normalize}
    undisturbed = small_learner(method, **options)
    run(undisturbed, 3)
    buffer = io.BytesIO()
    torch.save(undisturbed.state_dict(), buffer)
    rest = run(undisturbed, 3)

    resumed = small_learner(method, seed=7, **options)
    run(resumed, 1)
    buffer.seek(0)
    resumed.load_state_dict(torch.load(buffer, weights_only=True))
    assert same(run(resumed, 3), rest)
    assert resumed.epoch == 6
    obs = torch.randn(5, 2)
    assert torch.equal(resumed.act(obs), undisturbed.act(obs))


ENDING = {(step, step % 4): "terminated" for step in range(3, 10**3, 7)}
"""Now and then a copy's episode terminates."""
TOLD = CriticConfig([8], iterations=2, terminal_share=0.3)


@pytest.mark.parametrize("method", METHODS)
def test_a_run_whose_episodes_terminate_goes_on_from_its_file_to_the_bit(method, tmp_path):
    """A checkpoint of a run fits a learner that has met none of what the run has met."""
    told = dataclasses.replace(LEARNERS.get(method, {}).get("critic", TOLD), terminal_share=0.3)

    def trainer(folder):
        env = Particle(4, dtype=torch.float32, ends=ENDING, limit=10)
        learner = small_learner(method, 0, env, critic=told)
        options = {"num_epochs": 7, "checkpoint_every": 100, "keep_last": 1}
        return Trainer(learner, tmp_path / folder, **options)

    def rows(folder):
        lines = (tmp_path / folder / "metrics.jsonl").read_text().splitlines()
        return [{**json.loads(line), "wall_time": 0.0} for line in lines]

    (tmp_path / "whole").mkdir()
    (tmp_path / "stopped").mkdir()
    assert trainer("whole").train()
    first, second = trainer("stopped"), trainer("stopped")
    assert not first.train(stop=lambda: first.epoch == 4)
    assert first.learner.state_dict()["ends"]["count"] > 0
    assert second.resume() == []
    assert second.epoch == 4 and second.train()
    assert rows("stopped") == rows("whole")


def test_the_critic_is_told_where_episodes_terminated_and_nothing_else_changes_without():
    def trained(critic, ends):
        env = Particle(4, dtype=torch.float32, ends=ends, limit=10)
        learner = small_learner("rp", 0, env, critic=critic)
        return learner, run(learner, 20)

    plain = CriticConfig([8], iterations=2)
    assert same(trained(TOLD, {})[1], trained(plain, {})[1])  # no episode terminates
    told, untold = (trained(critic, ENDING)[0] for critic in (TOLD, plain))
    assert untold.state_dict()["ends"]["count"] == 0
    ends = told.state_dict()["ends"]
    assert ends["count"] == 17
    values = [
        learner.critic.target_value()(
            learner._obs_statistics.frozen(torch.float32).normalize(ends["states"][-17:])
        )
        for learner in (told, untold)
    ]
    assert values[0].abs().mean() < 0.7 * values[1].abs().mean()


def test_a_state_dict_does_not_change_as_training_goes_on():
    learner = small_learner()
    run(learner, 1)
    state = learner.state_dict()
    text = repr(state)
    run(learner, 1)
    assert repr(state) == text


@pytest.mark.parametrize("method", METHODS)
def test_without_native_passes_an_epoch_is_the_same_to_rounding(method):
    native, plain = (
        small_learner(method, env=Particle(4, limit=10), native=flag) for flag in (True, False)
    )
    # Conjugate gradients on a nearly singular matrix multiply what rounding did, as do long steps.
    within = 1e-4 if method == "gippo_adaptive" else 1e-8
    for epoch in range(2):
        for own, other in zip(run(native, 1), run(plain, 1), strict=True):
            assert own.keys() == other.keys()
            for name, value in own.items():
                # One window's ratio of two slopes, the second of which is nearly all noise.
                least = 10.0 * within if name == "slope_left" else 0.1 * within
                expected = pytest.approx(other[name], rel=within, abs=least, nan_ok=True)
                assert value == expected, (epoch, name)


def test_a_state_of_another_method_or_network_is_refused():
    state = small_learner("ppo").state_dict()
    with pytest.raises(ValueError, match="state: of method 'ppo' given, 'gippo' accepted"):
        small_learner("gippo").load_state_dict(state)
    other = small_learner("ppo", actor=ActorConfig([16]))
    with pytest.raises(ValueError, match=r"parameters: shapes .* given, .* accepted"):
        other.load_state_dict(state)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_epochs": 0}, "num_epochs: 0 given"),
        ({"num_epochs": 1.5}, "num_epochs: 1.5 given"),
        ({"seed": -1}, "seed: -1 given"),
        ({"seed": 2**31}, "seed: 2147483648 given"),
    ],
)
def test_bad_arguments_are_named(options, message):
    arguments = {"num_epochs": 5, "seed": 0, **options}
    with pytest.raises(ValueError, match=message):
        Learner(Particle(2), small_config(), PPOConfig(), **arguments)


def test_acting_squashes_and_does_not_disturb_training():
    plain, acting = small_learner(), small_learner()
    first = run(plain, 1)
    assert same(first, run(acting, 1))
    obs = 10.0 * torch.randn(50, 2)
    noisy = acting.act(obs)
    assert noisy.shape == (50, 1)
    assert bool((noisy.abs() <= 1.0).all())
    assert not torch.equal(noisy, acting.act(obs))
    assert torch.equal(acting.act(obs, deterministic=True), acting.act(obs, deterministic=True))
    assert same(run(plain, 2), run(acting, 2))


def test_a_window_is_normalised_by_the_statistics_before_it():
    learner = small_learner()
    windows = []
    update = learner.method.update

    def spy(window, epoch):
        windows.append(window.rollout)
        return update(window, epoch)

    learner.method.update = spy
    run(learner, 3)
    for i, rollout in enumerate(windows):
        seen = [w.raw_obs.reshape(-1, 2).double() for w in windows[:i]]
        if seen:
            variance, mean = torch.var_mean(torch.cat(seen), dim=0, correction=0)
        else:
            variance, mean = torch.ones(2), torch.zeros(2)
        expected = (rollout.raw_obs - mean) / torch.sqrt(variance + 1e-5)
        torch.testing.assert_close(rollout.obs, expected.float(), rtol=1e-3, atol=1e-3)
        torch.testing.assert_close(  # what the policy acted by is what the update sees
            rollout.action, rollout.mu + rollout.log_sigma.exp() * rollout.eps
        )


class Lengthening(RP):
    """RP in windows of 2, 3, 4 ... steps."""

    length = 2

    @property
    def horizon(self):
        return self.length

    def update(self, window, epoch):
        assert window.rollout.reward.shape[0] == self.length
        self.length += 1
        return super().update(window, epoch)

    def state_dict(self):
        return {"length": self.length, **super().state_dict()}

    def load_state_dict(self, state):
        self.length = state["length"]
        super().load_state_dict(state)


def test_a_method_says_how_long_each_window_is_also_after_resuming(monkeypatch):
    monkeypatch.setattr(learner_module, "method_of", lambda config: Lengthening)
    undisturbed = small_learner("rp")
    assert [m["horizon"] for m in run(undisturbed, 3)] == [2.0, 3.0, 4.0]
    assert undisturbed.env_steps == (2 + 3 + 4) * 4
    resumed = small_learner("rp", seed=7)
    run(resumed, 1)
    resumed.load_state_dict(undisturbed.state_dict())
    rest = run(resumed, 2)
    assert same(rest, run(undisturbed, 2))
    assert [m["horizon"] for m in rest] == [5.0, 6.0]
    resumed.method.length = 0
    with pytest.raises(ValueError, match=r"Lengthening\.horizon: 0 given"):
        run(resumed, 1)


def test_windows_follow_each_other_without_a_gradient_between():
    learner = small_learner()
    run(learner, 1)
    assert not learner._obs.requires_grad
    assert not learner.env.state.requires_grad


class Poisoned(Particle):
    """Gives a reward that is not a number at its `bad` steps."""

    bad = frozenset()

    def step(self, actions):
        obs, reward, *rest = super().step(actions)
        if self.step_calls in self.bad:
            reward = reward * torch.nan
        return obs, reward, *rest


@pytest.mark.parametrize("method", METHODS)
def test_a_non_finite_window_is_skipped_logged_and_left_behind(method, caplog):
    env = Poisoned(4, dtype=torch.float32)
    env.bad = {8}
    learner = small_learner(method, env=env)
    run(learner, 1)
    before = learner.state_dict()
    with caplog.at_level(logging.WARNING):
        metrics = run(learner, 1)[0]
    assert metrics["skipped_updates"] == 1.0
    assert "epoch 1" in caplog.text
    assert "the window's reward is not finite" in caplog.text
    assert "the update was skipped and the last good one restored" in caplog.text
    after = learner.state_dict()
    for part in ("actor", "method"):
        assert same(before[part], after[part])
    for part in ("network", "target", "optimizer"):
        assert same(before["critic"][part], after["critic"][part])
    metrics = run(learner, 1)[0]
    assert metrics["skipped_updates"] == 1.0
    assert math.isfinite(metrics["actor_loss"])


class Strict(Particle):
    """Refuses actions that are not finite, as the real environments do on a CPU."""

    def step(self, actions):
        if not bool(torch.isfinite(actions).all()):
            raise ArgumentError("actions", "nan at [0, 0]", "finite numbers")
        return super().step(actions)


@pytest.mark.parametrize("method", [LRConfig(learning_rate=1e30), RPConfig(learning_rate=1e30)])
def test_parameters_too_large_for_the_policy_are_taken_back(method):
    env = Strict(4, dtype=torch.float32)
    learner = Learner(env, small_config(max_skipped_updates=2), method, num_epochs=9, seed=0)
    before = learner.state_dict()
    run(learner, 2)
    assert same(before["actor"], learner.state_dict()["actor"])
    with pytest.raises(NonFiniteError, match=r"policy's output is not finite.*3 times in a row"):
        run(learner, 1)


def test_actions_that_are_not_finite_end_the_run_by_name():
    learner = small_learner(env=Strict(4, dtype=torch.float32))
    with torch.no_grad():
        learner.actor.mlp.biases[-1].fill_(torch.inf).mul_(0.0)
    with pytest.raises(NonFiniteError, match="epoch 0: the policy's actions: nan at"):
        run(learner, 1)


def test_too_many_skipped_updates_end_the_run():
    env = Poisoned(4, dtype=torch.float32)
    env.bad = range(1, 1000)
    learner = small_learner(env=env, max_skipped_updates=2)
    run(learner, 2)
    with pytest.raises(NonFiniteError, match=r"loss.*reward is not finite.*3 times in a row"):
        run(learner, 1)


@pytest.mark.parametrize("method", [RPConfig(), GIPPOConfig(AlphaConfig(alpha_0=0.1))])
def test_learning_by_gradients_improves_the_toys_return(method):
    env = Particle(16, dtype=torch.float32, limit=12)
    config = small_config(horizon=12, critic=CriticConfig(hidden=[8], iterations=4))
    learner = Learner(env, config, method, num_epochs=40, seed=0)
    metrics = run(learner, 40)
    assert metrics[-1]["episode_return"] > metrics[0]["episode_return"] + 1.0


@pytest.mark.parametrize(
    "method",
    [
        LRRPConfig(learning_rate=1e-2),
        PEConfig(ppo=PPOConfig(learning_rate=3e-3, minibatch_size=64)),
    ],
)
def test_mixed_and_enhanced_methods_climb_de_jongs_function(method):
    env = warp_envs.make("dejong", num_envs=64, device="cpu", seed=0, dim=8)
    config = small_config(horizon=1, normalize_value=True)
    learner = Learner(env, config, method, num_epochs=40, seed=0)
    metrics = run(learner, 40)
    assert metrics[-1]["episode_return"] > 0.2 * metrics[0]["episode_return"]


def test_the_streams_of_a_run_are_all_different():
    """torch's CPU generator takes 2^32 + n for n."""
    seeds = {stream_seed(seed, stream) for seed in range(50) for stream in range(4)}
    assert len(seeds) == 200
    assert all(0 <= seed < 2**32 for seed in seeds)
    first = [torch.rand(4, generator=torch.Generator().manual_seed(seed)) for seed in seeds]
    assert len({tuple(values.tolist()) for values in first}) == 200


def test_a_number_of_the_host_is_logged_as_it_is():
    single = torch.tensor(0.1)
    assert as_floats({"rate": 1e-4, "loss": single}) == {"rate": 1e-4, "loss": single.item()}


class Diverging(Particle):
    """Every step of all but `sound` copies diverges, as on a GPU where actions are not finite."""

    def __init__(self, num_envs, sound):
        super().__init__(num_envs, limit=10)
        self._sound = sound

    def step(self, actions):
        *result, info = super().step(actions)
        info["diverged"] = torch.arange(len(actions)) >= self._sound
        return (*result, info)


def test_a_window_of_which_every_step_diverged_ends_training():
    small_learner("ppo", env=Diverging(4, sound=1)).train_epoch()
    with pytest.raises(NonFiniteError, match="epoch 0: every step of the window diverged"):
        small_learner("ppo", env=Diverging(4, sound=0)).train_epoch()


def test_staggered_copies_begin_at_steps_spread_over_an_episode():
    env = warp_envs.make("dejong", dim=2, num_envs=4, max_episode_steps=20)
    config = LearnerConfig(horizon=16, staggered=True, actor=ActorConfig([4]))
    learner = Learner(env, config, PPOConfig(), num_epochs=2, seed=0)
    assert env.get_state()["step_count"].tolist() == [0, 5, 10, 15]
    metrics = learner.train_epoch()  # ends the three that began later, which are in no mean
    assert metrics["num_episodes"] == 3.0 and math.isnan(metrics["episode_return"])
    metrics = learner.train_epoch()
    assert metrics["episode_length"] == 20.0
