"""Tasks in torch: the same as in terms, differentiable, refused by name, taken by the commands."""

import pytest
import torch

import warp_envs
from gippo.cli import main
from tests.warp_envs.robots.gallop import TERMS, Gallop, Wrong
from warp_envs.robots.base import asset_path

DOUBLE = torch.float64
HOPPER = asset_path("hopper.usda")
TASK = "tests.warp_envs.robots.gallop:Gallop"
STEPS, DIRECTIONS, SIZE = 16, 4, 1e-6


def make(num_envs, **options):
    options = {"gear": 100.0, "dtype": DOUBLE, **options}
    return warp_envs.make("robot", asset=HOPPER, num_envs=num_envs, **options)


def rolled(env, actions):
    """What every step gave, and the gradient of all rewards in the actions of all steps."""
    env.reset(seed=5)
    actions = actions.clone().requires_grad_()
    found, total = [env.observe().detach()], 0.0
    for action in actions:
        obs, reward, terminated, truncated, info = env.step(action)
        total = total + reward.sum() + info["final_obs"].square().sum()
        terms = torch.stack(list(info["reward_terms"].values()), 1)
        found += [obs, reward, terminated, truncated, info["final_obs"], terms]
    (gradient,) = torch.autograd.grad(total, actions)
    return [x.detach() for x in found], gradient


@pytest.fixture(scope="module")
def gallop():
    return make(1 + 2 * DIRECTIONS, task=Gallop, max_episode_steps=25)


def test_a_task_in_torch_is_the_same_task_in_terms(gallop):
    """Observations, rewards, ends, resets and gradients, through ends and time limits."""
    terms = make(gallop.num_envs, max_episode_steps=25, **TERMS)
    assert gallop.reward_terms == terms.reward_terms and gallop.num_obs == terms.num_obs
    torch.manual_seed(0)
    actions = 2.4 * torch.rand(40, gallop.num_envs, 3, dtype=DOUBLE) - 1.2
    (ours, gradient), (theirs, expected) = rolled(gallop, actions), rolled(terms, actions)
    for a, b in zip(ours, theirs, strict=True):
        assert torch.equal(a, b) if a.dtype == torch.bool else torch.allclose(a, b, rtol=1e-9)
    assert torch.stack(ours[3::6]).any() and torch.stack(ours[4::6]).any()
    assert torch.allclose(gradient, expected, rtol=1e-7, atol=1e-9 * expected.abs().max())


def test_gradient_of_a_task_in_torch_over_16_steps(gallop):
    gallop.reset(seed=3)
    start = {n: v[:1].expand_as(v) for n, v in gallop.get_state().items() if n != "seed"}
    torch.manual_seed(0)
    actions = 0.6 * torch.rand(STEPS, 1, 3, dtype=DOUBLE) - 0.3
    directions = torch.randn(DIRECTIONS, STEPS, 3, dtype=DOUBLE)
    moves = torch.cat([torch.zeros(1, STEPS, 3), SIZE * directions, -SIZE * directions])
    actions = (actions + moves.transpose(0, 1)).requires_grad_()
    gallop.set_state(start)
    total = 0.0
    for action in actions:
        obs, reward, terminated, *_ = gallop.step(action)
        total = total + reward
        assert not terminated.any()
    total = total + obs.sum(1)
    (gradient,) = torch.autograd.grad(total[0], actions)
    ends = total.detach()
    slopes = (ends[1 : 1 + DIRECTIONS] - ends[1 + DIRECTIONS :]) / (2 * SIZE)
    found = (gradient[:, 0] * directions).sum((1, 2))
    assert (found - slopes).abs().max() <= 1e-5 * slopes.abs().max()


def test_an_environment_that_diverges_ends_and_leaves_the_others_their_gradient(gallop):
    gallop.reset(seed=3)
    state = gallop.get_state()
    actions = torch.zeros(2, gallop.num_envs, 3, dtype=DOUBLE)

    def run(state):
        gallop.set_state(state)
        leaf = actions.clone().requires_grad_()
        first = gallop.step(leaf[0])
        second = gallop.step(leaf[1])
        (gradient,) = torch.autograd.grad((first[1] + second[1]).sum(), leaf)
        return first, gradient

    _, expected = run(state)
    broken = {name: value.clone() for name, value in state.items()}
    broken["joint_qd"][2] = 1e200
    (_, reward, terminated, _, info), gradient = run(broken)
    assert info["diverged"].nonzero().tolist() == [[2]] and terminated[2]
    assert torch.isfinite(reward).all() and torch.isfinite(info["final_obs"]).all()
    assert (gradient[0, 2] == 0).all()
    others = [i for i in range(gallop.num_envs) if i != 2]
    assert torch.equal(gradient[:, others], expected[:, others])


def test_a_saved_state_continues_bit_for_bit(gallop):
    gallop.reset(seed=3)
    action = torch.ones(gallop.num_envs, 3, dtype=DOUBLE)
    for _ in range(20):
        gallop.step(action)
    saved = gallop.get_state()
    first = [gallop.step(action)[0].detach() for _ in range(8)]
    gallop.set_state(saved)
    assert all(torch.equal(gallop.step(action)[0].detach(), obs) for obs in first)


def wrong(**methods):
    return type("Wrong", (Wrong,), methods)


@pytest.mark.parametrize(
    ("task", "message"),
    [
        ("nowhere.tasks:Gallop", "task: 'nowhere.tasks:Gallop' given, a module that can be"),
        (TASK.replace(":Gallop", ":Galop"), "task: .*did you mean 'Gallop'"),
        ("gallop", "task: 'gallop' given, a class, or module:Class"),
        (Gallop(), "task: .*Gallop object.* given, a class, or module:Class"),
        (int, "task: int without a method 'observe' given"),
        (wrong(reward=lambda self, robot: 1.0), r"task: Wrong.reward\['reward'\]: a float given"),
        (
            wrong(reward=lambda self, robot: robot.velocity),
            r"reward\['reward'\]: a tensor \(2, 3\).* a tensor \(2,\), torch.float64",
        ),
        (wrong(observe=lambda self, robot: robot.velocity[:, 0]), r"observe: a tensor \(2,\)"),
        (wrong(observe=lambda self, robot: robot.velocity.float()), "torch.float32 on cpu given"),
        (wrong(terminated=lambda self, robot: robot.velocity), "terminated: a tensor .* a bool"),
        (
            wrong(reward=lambda self, robot: robot.spede),
            r"Wrong.reward: AttributeError: .*spede.* \(.*test_tasks.py, line \d+\)",
        ),
    ],
)
def test_a_task_that_does_not_fit_is_refused_by_name(task, message):
    with pytest.raises(ValueError, match=message):
        make(2, task=task, compiled=False)


def test_a_task_stands_alone():
    with pytest.raises(ValueError, match=r"reward: \{'progress': 1\} given, nothing beside a task"):
        make(2, task=Gallop, reward={"progress": 1})


def test_a_task_without_gradient_is_told_of(caplog):
    make(1, task=wrong(reward=lambda self, robot: robot.velocity[:, 0].detach()))
    assert "its reward does not depend differentiably on the state" in caplog.text


def test_train_play_and_check_gradients_take_a_task(tmp_path, capsys):
    robot = ["env=robot", f"env.asset={HOPPER}", f"env.task='{TASK}'", "env.gear=100"]
    small = ["num_epochs=1", "env.num_envs=4", "learner.horizon=4", "rollout.num_envs=0"]
    run = f"run_dir={tmp_path / 'run'}"
    assert main(["train", *robot, *small, "algo=rp", run]) == 0
    assert '"reward/upright"' in (tmp_path / "run" / "metrics.jsonl").read_text()
    assert main(["play", run, "num_steps=3", "num_envs=2", "out=null"]) == 0
    assert main(["check-gradients", *robot, "num_envs=1", "num_steps=2"]) == 0
    assert "they agree" in capsys.readouterr().out
