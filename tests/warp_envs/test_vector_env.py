"""The environment base: interface, windows, resets, divergence, state."""

import inspect

import gymnasium
import pytest
import torch

import warp_envs
from tests.warp_envs.toy import Spring
from warp_envs.checks import ArgumentError
from warp_envs.declarations import DECLARED

DOUBLE = torch.float64


def spring(num_envs=4, **options):
    return Spring(num_envs=num_envs, dtype=DOUBLE, **options)


def roll(env, actions):
    """Rewards (H, num_envs) of a window of actions (H, num_envs, 1)."""
    return torch.stack([env.step(action)[1] for action in actions])


def test_interface_is_gymnasiums():
    env = Spring(num_envs=3)
    assert isinstance(env, gymnasium.vector.VectorEnv)
    assert env.single_observation_space.shape == (2,)
    assert env.action_space.shape == (3, 1)
    assert env.spec.max_episode_steps == 20
    obs, info = env.reset(seed=3)
    assert obs.shape == (3, 2) and obs.dtype == torch.float32 and info == {}
    obs, reward, terminated, truncated, info = env.step(torch.zeros(3, 1))
    assert obs.shape == info["final_obs"].shape == (3, 2)
    assert reward.shape == terminated.shape == truncated.shape == info["diverged"].shape == (3,)
    assert reward.dtype == torch.float32
    assert terminated.dtype == truncated.dtype == info["diverged"].dtype == torch.bool
    total = sum(info["reward_terms"].values())
    assert list(info["reward_terms"]) == ["position", "effort"]
    assert torch.allclose(total, reward)


def test_a_class_lists_its_own_options_then_those_it_passes_on():
    class Softer(Spring):
        def __init__(self, *, stiffness, max_episode_steps=7, **options):
            super().__init__(max_episode_steps=max_episode_steps, **options)

    class Closed(Spring):
        def __init__(self, *, num_envs):
            super().__init__(num_envs=num_envs)

    shared = ["num_envs", "max_episode_steps", "device", "dtype", "seed", "num_blocks"]
    shared += ["randomize_observed"]
    spring = inspect.signature(Spring).parameters
    assert list(spring) == ["bound", *shared]
    assert spring["max_episode_steps"].default == 20
    softer = inspect.signature(Softer).parameters
    assert list(softer)[:3] == ["stiffness", "max_episode_steps", "bound"]
    assert sorted(softer) == sorted(["stiffness", "bound", *shared])
    assert softer["max_episode_steps"].default == 7
    assert softer["stiffness"].default is inspect.Parameter.empty
    assert list(inspect.signature(Closed).parameters) == ["num_envs"]


@pytest.mark.parametrize("declaration", DECLARED)
def test_an_environment_without_a_declaration_is_refused_by_name(declaration, monkeypatch):
    monkeypatch.delattr(Spring, declaration)
    with pytest.raises(ArgumentError, match=rf"^Spring\.{declaration}: nothing given, .* accepted"):
        Spring(num_envs=2)


def test_an_environment_without_a_method_is_refused_by_name(monkeypatch):
    monkeypatch.delattr(Spring, "record_outcome")
    with pytest.raises(ArgumentError, match=r"^Spring\.record_outcome: nothing given"):
        Spring(num_envs=2)


@pytest.mark.parametrize(
    ("declared", "said"),
    [
        ({"num_obs": 1}, r"^num_obs: 1 given, as many as the kernels write, which is more,"),
        ({"num_obs": 4}, r"^num_obs: 4, of which the kernels leave \[2, 3\] unwritten, given"),
        ({"reward_terms": ("position",)}, r"^reward_terms: 1 given, as many as the kernels write"),
        ({"reward_terms": ("position", "effort", "more")}, r"^reward_terms: 3, .* \[2\]"),
        ({"reward_terms": ()}, r"^reward_terms: \(\) given, different names"),
        ({"reward_terms": "position"}, r"^reward_terms: 'position' given"),
        ({"state_integers": ("p",)}, r"^Wrong\.state_integers: 'p' given, one of \['q', 'qd'\]"),
    ],
)
def test_a_size_that_is_not_the_kernels_is_refused(declared, said):
    wrong = type("Wrong", (Spring,), declared)
    with pytest.raises(ArgumentError, match=said):
        wrong(num_envs=3).step(torch.zeros(3, 1))


def test_a_number_that_a_class_declares_is_checked():
    class Blind(Spring):
        num_obs = 0

    with pytest.raises(ArgumentError, match="num_obs: 0 given"):
        Blind(num_envs=2)


def test_step_matches_the_equations():
    env = spring()
    state = env.get_state()
    action = torch.tensor([[0.3], [-0.7], [2.0], [-5.0]], dtype=DOUBLE)
    a = action.clip(-1, 1)[:, 0]
    v = state["qd"][:, 0] + 0.1 * (a - state["q"][:, 0] ** 3)
    x = state["q"][:, 0] + 0.1 * v
    obs, reward, *_ = env.step(action)
    assert torch.allclose(obs, torch.stack([x, v], 1), rtol=1e-14)
    assert torch.allclose(reward, -x * x - 0.1 * a * a, rtol=1e-14)


def test_gradient_against_central_differences_over_a_window():
    env = spring(bound=100.0)
    start = env.get_state()
    actions = (2 * torch.rand(8, 4, 1, dtype=DOUBLE) - 1).requires_grad_()

    def total(actions):
        env.set_state(start)
        return roll(env, actions).sum()

    assert torch.autograd.gradcheck(total, [actions], eps=1e-6, atol=1e-9)


def test_gradient_reaches_a_given_state():
    env = spring(bound=100.0)
    state = env.get_state()

    def outcome(q, qd):
        env.set_state({**state, "q": q, "qd": qd})
        seen = env.observe()
        obs, reward, *_ = env.step(torch.zeros(4, 1, dtype=DOUBLE))
        return seen.sum(), obs.sum(), reward.sum()

    q, qd = (state[name].requires_grad_() for name in ("q", "qd"))
    assert torch.autograd.gradcheck(outcome, [q, qd])


def test_no_gradient_goes_through_whole_numbers_of_the_state():
    counting = type("Counting", (Spring,), {"state_integers": ("qd",)})
    found = []
    for env in (spring(2), counting(num_envs=2, dtype=DOUBLE)):
        rows = {"q": torch.full((2, 1), 0.3), "qd": torch.ones(2, 1)}
        given = {name: value.to(DOUBLE).requires_grad_() for name, value in rows.items()}
        env.set_state(given)
        rewards = roll(env, torch.zeros(3, 2, 1, dtype=DOUBLE))
        gradients = torch.autograd.grad(rewards.sum(), list(given.values()))
        found.append((rewards, *gradients))
    (rewards, by_q, by_qd), (same, one_way, none) = found
    assert torch.equal(rewards, same)
    assert (by_qd != 0.0).all() and (none == 0.0).all()
    assert (one_way != 0.0).all() and (by_q != one_way).all()


def test_clipped_action_has_no_gradient():
    env = spring()
    action = torch.tensor([[0.5], [1.5], [-1.5], [1.0]], dtype=DOUBLE, requires_grad=True)
    (gradient,) = torch.autograd.grad(env.step(action)[1].sum(), action)
    assert (gradient[:, 0] != 0).tolist() == [True, False, False, True]


def test_detach_starts_a_window():
    env = spring(bound=100.0)
    old = torch.full((4, 1), 0.5, dtype=DOUBLE, requires_grad=True)
    env.step(old)
    env.detach()
    new = torch.full((4, 1), 0.5, dtype=DOUBLE, requires_grad=True)
    reward = env.step(new)[1].sum()
    assert torch.autograd.grad(reward, new, retain_graph=True)[0].abs().min() > 0
    assert torch.autograd.grad(reward, old, allow_unused=True)[0] is None


def test_earlier_windows_do_not_change_a_gradient():
    """Window isolation: the same window after much use gives the same gradient, bit for bit."""
    env = spring(bound=100.0)
    start = env.get_state()
    actions = torch.linspace(-1, 1, 24, dtype=DOUBLE).reshape(6, 4, 1).requires_grad_()

    def gradient():
        env.set_state(start)
        return torch.autograd.grad(roll(env, actions).sum(), actions)[0]

    fresh = gradient()
    for _ in range(3):
        env.detach()
        roll(env, torch.randn(5, 4, 1, dtype=DOUBLE).requires_grad_()).sum().backward()
    assert torch.equal(gradient(), fresh)


def test_reset_of_one_environment_leaves_the_others_gradient():
    """Environment 0 ends at step 3; environment 1's gradient is that of a run without that end."""

    def gradient(first):
        env = spring(num_envs=2, bound=1.5)
        q = torch.tensor([[first], [0.2]], dtype=DOUBLE)
        env.set_state({"q": q, "qd": torch.tensor([[2.0], [0.0]], dtype=DOUBLE)})
        actions = torch.full((8, 2, 1), 0.9, dtype=DOUBLE, requires_grad=True)
        ends = []
        rewards = []
        for action in actions:
            _, reward, terminated, *_ = env.step(action)
            rewards.append(reward)
            ends.append(terminated)
        (g,) = torch.autograd.grad(torch.stack(rewards).sum(), actions)
        return g, torch.stack(ends)

    with_end, ends = gradient(1.2)
    without_end, no_ends = gradient(-1.0)
    assert ends[:, 0].any() and not ends[:, 1].any() and not no_ends.any()
    assert torch.equal(with_end[:, 1], without_end[:, 1])


def test_no_gradient_across_a_reset():
    env = spring(num_envs=1, max_episode_steps=3, bound=100.0)
    actions = torch.full((6, 1, 1), 0.4, dtype=DOUBLE, requires_grad=True)
    rewards = roll(env, actions)
    (late,) = torch.autograd.grad(rewards[3:].sum(), actions, retain_graph=True)
    assert late[:3].abs().max() == 0 and late[3:].abs().min() > 0
    (early,) = torch.autograd.grad(rewards[:3].sum(), actions)
    assert early[:3].abs().min() > 0 and early[3:].abs().max() == 0


def test_same_step_reset_and_final_obs():
    env = spring(num_envs=2, max_episode_steps=3, bound=100.0)
    action = torch.full((2, 1), 0.5, dtype=DOUBLE, requires_grad=True)
    for _ in range(2):
        obs, _, _, truncated, info = env.step(action)
        assert not truncated.any() and torch.equal(obs, info["final_obs"])
    before = obs
    obs, _, terminated, truncated, info = env.step(action)
    assert truncated.all() and not terminated.any()
    v = before[:, 1] + 0.1 * (0.5 - before[:, 0] ** 3)
    assert torch.allclose(info["final_obs"][:, 1], v)
    assert obs[:, 1].abs().max() == 0 and (obs[:, 0] != info["final_obs"][:, 0]).all()
    assert torch.autograd.grad(info["final_obs"].sum(), action)[0].abs().min() > 0
    assert env.get_state()["step_count"].tolist() == [0, 0]


def test_same_seed_same_run_and_different_seed_different_run():
    def run(seed):
        env = spring(seed=seed, max_episode_steps=4)
        return roll(env, torch.full((10, 4, 1), 0.1, dtype=DOUBLE))

    assert torch.equal(run(5), run(5))
    assert not torch.equal(run(5), run(6))


def test_every_environment_and_every_reset_starts_elsewhere():
    env = spring(num_envs=64)
    first = env.reset(seed=0)[0][:, 0]
    second = env.reset()[0][:, 0]
    assert len({*first.tolist(), *second.tolist()}) == 128
    assert torch.equal(env.reset(seed=0)[0][:, 0], first)
    assert first.min() >= 0 and first.max() < 1


def test_initial_states_do_not_depend_on_the_number_of_environments():
    few, many = spring(num_envs=4), spring(num_envs=9)
    assert torch.equal(few.observe(), many.observe()[:4])


def test_state_continues_bit_for_bit():
    env, other = spring(max_episode_steps=5), spring(seed=99, max_episode_steps=5)
    actions = 2 * torch.rand(12, 4, 1, dtype=DOUBLE) - 1
    roll(env, actions[:3])
    other.set_state(env.get_state())
    assert torch.equal(other.observe(), env.observe())
    assert torch.equal(roll(env, actions), roll(other, actions))
    for name, value in env.get_state().items():
        assert torch.equal(value, other.get_state()[name]), name


def test_state_handed_out_is_a_copy():
    env = spring()
    env.get_state()["q"].fill_(7.0)
    assert env.get_state()["q"].max() < 1


@pytest.mark.parametrize(
    ("state", "message"),
    [
        ({"p": torch.zeros(4, 1, dtype=DOUBLE)}, "state: 'p' given, any of"),
        ({"q": torch.zeros(3, 1, dtype=DOUBLE)}, r"state\['q'\]: \(3, 1\).*\(4, 1\)"),
        ({"q": torch.zeros(4, 1)}, r"state\['q'\].*float32.*float64"),
        ({"q": 1.0}, r"state\['q'\]: a float given"),
    ],
)
def test_wrong_state_is_refused_whole(state, message):
    env = spring()
    before = env.get_state()
    with pytest.raises(ValueError, match=message):
        env.set_state({"qd": torch.ones(4, 1, dtype=DOUBLE), **state})
    assert torch.equal(env.get_state()["qd"], before["qd"])


@pytest.mark.parametrize(
    ("actions", "message"),
    [
        (torch.zeros(4, 2, dtype=DOUBLE), r"actions: \(4, 2\).*\(4, 1\)"),
        (torch.zeros(3, 1, dtype=DOUBLE), r"actions: \(3, 1\)"),
        (torch.zeros(4, dtype=DOUBLE), r"actions: \(4,\)"),
        (torch.zeros(4, 1), "actions: .*float32.*float64"),
        ([[0.0]] * 4, "actions: a list given"),
        (torch.tensor([[0.0], [0.0], [float("nan")], [0.0]], dtype=DOUBLE), r"nan at \[2, 0\]"),
        (torch.tensor([[0.0], [float("inf")], [0.0], [0.0]], dtype=DOUBLE), r"inf at \[1, 0\]"),
    ],
)
def test_wrong_actions_are_refused_and_nothing_is_stepped(actions, message):
    env = spring()
    before = env.get_state()
    with pytest.raises(ValueError, match=message):
        env.step(actions)
    after = env.get_state()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_divergence_ends_one_environment_and_spares_the_others():
    env = spring(num_envs=3, bound=1e300)
    start = env.get_state()
    first = torch.full((3, 1), 0.5, dtype=DOUBLE, requires_grad=True)
    second = torch.full((3, 1), 0.5, dtype=DOUBLE, requires_grad=True)

    def two_steps(wild):
        env.set_state({**start, "q": torch.tensor([[0.1], [wild], [0.3]], dtype=DOUBLE)})
        seen = [env.step(first), env.step(second)]
        return seen, torch.autograd.grad(sum(step[1].sum() for step in seen), [first, second])

    calm, calm_gradients = two_steps(0.2)
    # From 1e50 the first step is still finite (-1e148), the second overflows.
    wild, gradients = two_steps(1e50)
    assert not wild[0][4]["diverged"].any()
    obs, reward, terminated, _, info = wild[1]
    assert info["diverged"].tolist() == terminated.tolist() == [False, True, False]
    assert reward[1] == wild[0][1][1] and torch.isfinite(reward).all()
    assert torch.equal(info["final_obs"][1], wild[0][0][1])
    assert torch.isfinite(obs).all() and obs[1, 0] < 1
    for gradient, calm_gradient in zip(gradients, calm_gradients, strict=True):
        assert torch.isfinite(gradient).all()
        assert torch.equal(gradient[[0, 2]], calm_gradient[[0, 2]])
    assert gradients[1][1] == 0
    assert torch.equal(calm[1][0][[0, 2]], obs[[0, 2]])


def test_window_of_any_length_without_growing_arrays():
    env = spring(bound=100.0, max_episode_steps=1000)
    actions = torch.full((150, 4, 1), 0.1, dtype=DOUBLE, requires_grad=True)
    (gradient,) = torch.autograd.grad(roll(env, actions).sum(), actions)
    assert torch.isfinite(gradient).all() and gradient[0].abs().min() > 0


def test_no_grad_records_nothing():
    env = spring()
    action = torch.full((4, 1), 0.5, dtype=DOUBLE, requires_grad=True)
    with torch.no_grad():
        obs, reward, _, _, info = env.step(action)
    assert not (obs.requires_grad or reward.requires_grad or info["final_obs"].requires_grad)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_envs": 0}, "num_envs: 0 given"),
        ({"num_envs": 2.0}, "num_envs: 2.0 given"),
        ({"num_envs": 2, "seed": -1}, "seed: -1 given"),
        ({"num_envs": 2, "device": "tpu"}, "device: 'tpu' given, one of"),
        ({"num_envs": 2, "dtype": torch.int32}, "dtype: torch.int32 given"),
        ({"num_envs": 2, "size": 3}, "size: no option of 'dejong' given, one of"),
    ],
)
def test_make_refuses(options, message):
    with pytest.raises(ValueError, match=message):
        warp_envs.make("dejong", **options)


def test_unknown_id_names_the_near_match():
    with pytest.raises(ValueError, match=r"'dejongg' given.*did you mean 'dejong'"):
        warp_envs.make("dejongg", num_envs=1)
