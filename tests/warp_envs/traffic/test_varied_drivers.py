"""Human drivers that differ: drawn by configuration, in every traffic environment."""

import pytest
import torch

import warp_envs
from warp_envs.checks import ArgumentError

KINDS = {
    "pace_car": {"num_lanes": 2, "num_vehicles": 4},
    "ring": {
        "num_vehicles": 4,
        "min_ring_length": 90.0,
        "max_ring_length": 100.0,
        "warm_up_steps": 30,
        "sims_per_step": 3,
    },
    "merge": {"num_vehicles": 16, "flow_rate": 3000.0, "main_length": 100.0, "share": 0.3},
    "bottleneck": {"num_vehicles": 24, "flow_rate": 3600.0},
}
RANDOMIZE = {
    "T": [0.8, 1.6],
    "a": {"scale": [0.7, 1.3]},
    "v0": {"scale": [0.8, 1.2], "once": True},
}


def make(kind, num_envs=3, dtype=torch.float64, **options):
    return warp_envs.make(kind, num_envs=num_envs, dtype=dtype, **KINDS[kind], **options)


def actions_of(env, count, seed=0):
    generator = torch.Generator().manual_seed(seed)
    shape = (count, env.num_envs, env.num_actions)
    return 0.5 * torch.rand(shape, generator=generator, dtype=env.dtype)


def run(env, actions):
    """All that was given, the state after it, too."""
    told = [part for action in actions for part in env.step(action)[:4]]
    return [*told, *env.get_state().values()]


@pytest.mark.parametrize("kind", KINDS)
def test_every_driver_has_numbers_of_its_own_for_an_episode(kind):
    env = make(kind, max_episode_steps=6, randomize=RANDOMIZE)
    first = env.get_parameters()
    for name, item in env.parameters().items():
        assert item.varies == (name in RANDOMIZE)
    drivers = first["T"].shape[1]
    assert drivers == KINDS[kind]["num_vehicles"]
    assert first["T"].min() >= 0.8 and first["T"].max() <= 1.6
    assert len(first["T"].unique()) == len(first["v0"].unique()) == 3 * drivers
    actions = actions_of(env, 6)
    for action in actions[:5]:
        env.step(action)
    assert torch.equal(env.get_parameters()["T"], first["T"])
    env.step(actions[5])
    assert (env.get_parameters()["T"] != first["T"]).all()
    assert torch.equal(env.get_parameters()["v0"], first["v0"])


@pytest.mark.parametrize("kind", KINDS)
def test_a_run_goes_on_bit_for_bit(kind):
    env, other = (make(kind, randomize=RANDOMIZE, max_episode_steps=9, seed=s) for s in (0, 5))
    actions = actions_of(env, 16)
    run(env, actions[:4])
    other.set_state(env.get_state())
    for a, b in zip(run(env, actions[4:]), run(other, actions[4:]), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("kind", KINDS)
def test_drivers_that_vary_by_nothing_drive_as_all_alike(kind):
    plain, varied = make(kind), make(kind, parameters=["v0", "T", "a", "b", "s0", "delta"])
    actions = actions_of(plain, 30)
    shared = plain.get_state().keys()
    run(plain, actions), run(varied, actions)
    state = varied.get_state()
    for name, value in plain.get_state().items():
        assert torch.allclose(state[name], value, rtol=0, atol=1e-12), name
    assert state.keys() - shared == {"parameters"}


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_in_every_number_are_those_of_differences(kind):
    # with episodes that end in between, and vehicles that come in
    names = ["v0", "T", "a", "b", "s0", "delta"]
    env = make(kind, num_envs=2, parameters=names, randomize={"T": {"scale": [0.9, 1.1]}})
    filling = actions_of(env, 24, seed=1)
    run(env, filling)
    state = env.get_state()
    actions = actions_of(env, 16)
    base = {name: env.get_parameters()[name] for name in names if name != "T"}
    base["T"] = torch.full_like(base["a"], env.parameters()["T"].default[0])
    base["v0"] = torch.full_like(base["a"], 18.0)  # below the roads' limits, which hide it
    generator = torch.Generator().manual_seed(2)
    weight = torch.rand((16, 2, env.num_obs), generator=generator, dtype=env.dtype)

    def total(values):
        env.set_state({name: value for name, value in state.items() if name != "parameters"})
        env.set_parameters(values)
        env.detach()
        value = torch.zeros((), dtype=env.dtype)
        for action, w in zip(actions, weight, strict=True):
            obs, reward = env.step(action)[:2]
            value = value + (w * obs).sum() + reward.sum()
        return value

    leaves = {name: value.clone().requires_grad_() for name, value in base.items()}
    gradients = dict(
        zip(leaves, torch.autograd.grad(total(leaves), [*leaves.values()]), strict=True)
    )
    assert all(gradients[name].abs().max() > 0.0 for name in ("v0", "T", "a", "s0"))
    for name, gradient in gradients.items():
        direction = torch.rand(gradient.shape, generator=generator, dtype=env.dtype)
        step = 1e-6
        sides = [total({**base, name: base[name] + s * direction}) for s in (step, -step)]
        difference = (sides[0] - sides[1]) / (2.0 * step)
        expected = (gradient * direction).sum()
        assert abs(difference - expected) <= 1e-6 * max(1.0, abs(expected)), name


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"randomize": {"t": [1.0, 2.0]}}, r"randomize.*'t'.*'T'"),
        ({"randomize": {"T": [2.0, 1.0]}}, "randomize.T.*low <= high"),
        ({"randomize": {"T": [-1.0, 1.0]}}, r"randomize.T.*numbers in \[0, inf\)"),
        ({"randomize": {"a": [0.0, 1.0]}}, r"randomize.a.*numbers in \(0, inf\)"),
        ({"randomize": {"a": {"add": [0.0, 1.0]}}}, "randomize.a.*{range: .* or {scale: "),
        ({"randomize": {"length": [4.0, 6.0]}}, "randomize.*'length'"),
        ({"parameters": ["mass"]}, "parameters.*'mass'"),
        ({"randomize_observed": "critic"}, "randomize_observed.*nothing is drawn"),
        ({"randomize": RANDOMIZE, "randomize_observed": "critc"}, "did you mean 'critic'"),
    ],
)
def test_what_cannot_be_drawn_is_refused(options, said):
    with pytest.raises(ArgumentError, match=said):
        make("pace_car", **options)


def test_nothing_is_set_where_nothing_varies():
    with pytest.raises(ArgumentError, match="'T', which does not vary here"):
        make("pace_car").set_parameters({"T": 1.0})


def test_the_speed_at_which_drivers_who_differ_fill_a_ring():
    options = {"autonomous": False, "noise": 0.0, "randomize": RANDOMIZE}
    env = warp_envs.make(
        "ring",
        num_envs=2,
        dtype=torch.float64,
        **{**KINDS["ring"], "warm_up_steps": 4000},
        **options,
    )
    speed = env.get_state()["speed"]
    assert torch.allclose(speed, env.equilibrium_speed()[:, None].expand_as(speed), atol=1e-6)
    alike = make("ring").equilibrium_speed()
    assert torch.allclose(make("ring", parameters=["T"]).equilibrium_speed(), alike, atol=1e-9)


def test_an_autonomous_cars_own_driver_does_not_vary():
    env = make("merge", randomize={"T": [5.0, 6.0]})
    numbers = env.roads.tables["flow_driver"].numpy()
    human = [name != env.AUTONOMOUS for name in env.flow_names]
    assert torch.isnan(torch.tensor(numbers)).any(dim=1).tolist() == human
