import copy

import pytest
import torch

from gippo.experience.critic import Critic, CriticConfig
from gippo.networks.perceptron import ValueNetwork


def make_critic(normalize_value=False, native=True, **options):
    generator = torch.Generator().manual_seed(0)
    config = CriticConfig(**{"learning_rate": 1e-2, **options})
    shared = {"generator": generator, "dtype": torch.float64, "count": config.count}
    network = ValueNetwork(2, [16], 1.4, **shared, **config.form)
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


ENSEMBLES = [
    {},
    {"max_grad_norm": None},
    {"max_grad_norm": 0.5, "weight_decay": 0.01, "activation": "silu", "layer_norm": "before"},
]


@pytest.mark.parametrize("options", ENSEMBLES)
@pytest.mark.parametrize("native", [True, False])
def test_several_critics_descend_their_mean_loss_together(native, options):
    critic = make_critic(native=native, count=2, iterations=3, **options)
    obs, target = make_data()
    network = copy.deepcopy(critic.network)
    adam = torch.optim.AdamW(
        network.parameters(),
        lr=1e-2,
        betas=(0.7, 0.95),
        weight_decay=options.get("weight_decay", 0.0),
    )
    for _ in range(3):
        losses = []
        for x, y in zip(obs.split(2), target.split(2), strict=True):
            adam.zero_grad()
            one, other = (m.forward(x).squeeze(-1) - y for m in network.mlp.networks)
            losses.append((one.square().mean() + other.square().mean()) / 2)
            losses[-1].backward()
            norm = options.get("max_grad_norm", 1.0)
            if norm is not None:
                torch.nn.utils.clip_grad_norm_(network.parameters(), norm)
            adam.step()
    metrics, problem = critic.fit(obs, target, 0)
    assert problem is None
    assert metrics["critic_loss"] == pytest.approx(torch.stack(losses).mean().item(), rel=1e-9)
    for mine, their in zip(critic.network.parameters(), network.parameters(), strict=True):
        torch.testing.assert_close(mine, their, rtol=1e-9, atol=1e-9)
    value = critic.target_value("mean")(obs)
    pair = critic.target.mlp.forward(obs)
    torch.testing.assert_close(value, pair.mean(-1))
    torch.testing.assert_close(critic.target_value("min")(obs), pair.min(-1).values)


def test_a_fit_ends_when_its_loss_has_settled():
    obs, target = make_data()
    losses = []
    for passes in range(1, 13):  # as many fits from the start, each a pass longer
        critic = make_critic(iterations=passes)
        losses.append(float(critic.fit(obs, target / 300.0, 0)[0]["critic_loss"]))
    tolerance = 1.01 * abs(losses[6] - losses[2]) / 4  # of passes 3 to 7
    assert all(abs(losses[i + 4] - losses[i]) / 4 > tolerance for i in range(2))
    critic = make_critic(iterations=12, tolerance=tolerance)
    metrics, _ = critic.fit(obs, target / 300.0, 0)
    assert metrics["critic_passes"] == 8.0
    assert metrics["critic_loss"] == pytest.approx(losses[7], rel=1e-9)
    assert make_critic(tolerance=1e9).fit(obs, target, 0)[0]["critic_passes"] == 6.0
    assert make_critic(iterations=3, tolerance=1e9).fit(obs, target, 0)[0]["critic_passes"] == 3.0


def test_without_a_target_critic_the_critic_is_bootstrapped_from():
    critic = make_critic(target=False, target_rate=0.005)
    obs, target = make_data()
    critic.fit(obs, target, 0)
    assert torch.equal(critic.target_value()(obs), critic.network.frozen()(obs))
