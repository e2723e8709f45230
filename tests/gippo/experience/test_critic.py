import pytest
import torch

from gippo.experience.critic import Critic, CriticConfig
from gippo.networks.perceptron import ValueNetwork


def make_critic(normalize_value=False, native=True, **options):
    generator = torch.Generator().manual_seed(0)
    network = ValueNetwork(2, [16], 1.4, generator=generator, dtype=torch.float64)
    config = CriticConfig(**{"learning_rate": 1e-2, **options})
    return Critic(network, config, normalize_value=normalize_value, num_epochs=10, native=native)


def make_data(horizon=8, num_envs=4):
    obs = torch.randn(
        horizon, num_envs, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(1)
    )
    return obs, 300.0 + 20.0 * obs.sum(-1)


@pytest.mark.parametrize("normalize_value", [False, True])
def test_the_fit_approaches_its_target(normalize_value):
    critic = make_critic(normalize_value, iterations=60)
    obs, target = make_data()
    target = target / 100.0
    for epoch in range(3):
        metrics, problem = critic.fit(obs, target, epoch)
        assert problem is None
    assert metrics["critic_loss"] < 1e-2
    value = critic.target_value()(obs)
    assert (value - target).square().mean() < 0.1


def test_minibatches_are_contiguous_in_time_and_in_order():
    critic = make_critic(native=False, iterations=2, num_minibatches=4)
    obs, target = make_data()
    seen = []
    descent = critic._gradient.descent

    def spy(batch, *loss):
        seen.append(batch.inputs)
        return descent(batch, *loss)

    critic._gradient.descent = spy
    critic._descend(obs.flatten(0, 1), target.flatten(), 1e-2)
    expected = [obs[2 * i : 2 * i + 2].flatten(0, 1) for i in range(4)] * 2
    assert all(torch.equal(a, b) for a, b in zip(seen, expected, strict=True))


@pytest.mark.parametrize("normalize_value", [False, True])
@pytest.mark.parametrize("horizon", [8, 7])  # 28 rows make minibatches of 7, 32 of 8
def test_a_native_fit_descends_as_torchs_step_after_step(normalize_value, horizon):
    at_once, in_steps = (make_critic(normalize_value, native) for native in (True, False))
    obs, target = make_data(horizon)
    for epoch in range(3):
        losses = [
            critic.fit(obs, target, epoch)[0]["critic_loss"] for critic in (at_once, in_steps)
        ]
        torch.testing.assert_close(*losses, rtol=1e-9, atol=0.0)
    states = [critic.state_dict() for critic in (at_once, in_steps)]
    for part in ("network", "target"):
        for name, value in states[0][part].items():
            torch.testing.assert_close(value, states[1][part][name], rtol=1e-9, atol=1e-9)
    moments = [state["optimizer"]["moments"] for state in states]
    for name, value in moments[0].items():
        torch.testing.assert_close(value, moments[1][name], rtol=1e-8, atol=1e-8)


def test_the_target_critic_moves_by_its_rate():
    critic = make_critic(target_rate=0.8)
    obs, target = make_data()
    old = critic.state_dict()["target"]
    critic.fit(obs, target, 0)
    state = critic.state_dict()
    for name, value in state["target"].items():
        torch.testing.assert_close(value, 0.2 * old[name] + 0.8 * state["network"][name])


def test_with_normalised_values_the_statistics_lead_and_the_loss_stays_raw():
    critic = make_critic(True, iterations=1, num_minibatches=1)
    obs, target = make_data()
    before = critic.target_value()
    unmoved = before(obs)
    raw = critic.network.forward(obs).detach()
    metrics, _ = critic.fit(obs, target, 0)
    variance, mean = torch.var_mean(target, correction=0)
    expected = (raw * variance.sqrt() + mean - target).square().mean()
    torch.testing.assert_close(metrics["critic_loss"], expected, rtol=1e-3, atol=0.0)
    # A value function taken before goes on as it was.
    torch.testing.assert_close(before(obs), unmoved, rtol=0.0, atol=0.0)
    assert not torch.allclose(critic.target_value()(obs), unmoved)


def test_a_non_finite_target_changes_nothing_and_is_named():
    critic = make_critic(True)
    obs, target = make_data()
    critic.fit(obs, target, 0)
    before = critic.state_dict()
    bad = target.clone()
    bad[0, 0] = torch.nan
    _, problem = critic.fit(obs, bad, 1)
    assert problem is not None
    assert "critic's loss is nan" in problem
    assert "'mlp.weights.0' is not finite" in problem
    after = critic.state_dict()
    for part in ("network", "target", "statistics"):
        for name, value in before[part].items():
            torch.testing.assert_close(after[part][name], value, rtol=0.0, atol=0.0)
    assert critic.fit(obs, target, 1)[1] is None


def test_the_rate_falls():
    critic = make_critic(learning_rate=1e-3, final_learning_rate=1e-5)
    obs, target = make_data()
    rates = [critic.fit(obs, target, epoch)[0]["critic_learning_rate"] for epoch in (0, 5, 10)]
    assert rates == pytest.approx([1e-3, 5.05e-4, 1e-5])
