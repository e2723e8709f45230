"""Environments whose robots differ: gradients through steps, resets, draws and resumption."""

import pytest
import torch

import warp_envs
from tests.warp_envs.robots.gallop import TERMS, Gallop
from warp_envs.checks import ArgumentError
from warp_envs.robots.base import asset_path

DOUBLE = torch.float64
HOPPER = {"asset": str(asset_path("hopper.usda")), "gear": 200.0, "substeps": 4, "dtype": DOUBLE}
KINDS = (
    "gravity", "friction", "contact_ke", "contact_kd", "contact_kf", "mass", "com",
    "inertia_scale", "armature", "damping", "stiffness", "rest", "limit_ke", "limit_kd", "gear",
)  # fmt: skip
SOME = ["mass", "friction", "gear"]  # one choice for most tests: one kernel
RANDOMIZE = {
    "friction": [0.5, 1.2],
    "torso.mass": {"scale": [0.8, 1.2]},
    "gear": {"scale": [0.9, 1.1]},
    "leg.com": {"add": [-0.02, 0.02], "once": True},
}


def hopper(num_envs=3, **options):
    return warp_envs.make("hopper", num_envs=num_envs, dtype=DOUBLE, **options)


def scattered(env, seed=0):
    """Values of what varies, about the defaults."""
    torch.manual_seed(seed)
    values = {}
    for name, item in env.parameters().items():
        if item.varies:
            default = torch.tensor(item.default).expand(env.num_envs, *item.shape)
            around = default * (0.9 + 0.2 * torch.rand(default.shape, dtype=DOUBLE))
            values[name] = torch.where(default == 0.0, 0.05, around)
    return values


def actions_of(env, steps, seed=1):
    torch.manual_seed(seed)
    return 1.6 * torch.rand(steps, env.num_envs, env.num_actions, dtype=DOUBLE) - 0.8


def earned(env, values, actions, start):
    """Reward and weighted observations of all steps, (num_envs,)."""
    env.set_state(start)
    env.set_parameters(values)
    total = torch.zeros(env.num_envs, dtype=DOUBLE)
    for action in actions:
        obs, reward, *_ = env.step(action)
        total = total + reward + obs @ torch.linspace(0.05, 0.15, env.num_obs, dtype=DOUBLE)
    return total


def start_of(env):
    return {name: part for name, part in env.get_state().items() if name != "parameters"}


def check_gradients(env, steps, tolerance=1e-5):
    """The gradient in every parameter against central differences; returns the gradients."""
    start, values, actions = start_of(env), scattered(env), actions_of(env, steps)
    leaves = {name: value.clone().requires_grad_() for name, value in values.items()}
    total = earned(env, leaves, actions, start)
    gradients = dict(
        zip(leaves, torch.autograd.grad(total.sum(), list(leaves.values())), strict=True)
    )
    for name, value in values.items():
        direction = torch.randn(value.shape, dtype=DOUBLE)
        exact = (gradients[name] * direction).reshape(env.num_envs, -1).sum(1)
        errors = []
        for length in (1e-6, 1e-7):  # one may straddle a kink: a foot that just touches
            h = length * max(1.0, value.abs().max().item())
            high, low = (
                earned(env, {**values, name: value + way * h * direction}, actions, start)
                for way in (1.0, -1.0)
            )
            numeric = (high - low) / (2.0 * h)
            scale = max(numeric.abs().max().item(), 1e-9 / h)
            errors.append((numeric - exact).abs() / scale)
        assert torch.minimum(*errors).max().item() < tolerance, name
    return gradients


def test_gradients_through_16_steps_on_the_ground_are_central_differences():
    env = hopper(parameters=KINDS)
    compiled = check_gradients(env, steps=16)
    assert compiled["friction"].abs().max() > 0.0  # it touched
    plain = check_gradients(hopper(parameters=KINDS, compiled=False), steps=16)
    for name, gradient in compiled.items():
        torch.testing.assert_close(gradient, plain[name], rtol=1e-9, atol=1e-11)


@pytest.mark.slow
def test_gradients_of_an_ant_and_of_log_cholesky_inertia():
    names = ["friction", "contact_ke", "mass", "com", "gear", "hip*.damping"]
    check_gradients(warp_envs.make("ant", num_envs=3, dtype=DOUBLE, parameters=names), steps=16)
    check_gradients(hopper(parameters=["log_cholesky"]), steps=16)


@pytest.mark.slow
def test_terms_read_masses_and_their_centres():
    terms = {"reward": {"com_displacement": 1.0, "progress": 1.0}, "observe": ["velocities"]}
    options = {**HOPPER, **terms, "parameters": ["mass", "com"]}
    check_gradients(warp_envs.make("robot", num_envs=2, **options), steps=2)


def test_a_task_in_torch_has_the_same_gradients_as_terms():
    both = [
        check_gradients(warp_envs.make("robot", num_envs=3, parameters=SOME, **HOPPER, **task), 8)
        for task in (TERMS, {"task": Gallop})
    ]
    for name in SOME:
        torch.testing.assert_close(both[0][name], both[1][name], rtol=1e-9, atol=1e-9)


def test_a_batch_of_different_robots_is_each_of_them_alone():
    env, alone = (hopper(n, parameters=SOME) for n in (5, 1))
    start, values, actions = start_of(env), scattered(env), actions_of(env, 20)
    together = earned(env, values, actions, start)
    counters = start_of(alone)
    for i in range(5):
        own = {name: start[name][i : i + 1] for name in ("joint_q", "joint_qd")}
        given = {name: value[i : i + 1] for name, value in values.items()}
        one = earned(alone, given, actions[:, i : i + 1], {**counters, **own})
        assert one.item() == pytest.approx(together[i].item(), rel=1e-12)


def test_values_hold_through_ends_of_episodes_and_so_does_their_gradient():
    env = hopper(parameters=SOME, max_episode_steps=5)
    check_gradients(env, steps=12)
    values = scattered(env, seed=2)
    env.set_parameters(values)
    env.reset()
    assert torch.equal(env.get_parameters()["gear"], values["gear"])


def test_a_value_changed_in_place_by_an_optimizer_is_read_in_the_next_step():
    env = hopper(parameters=SOME)
    gear = torch.full((3, 3), 100.0, dtype=DOUBLE, requires_grad=True)
    env.set_parameters({"gear": gear})
    actions, start = actions_of(env, 2), start_of(env)
    results = []
    for _ in range(2):
        env.set_state(start)
        results.append(env.step(actions[0])[0].sum())
        results[-1].backward()
        with torch.no_grad():
            gear -= 50.0
        env.detach()
    assert results[0].item() != results[1].item()


def test_a_diverged_environment_has_no_gradient_and_spoils_no_other():
    env = hopper(parameters=SOME)
    mass = scattered(env)["mass"].requires_grad_()
    env.set_parameters({"mass": mass})
    state = start_of(env)
    state["joint_qd"][1] = 1e300
    env.set_state(state)
    *_, info = (out := env.step(actions_of(env, 1)[0]))
    assert info["diverged"].tolist() == [False, True, False]
    (gradient,) = torch.autograd.grad((out[0].sum() + out[1].sum()), mass)
    assert torch.isfinite(gradient).all() and (gradient[1] == 0.0).all()
    assert (gradient[0] != 0.0).any() and (gradient[2] != 0.0).any()


def draws_of(env, steps=0):
    for action in actions_of(env, steps):
        env.step(action)
    return env.get_parameters()


@pytest.mark.parametrize("task", [{}, {"task": Gallop}])
def test_draws_are_in_their_ranges_and_new_in_every_episode(task):
    options = {**HOPPER, **task, "num_envs": 40, "max_episode_steps": 4}
    env = warp_envs.make("robot", randomize=RANDOMIZE, **options)
    default = {name: torch.tensor(item.default) for name, item in env.parameters().items()}
    first, later = draws_of(env), draws_of(env, 5)
    for drawn in (first, later):
        assert (drawn["friction"] >= 0.5).all() and (drawn["friction"] <= 1.2).all()
        assert drawn["friction"].std() > 0.1 and len(drawn["friction"].unique()) == 40
        factor = drawn["gear"] / default["gear"]
        assert (factor >= 0.9).all() and (factor <= 1.1).all()
        assert len(factor.unique()) == 120  # of each motor its own
        moved = drawn["leg.com"] - default["leg.com"]
        assert moved.abs().max() <= 0.02 and moved.std() > 0.005
    assert (first["friction"] != later["friction"]).all()
    assert (first["torso.mass"] != later["torso.mass"]).all()
    assert torch.equal(first["leg.com"], later["leg.com"])


@pytest.mark.parametrize("task", [{}, {"task": Gallop}])
def test_a_run_with_draws_goes_on_bit_for_bit(task):
    options = {**HOPPER, **task, "num_envs": 5, "max_episode_steps": 6}
    env = warp_envs.make("robot", randomize=RANDOMIZE, **options)
    actions = actions_of(env, 20)
    for action in actions[:8]:
        env.step(action)
    state = env.get_state()
    expected = [env.step(action) for action in actions[8:]]
    other = warp_envs.make("robot", randomize=RANDOMIZE, seed=5, **options)
    other.set_state(state)
    for action, steps in zip(actions[8:], expected, strict=True):
        for a, b in zip(other.step(action)[:4], steps, strict=False):
            assert torch.equal(a, b)
    assert torch.equal(env.get_parameters()["friction"], other.get_parameters()["friction"])


def test_draws_follow_the_numbers_of_environments_and_the_seed():
    whole, part = (hopper(n, randomize=RANDOMIZE) for n in (6, 3))
    part.number_from(3)
    part.reset(seed=0)
    assert torch.equal(part.get_parameters()["gear"], whole.get_parameters()["gear"][3:])
    whole.reset(seed=1)
    assert not torch.equal(part.get_parameters()["gear"], whole.get_parameters()["gear"][3:])


def test_gradients_pass_through_what_was_drawn():
    check_gradients(hopper(randomize=RANDOMIZE, max_episode_steps=5), steps=9)


@pytest.mark.parametrize(
    ("randomize", "said"),
    [
        ([0.5], "a mapping of parameters to spreads"),
        ({"frictoin": [0.5, 1.0]}, "did you mean 'friction'"),
        ({"friction": [1.0, 0.5]}, "low <= high"),
        ({"friction": [-1.0, 0.5]}, "numbers in \\[0, inf\\)"),
        ({"friction": 0.5}, "\\[low, high\\]"),
        ({"friction": {"scal": [0.5, 1.0]}}, "did you mean 'scale'"),
        ({"friction": {"scale": [0.5, 1.0], "add": [0, 1]}}, "one of"),
        ({"friction": {"add": [0.0, 1.0]}}, "{range: .* or {scale: .*below its least value"),
        ({"friction": {"scale": [-1.0, 1.0]}}, "factors of at least 0"),
        ({"friction": {"range": [0.5, 1.0], "once": 1}}, "true or false"),
        ({"torso.log_cholesky": {"add": [0.0, 0.1]}}, "mass, com and inertia_scale can be drawn"),
        ({"mass": {"scale": [0.5, 1.0]}, "torso.mass": [1.0, 2.0]}, "each number once"),
    ],
)
def test_spreads_that_do_not_fit_are_refused(randomize, said):
    with pytest.raises(ArgumentError, match=f"^randomize.*{said}"):
        hopper(1, randomize=randomize)


SERVOS = {
    "thigh": {"kind": "position", "kp": 60.0, "kd": 2.0, "range": [-1.0, 0.4], "force": 25.0},
    "leg": {"kind": "velocity", "kd": 5.0, "range": [-8.0, 8.0]},
    "foot": {"kind": "motor", "gear": 30.0, "force": 0.5},
}


def check_servos(compiled):
    """Gradients in gains and forces, and in the constants of limits and contact beside them."""
    names = ["kp", "kd", "force", "limit_ke", "limit_kd", "contact_ke", "contact_kd", "contact_kf"]
    robot = {**HOPPER, "gear": None, "actuators": SERVOS, "parameters": names}
    robot["reward"] = {"progress": 1.0, "torque": -1e-3}
    env = warp_envs.make("robot", num_envs=3, compiled=compiled, **robot)
    known = env.parameters()
    assert known["kp"].default.tolist() == [60.0]
    assert known["kd"].default.tolist() == [2.0, 5.0]
    assert known["force"].default.tolist() == [25.0, 15.0]
    found = check_gradients(env, steps=16)
    assert all(gradient.abs().max() > 0.0 for gradient in found.values())
    return found


def test_gains_and_forces_of_servos_have_the_gradients_of_differences():
    check_servos(compiled=False)


@pytest.mark.slow
def test_compiled_kernels_have_them_too():
    compiled, plain = check_servos(compiled=True), check_servos(compiled=False)
    for name, gradient in compiled.items():
        torch.testing.assert_close(gradient, plain[name], rtol=1e-9, atol=1e-11)


def test_a_robot_whose_servos_vary_is_that_whose_file_says_so():
    options = {**HOPPER, "gear": None, "num_envs": 1, "compiled": False}
    varied = warp_envs.make("robot", actuators=SERVOS, parameters=["kp", "kd", "force"], **options)
    varied.set_parameters({"kp": [90.0], "kd": [3.0, 7.0], "force": [8.0, 6.0]})
    other = {
        "thigh": {**SERVOS["thigh"], "kp": 90.0, "kd": 3.0, "force": 8.0},
        "leg": {**SERVOS["leg"], "kd": 7.0},
        "foot": {**SERVOS["foot"], "force": 0.2},
    }
    plain = warp_envs.make("robot", actuators=other, **options)
    for action in actions_of(plain, 12):
        expected, found = plain.step(action), varied.step(action)
        torch.testing.assert_close(found[0], expected[0], rtol=1e-11, atol=1e-11)


def test_a_servo_has_no_gear_to_vary():
    servo = {"thigh": {"kind": "position", "kp": 30.0, "range": [-1.0, 1.0]}}
    options = {**HOPPER, "gear": None, "actuators": servo, "num_envs": 1}
    assert "thigh.gear" not in warp_envs.make("robot", **options).parameters()


def test_a_delayed_action_acts_some_steps_later():
    env, late = (hopper(4, action_delay=delay) for delay in (0, 2))
    actions = actions_of(env, 6)
    late.set_state({name: env.get_state()[name] for name in ("joint_q", "joint_qd")})
    still = torch.zeros_like(actions[0])
    for given, asked in zip([still, still, *actions], actions, strict=False):
        at_once, after = env.step(given), late.step(asked)
        assert torch.equal(at_once[0], after[0])
        assert torch.equal(env.get_state()["joint_qd"], late.get_state()["joint_qd"])


def test_a_delay_is_drawn_for_every_episode_and_passes_gradients():
    env = hopper(60, action_delay=[0, 2], max_episode_steps=5)
    first = env.get_state()["action_delay"]
    assert set(first.unique().tolist()) == {0.0, 1.0, 2.0}
    actions = actions_of(env, 4).requires_grad_()
    reward = sum(env.step(action)[1] for action in actions)
    (gradient,) = torch.autograd.grad(reward.sum(), actions)
    late = first[:, 0] > 0.0
    # a last action that comes too late has its effort alone, -0.1 times its square
    assert torch.equal(gradient[3][late], -0.2 * actions[3][late])
    assert ((gradient[1] + 0.2 * actions[1]).abs().amax(1) > 0.0).all()
    env.step(actions[0].detach())
    assert not torch.equal(env.get_state()["action_delay"], first)


@pytest.mark.parametrize("delay", [-1, 1.5, [2, 1], [1], "soon", True, 1000])
def test_a_delay_that_is_none_is_refused(delay):
    with pytest.raises(ArgumentError, match=r"^action_delay"):
        hopper(1, action_delay=delay)


@pytest.mark.parametrize("dtype", [torch.float32, DOUBLE])
def test_noise_is_uniform_new_in_every_step_and_of_no_consequence(dtype):
    options = {"num_envs": 50, "dtype": dtype, "max_episode_steps": 6}
    spread = [0.1] * 5 + [0.0] * 5 + [0.5]
    clean = warp_envs.make("hopper", **options)
    noisy = warp_envs.make("hopper", observation_noise=spread, **options)
    found = [noisy.observe() - clean.observe()]
    for action in actions_of(clean, 9).to(dtype):
        (obs, reward, *_), (seen, same, *_, info) = clean.step(action), noisy.step(action)
        assert torch.equal(reward, same)
        found.append(seen - obs)
        assert torch.equal(seen, noisy.observe())
        if not info["diverged"].any() and not (noisy.get_state()["step_count"] == 0).any():
            assert torch.equal(info["final_obs"], seen)
    noise = torch.stack(found)
    assert (noise[..., 5:10] == 0.0).all()
    for column, most in ((0, 0.1), (10, 0.5)):
        drawn = noise[..., column] / most
        assert drawn.abs().max() <= 1.0 + 1e-4 and abs(drawn.mean()) < 0.1
        assert drawn.square().mean().item() == pytest.approx(1.0 / 3.0, abs=0.07)
    assert torch.unique(noise[..., 10]).numel() > 450  # 10 times 50


def test_observations_with_noise_go_on_bit_for_bit_and_have_the_gradient_of_those_without():
    envs = [hopper(4, observation_noise=noise) for noise in (0.0, 0.2)]
    actions = actions_of(envs[0], 3)
    gradients = []
    for env in envs:
        leaf = actions.clone().requires_grad_()
        obs = [env.step(action)[0] for action in leaf]
        gradients.append(torch.autograd.grad(sum(part.sum() for part in obs), leaf)[0])
    assert torch.equal(*gradients)
    state = envs[1].get_state()
    expected = envs[1].step(actions[0])[0]
    other = hopper(4, observation_noise=0.2, seed=7)
    other.set_state(state)
    assert torch.equal(other.step(actions[0])[0], expected)


@pytest.mark.parametrize("noise", [-0.1, "much", [0.1, 0.2], float("nan"), None])
def test_noise_that_is_none_is_refused(noise):
    with pytest.raises(ArgumentError, match=r"^observation_noise"):
        hopper(1, observation_noise=noise)


def test_a_task_in_torch_adds_its_own_noise():
    with pytest.raises(ArgumentError, match=r"observation_noise: .* beside a task"):
        warp_envs.make("robot", num_envs=1, task=Gallop, observation_noise=0.1, **HOPPER)
