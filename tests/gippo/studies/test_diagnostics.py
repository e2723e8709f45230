import itertools
import math
from types import SimpleNamespace

import pytest
import torch

from gippo.cli import main
from gippo.networks.normalization import identity
from gippo.networks.perceptron import GaussianActor
from gippo.studies.diagnostics import (
    GradientQuality,
    gradient_quality,
    noise_growth,
    trusted_steps,
    verdict,
)
from tests.gippo.toy import Particle

HORIZONS = [1, 2, 4, 8, 16]


class Map:
    """x -> step(x, action) with a reward of x: a one-dimensional environment of one's own."""

    num_actions = 1
    dtype = torch.float64
    device = "cpu"

    def __init__(self, num_envs, step, reward):
        self.num_envs = num_envs
        self.advance, self.reward = step, reward
        self.single_observation_space = SimpleNamespace(shape=(1,))
        self.single_action_space = SimpleNamespace(shape=(1,))

    def reset(self, *, seed=None):
        generator = torch.Generator().manual_seed(seed or 0)
        self.x = torch.rand(self.num_envs, generator=generator, dtype=self.dtype) - 0.5
        return self.x.unsqueeze(1), {}

    def step(self, actions):
        self.x = self.advance(self.x, actions.squeeze(1))
        obs = self.x.unsqueeze(1)
        never = torch.zeros(self.num_envs, dtype=torch.bool)
        info = {"final_obs": obs, "diverged": never}
        return obs, self.reward(self.x), never, never, info

    def detach(self):
        self.x = self.x.detach()

    def get_state(self):
        return {"x": self.x.detach().clone()}

    def set_state(self, state):
        self.x = state["x"].clone()


def diagnose(env, horizons=HORIZONS, std=0.3, **options):
    """With a policy that acts at random, of mean about zero."""
    (num_obs,) = env.single_observation_space.shape
    generator = torch.Generator().manual_seed(0)
    actor = GaussianActor(num_obs, [4], 1, generator=generator, dtype=env.dtype)
    with torch.no_grad():
        weight, bias = actor.mlp.weights[-1], actor.mlp.biases[-1]
        weight.zero_()
        bias.copy_(torch.tensor([0.0, math.log(std)]))
    obs, _ = env.reset(seed=1)
    settings = {"gamma": 0.99, "batch": 64, **options}
    normalizer = identity(env.dtype, torch.device("cpu"))
    return gradient_quality(env, obs, actor, normalizer, horizons=horizons, **settings)


def drift(x, action):
    return x + action


def test_a_smooth_environment_has_gradients_without_bias():
    qualities = diagnose(Particle(1024))
    assert [q.steps for q in qualities] == HORIZONS
    assert not any(q.faulty for q in qualities)
    assert max(q.relative_bias for q in qualities) < 0.01
    assert trusted_steps(qualities) == 16
    assert all(q.variance < q.lr_variance for q in qualities)
    assert verdict(qualities, 16) == [
        "Trust these gradients over all 16 steps that were looked at."
    ]


def test_a_known_gradient_is_found():
    """J_h = sum_{t<h} gamma^t sum_{k<=t} E tanh(a_k), whose derivative in the shift is known."""
    (quality,) = diagnose(Map(2048, drift, lambda x: x), [3], std=0.01)
    expected = 0.01 * sum(0.99**t * (t + 1) for t in range(3))  # tanh is a straight line here
    assert quality.size == pytest.approx(expected, rel=1e-3)


def test_a_jump_in_the_reward_is_a_bias():
    """A derivative of zero everywhere: the bias is the whole gradient."""
    env = Map(4096, drift, lambda x: (x > 0.0).to(x.dtype) + 0.0 * x)
    qualities = diagnose(env, [1, 4])
    for quality in qualities:
        assert quality.biased
        assert quality.variance == 0.0
        assert quality.relative_bias == pytest.approx(1.0, abs=0.25)
    lines = verdict(qualities, 32)
    assert lines[0] == "Do not trust these gradients, however short the window."
    assert lines[1].startswith("At 1 step they are biased: off by ")
    assert "learner.horizon" in lines[-1]


def test_a_jump_beside_a_smooth_part_is_measured():
    """E 1[x + a > 0] and E x: the one part in the gradient is missing, the other is there."""
    env = Map(8192, drift, lambda x: (x > 0.0).to(x.dtype) + x)
    (quality,) = diagnose(env, [1])
    assert quality.biased
    assert 0.2 < quality.relative_bias < 0.9


def test_a_chaotic_environments_noise_grows_by_its_lyapunov_exponent():
    """x -> 1 - 2 x^2 stretches by 2 a step on average: no bias while short, then only noise."""
    env = Map(1024, lambda x, a: 1.0 - 2.0 * (x + 0.002 * a).clamp(-1, 1) ** 2, lambda x: x)
    qualities = diagnose(env, [1, 2, 4, 6, 8, 10, 12, 14, 16])
    assert not qualities[0].faulty
    growth = [
        math.sqrt(b.variance / a.variance) ** (1.0 / (b.steps - a.steps))
        for a, b in itertools.pairwise(qualities[3:])
    ]
    assert sum(growth) / len(growth) == pytest.approx(2.0, rel=0.25)
    assert 1 <= trusted_steps(qualities) < 16
    assert qualities[-1].noisy
    assert noise_growth(qualities) > 1.2
    assert any("too noisy" in line for line in verdict(qualities, 32))


def quality(steps, size=1.0, variance=1.0, lr_variance=9.0, bias=0.0, visible=0.05):
    name = "finite difference"
    return GradientQuality(steps, size, variance, lr_variance, bias, visible, name, 64)


def test_quality_by_hand():
    one = quality(4, size=2.0, variance=64.0, lr_variance=256.0, bias=0.5, visible=0.1)
    assert (one.noise, one.lr_noise) == (0.5, 1.0)
    assert (one.relative_bias, one.relative_visible_bias) == (0.25, 0.05)
    assert (one.biased, one.noisy, one.clear) == (True, False, True)
    assert not quality(1, bias=0.09).biased  # real, and too small to matter
    assert not quality(1, bias=0.5, visible=0.6).biased  # could be chance
    assert quality(1, variance=65.0).noisy
    assert quality(1, size=0.0).noise == math.inf
    nothing = quality(1, size=0.0, variance=0.0, visible=0.0)
    assert nothing.clear and not nothing.faulty


def test_trust_ends_with_the_first_window_that_is_not_trusted():
    qualities = [quality(1), quality(2, bias=0.5), quality(4)]
    assert trusted_steps(qualities) == 1
    lines = verdict(qualities, 32)
    assert lines[0] == "Trust these gradients over windows of up to 1 step."
    assert lines[1].startswith("At 2 steps they are biased: off by 50% of the gradient")
    noisy = verdict([quality(1), quality(2, variance=100.0)], 32)
    assert "At 2 steps the likelihood ratio, which needs no derivative, is less noisy." in noisy


def test_no_trust_where_a_bias_could_not_have_been_seen():
    qualities = [quality(1, visible=0.9), quality(2), quality(4, bias=0.7, visible=0.9)]
    assert trusted_steps(qualities) == 2
    lines = verdict(qualities, 4)
    assert lines[0] == "Trust these gradients over windows of up to 2 steps."
    assert lines[1].startswith("At 4 steps a bias of up to 90% of the gradient could go unseen")
    assert verdict([quality(1, visible=2.0)], 1)[0].startswith("Too few windows to tell")


def test_the_number_of_copies_is_checked():
    with pytest.raises(ValueError, match="num_envs: 20 given, a multiple of 8"):
        diagnose(Particle(20))


def test_the_command_tells_and_draws(tmp_path, capsys):
    out = tmp_path / "diagnosis.png"
    small = ["num_windows=64", "horizons=[1,2]", "epochs=2", f"out={out}", "learner.horizon=2"]
    assert main(["diagnose", "env=cartpole", *small]) == 0
    said = capsys.readouterr().out
    assert "cartpole, a new policy after 2 epochs of gippo, 64 windows" in said
    assert "Trust these gradients over all 2 steps that were looked at." in said
    assert "of epochs lowered alpha for the determinant" in said
    assert out.read_bytes().startswith(b"\x89PNG")


def test_the_command_tells_what_gippo_adaptive_trusts(tmp_path, capsys):
    small = ["num_windows=16", "horizons=[1,2]", "epochs=2", "learner.horizon=2"]
    out = f"out={tmp_path / 'diagnosis.png'}"
    assert main(["diagnose", "env=dejong", "algo=gippo_adaptive", *small, out]) == 0
    said = capsys.readouterr().out
    for part in ("of RP is signal", "of LR is signal", "of the mixture is LR's"):
        assert f"% {part}, by the halves of the windows" in said
    assert "% of a step's slope is left, by the next window" in said
    assert "lowered alpha" not in said


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["env=cartpoel"], ["cartpole"]),
        (["horizons=[4,2]"], ["horizons", "[4, 2]"]),
        (["num_windows=20"], ["num_windows", "20"]),
        (["run_dir=nowhere"], ["nowhere"]),
        (["run_dir=nowhere", "env=ant"], ["env=ant", "run_dir"]),
        (["env=cartpole", "best_by=evaluation"], ["best_by: no key of gippo diagnose, which"]),
        (["env=cartpole", "rollout.num_envs=2"], ["rollout.num_envs: no key of", "learner.KEY"]),
        (["env=cartpole", "epochs=9", "num_epochs=5"], ["num_epochs: 5 given, at least the 9"]),
    ],
)
def test_a_mistake_is_one_line(arguments, parts, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["diagnose", *arguments]) == 2
    printed = capsys.readouterr().err
    assert printed.count("\n") == 1
    assert all(part in printed for part in parts)
    assert not list(tmp_path.iterdir())
