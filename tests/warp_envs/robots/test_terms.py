"""The library of terms: values, gradients, ends, commands, refusals, and its table in the docs."""

import re
from pathlib import Path

import pytest
import torch

import warp_envs
from kernels.robots.terms import ENDS, OBSERVATIONS, REWARDS
from warp_envs.robots.base import asset_path

DOUBLE = torch.float64
ANT, HOPPER = asset_path("ant.usda"), asset_path("hopper.usda")
STEPS, SIZE, DIRECTIONS = 16, 1e-6, 6
NEVER = 1e9

GIVEN = {
    "pace": {"speed": 0.7},
    "height_error": {"target": 0.5},
    "joint_limits": {"margin": 0.4},
    "joint_error": {"joint": "ankle2", "target": 0.3},
    "joint_rate": {"joint": "ankle2"},
    "joint_rate_error": {"joint": "ankle2", "target": 0.3},
    "body_height": {"body": "lower_leg3", "above": 0.1},
    "distance": {"body": "lower_leg3", "x": 0.3, "y": -0.2, "z": 0.4},
    "contact": {"body": "lower_leg3"},
    "contact_beyond": {"body": "lower_leg1", "above": 10.0},
    "air_time": {"body": "lower_leg3", "target": 0.02},
}
LIMITS = {
    "height_above": {"limit": NEVER},
    "height_below": {"limit": -NEVER},
    "tilt_above": {"limit": 180.0},
    "joint_outside": {"joint": "ankle2"},
    "body_below": {"body": "lower_leg3", "limit": -NEVER},
    "state_beyond": {"limit": NEVER},
    "illegal_contact": {"body": "lower_leg3", "limit": NEVER},
}


@pytest.fixture(scope="module")
def env():
    """An Ant with every term of the library, in copies enough for all differences."""
    return warp_envs.make(
        "robot",
        asset=ANT,
        num_envs=2 * DIRECTIONS + 1,
        dtype=DOUBLE,
        gear=100.0,
        reward={name: {**GIVEN.get(name, {}), "weight": 1.0} for name in REWARDS},
        terminate={name: LIMITS[name] for name in ENDS},
        observe=list(OBSERVATIONS),
        command={"forward": [0.0, 1.0], "left": [-0.5, 0.5], "turn": [-1.0, 1.0]},
        seed=3,
    )


def rollout(env, start, actions):
    """Sums over the steps of every reward term (num_envs, terms), and the last observation."""
    env.set_state(start)
    env.detach()
    total = 0.0
    for action in actions:
        obs, _, _, _, _, _, terms, env._state = env._step(env._state, action)
        total = total + terms
    return total, obs


@pytest.fixture(scope="module")
def differences(env):
    """Actions (T, envs, 8), the terms' sums and observations with their graph, and slopes.

    Environment 0 is differentiated; of the others each is environment 0 moved along a direction.
    """
    env.reset(seed=3)
    start = {
        name: v if name == "seed" else v[:1].expand_as(v) for name, v in env.get_state().items()
    }
    torch.manual_seed(0)
    actions = 0.8 * (2 * torch.rand(STEPS, 1, 8, dtype=DOUBLE) - 1)
    directions = torch.randn(DIRECTIONS, STEPS, 8, dtype=DOUBLE)
    moves = torch.cat([torch.zeros(1, STEPS, 8), SIZE * directions, -SIZE * directions])
    actions = (actions + moves.transpose(0, 1)).requires_grad_()
    terms, obs = rollout(env, start, actions)

    def slopes(values):
        values = values.detach()
        return (values[1 : DIRECTIONS + 1] - values[DIRECTIONS + 1 :]) / (2 * SIZE)

    return actions, terms, obs, slopes, directions


def agree(env, differences, values, column):
    actions, *_, slopes, directions = differences
    (gradient,) = torch.autograd.grad(values[0, column], actions, retain_graph=True)
    found = (gradient[:, 0] * directions).sum((1, 2))
    expected = slopes(values)[:, column]
    scale = expected.abs().max()
    assert (found - expected).abs().max() <= 1e-5 * scale + 1e-12
    return scale


@pytest.mark.parametrize("name", REWARDS)
def test_gradient_of_a_reward_over_16_steps(env, differences, name):
    scale = agree(env, differences, differences[1], list(REWARDS).index(name))
    assert (scale > 1e-6) == (name not in ("alive", "air_time"))


@pytest.mark.parametrize("name", OBSERVATIONS)
def test_gradient_of_an_observation_over_16_steps(env, differences, name):
    widths = dict(zip(OBSERVATIONS, env._widths(), strict=True))
    first = sum(widths[other] for other in list(OBSERVATIONS)[: list(OBSERVATIONS).index(name)])
    count = widths[name] if name == "contact" else min(3, widths[name])
    largest = max(agree(env, differences, differences[2], first + i) for i in range(count))
    assert (largest > 1e-6) == (name != "command")


def matrix(quat):
    """Rotation matrices (n, 3, 3) of quaternions (n, 4), x y z w."""
    x, y, z, w = quat.unbind(1)
    rows = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
        [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
        [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
    ]
    return torch.stack([torch.stack(row, 1) for row in rows], 1)


@pytest.fixture(scope="module")
def stepped(env):
    """What a step gave, and all that its terms can be computed from anew."""
    env.reset(seed=5)
    for _ in range(3):
        before = env.get_state()
        action = 2 * torch.rand(env.num_envs, 8, dtype=DOUBLE) - 1
        obs, reward, _, _, info = env.step(action)
    after = env.get_state()
    q, qd = after["joint_q"], after["joint_qd"]
    turn = matrix(q[:, 3:7])
    robot = env.articulation
    masses = torch.tensor([body.mass for body in robot.description.bodies], dtype=DOUBLE)
    coms = torch.tensor([list(body.com) for body in robot.description.bodies], dtype=DOUBLE)

    def com(q):
        poses = robot.body_poses(q)
        turns = torch.stack([matrix(poses[:, i, 3:]) for i in range(len(coms))], 1)
        return poses[..., :3] + (turns @ coms[..., None])[..., 0]

    joints = [body.joint for body in robot.description.bodies[1:]]
    lower, upper = (
        torch.tensor([getattr(j, name) for j in joints], dtype=DOUBLE)
        for name in ("lower", "upper")
    )
    foot = robot.body_names.index("lower_leg3")
    return {
        "q": q,
        "qd": qd,
        "qd_before": before["joint_qd"],
        "up": turn[:, 2],
        "turn": turn,
        "own_v": (turn.transpose(1, 2) @ qd[:, :3, None])[..., 0],
        "own_w": (turn.transpose(1, 2) @ qd[:, 3:6, None])[..., 0],
        "command": before["command"],
        "action": action,
        "last": before["last_action"],
        "way": (q[:, 0] - before["joint_q"][:, 0]) * 60,
        "com_way": ((com(q) - com(before["joint_q"]))[..., 0] @ masses) / masses.sum() * 60,
        "foot": com(q)[:, foot],
        "limb": foot,
        "other limb": robot.body_names.index("lower_leg1"),
        "contact": env._kinematics()(q, qd)[2],
        "touching": [i for i, body in enumerate(robot.description.bodies) if body.shapes],
        "air": before["air_time"],
        "lower": lower,
        "upper": upper,
        "rest": torch.tensor(env._start_pose()[0][7:]),
        "ankle": robot.q_start[robot.joint_names.index("ankle2")],
        "reward": reward,
        "terms": info["reward_terms"],
        "obs": obs,
    }


def track(e):
    return (e["own_v"][:, :2] - e["command"][:, :2]).square().sum(1)


def turned(e):
    return (e["own_w"][:, 2] - e["command"][:, 2]).square()


def squares(x):
    return x.square().sum(1)


EXPECTED = {
    "progress": lambda e: e["qd"][:, 0],
    "displacement": lambda e: e["way"],
    "com_displacement": lambda e: e["com_way"],
    "pace": lambda e: -(e["qd"][:, 0] - 0.7).abs(),
    "alive": lambda e: torch.ones(len(e["q"]), dtype=DOUBLE),
    "track_velocity": lambda e: torch.exp(-track(e) / 0.25),
    "track_turn": lambda e: torch.exp(-turned(e) / 0.25),
    "velocity_error": track,
    "turn_error": turned,
    "upright": lambda e: e["up"][:, 2],
    "tilt": lambda e: 1 - e["up"][:, 2] ** 2,
    "heading": lambda e: e["turn"][:, 0, 0],
    "height": lambda e: e["q"][:, 2],
    "height_error": lambda e: (e["q"][:, 2] - 0.5) ** 2,
    "bounce": lambda e: e["qd"][:, 2] ** 2,
    "drift": lambda e: e["qd"][:, 1] ** 2,
    "wobble": lambda e: squares(e["own_w"][:, :2]),
    "effort": lambda e: squares(e["action"]),
    "action_rate": lambda e: squares(e["action"] - e["last"]),
    "torque": lambda e: squares(100 * e["action"]),
    "power": lambda e: (100 * e["action"] * e["qd"][:, 6:]).abs().sum(1),
    "joint_speed": lambda e: squares(e["qd"][:, 6:]),
    "joint_acceleration": lambda e: squares((e["qd"] - e["qd_before"])[:, 6:] * 60),
    "joint_limits": lambda e: (
        (e["lower"] + 0.4 - e["q"][:, 7:]).clip(0) + (e["q"][:, 7:] - e["upper"] + 0.4).clip(0)
    ).sum(1),
    "posture": lambda e: squares(e["q"][:, 7:] - e["rest"]),
    "joint_error": lambda e: (e["q"][:, e["ankle"]] - 0.3) ** 2,
    "joint_rate": lambda e: e["qd"][:, e["ankle"] - 1],
    "joint_rate_error": lambda e: (e["qd"][:, e["ankle"] - 1] - 0.3) ** 2,
    "body_height": lambda e: e["foot"][:, 2] - 0.1,
    "distance": lambda e: squares(e["foot"] - torch.tensor([0.3, -0.2, 0.4], dtype=DOUBLE)),
    "contact": lambda e: e["contact"][:, e["limb"], 2],
    "contact_forces": lambda e: squares(e["contact"].flatten(1)),
    "contact_beyond": lambda e: (e["contact"][:, e["other limb"], 2] - 10.0).clip(0),
    "air_time": lambda e: torch.where(
        (e["air"][:, e["limb"]] > 0) & (e["contact"][:, e["limb"], 2] > 1.0),
        e["air"][:, e["limb"]] + 1 / 60 - 0.02,
        0.0,
    ),
}


@pytest.mark.parametrize("name", REWARDS)
def test_a_reward_is_what_its_docstring_says(stepped, name):
    assert torch.allclose(stepped["terms"][name], EXPECTED[name](stepped), rtol=1e-9, atol=1e-12)


def test_the_reward_is_the_sum_of_its_terms_by_name(stepped):
    assert list(stepped["terms"]) == list(REWARDS)
    assert torch.allclose(stepped["reward"], sum(stepped["terms"].values()), rtol=1e-12)


def test_observations_stand_side_by_side(stepped):
    e, joints = stepped, stepped["q"][:, 7:]
    rates = e["qd"][:, 6:]
    own = [e["own_v"], e["own_w"]]
    parts = {
        "height": [e["q"][:, 2:3]],
        "orientation": [e["q"][:, 3:7]],
        "up": [e["up"]],
        "heading": [e["turn"][:, :, 0]],
        "velocities": [e["qd"][:, :6]],
        "own_velocities": own,
        "joint_positions": [joints],
        "joint_velocities": [rates],
        "joints": [joints, rates],
        "joint_q": [e["q"]],
        "joint_qd": [e["qd"]],
        "pose": [e["q"][:, 2:]],
        "action": [e["action"]],
        "command": [e["command"]],
        "velocity": [e["qd"][:, :3]],
        "gyro": [e["own_w"]],
        "contact": [e["contact"][:, e["touching"]].flatten(1)],
    }
    expected = torch.cat([part for name in OBSERVATIONS for part in parts[name]], 1)
    assert torch.allclose(e["obs"], expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(
    ("name", "limits"),
    [
        ("height_below", (2.0,)),
        ("height_above", (-2.0,)),
        ("tilt_above", (1e-4,)),
        ("joint_outside", (None, 5.0, 6.0)),
        ("joint_outside", (None, -6.0, -5.0)),
        ("body_below", (None, 2.0)),
        ("state_beyond", (1e-4,)),
    ],
)
def test_an_end_ends_the_episode_and_alive_is_not_paid(env, name, limits):
    still = torch.zeros(env.num_envs, 8, dtype=DOUBLE)
    env.reset(seed=3)
    _, _, terminated, _, info = env.step(still)
    assert not terminated.any() and (info["reward_terms"]["alive"] == 1).all()
    array = env._terms.end_parameters
    kept = array.numpy().copy()
    changed = kept.copy()
    for k, limit in enumerate(limits):
        if limit is not None:
            changed[list(ENDS).index(name), k] = limit
    array.assign(changed)
    try:
        env.reset(seed=3)
        _, _, terminated, _, info = env.step(still)
    finally:
        array.assign(kept)
    assert terminated.all() and (info["reward_terms"]["alive"] == 0).all()


@pytest.fixture(scope="module")
def planar():
    """The Hopper's asset with the task of Gymnasium's Hopper-v5, at that robot's control step."""
    return warp_envs.make(
        "robot",
        asset=HOPPER,
        num_envs=4,
        dtype=DOUBLE,
        control_step=0.008,
        substeps=4,
        gear=200.0,
        reward={
            "displacement": 1,
            "alive": 1,
            "effort": -1e-3,
            "pitch": {"term": "joint_error", "joint": "root_pitch", "weight": -0.1},
        },
        terminate={"height_below": -0.5, "tilt_above": 57.3, "state_beyond": 100},
        observe=["pose", {"joint_qd": {"clip": 0.04, "scale": 2.0}}],
    )


def test_a_planar_robot_is_not_driven_at_its_root_and_gets_on_by_its_slide(planar):
    assert planar.num_actions == 3 and planar.num_obs == 5 + 6
    before = planar.get_state()["joint_q"]
    action = torch.tensor([[0.5, -0.5, 1.0]] * 4, dtype=DOUBLE)
    obs, reward, _, _, info = planar.step(action)
    state = planar.get_state()
    way = (state["joint_q"][:, 0] - before[:, 0]) / 0.008
    pitch = -0.1 * state["joint_q"][:, 2] ** 2
    assert list(info["reward_terms"]) == ["displacement", "alive", "effort", "pitch"]
    assert torch.allclose(reward, way + 1 - 1e-3 * 1.5 + pitch, rtol=1e-9)
    seen = torch.cat([state["joint_q"][:, 1:], 2 * state["joint_qd"].clip(-0.04, 0.04)], 1)
    assert torch.allclose(obs, seen, rtol=1e-12)


def commanded(**command):
    return warp_envs.make(
        "robot",
        asset=HOPPER,
        num_envs=256,
        reward={"track_velocity": 1, "track_turn": 0.5},
        observe=["command"],
        compiled=False,
        dtype=DOUBLE,
        substeps=1,
        command=command,
    )


def test_commands_are_drawn_anew_in_the_episode_and_continue_from_a_saved_state():
    env = commanded(forward=[0.5, 1.0], turn=[-1, 1], every=0.05, standing=0.25)
    still = torch.zeros(256, 3, dtype=DOUBLE)
    seen = [env.observe()]
    for step in range(7):
        seen.append(env.step(still)[0])
        if step == 1:
            saved = env.get_state()
    for t in (0, 3, 6):  # every third step
        assert torch.equal(seen[t], seen[t + 1])
        assert t == 0 or not torch.equal(seen[t - 1], seen[t])
    command = torch.cat([seen[0], seen[3], seen[6]])
    standing = (command == 0).all(1)
    assert 0.18 < standing.float().mean() < 0.32
    moving = command[~standing]
    assert moving[:, 0].min() >= 0.5 and moving[:, 0].max() <= 1.0 and moving[:, 0].std() > 0.1
    assert (moving[:, 1] == 0).all() and moving[:, 2].abs().max() <= 1 and moving[:, 2].std() > 0.4
    env.set_state(saved)
    for t in range(3, 8):
        assert torch.equal(env.step(still)[0], seen[t])


MESSAGES = [
    ({"reward": {"progres": 1}}, "reward: 'progres' given, one of .* did you mean 'progress'"),
    ({"reward": {"progress": "much"}}, "reward.progress.weight: 'much' given, a number"),
    ({"reward": {"progress": float("nan")}}, "reward.progress.weight: nan given"),
    ({"reward": {"height": {"above": 1}}}, "reward.height.weight: no value given, a number"),
    ({"reward": {"height": {"abov": 1, "weight": 1}}}, "height.abov: 1 given.*mean 'above'"),
    ({"reward": {"pace": 1}}, "reward.pace.speed: no value given, a number"),
    ({"reward": {}}, "reward: {} given, at least one of"),
    ({"reward": ["progress"]}, r"reward: \['progress'\] given, a mapping of terms"),
    ({"reward": {"joint_rate": 1}}, "reward.joint_rate.joint: None given, the name of a joint"),
    (
        {"reward": {"joint_rate": {"joint": "root_y", "weight": 1}}},
        "reward.joint_rate.joint: 'root_y' given, one of .*did you mean 'root_",
    ),
    ({"reward": {"x": {"term": "uprigth", "weight": 1}}}, "reward.x.term: 'uprigth' given"),
    ({"reward": {"track_turn": {"weight": 1, "sigma": 0}}, "command": {"turn": 1}}, "sigma: 0 gi"),
    ({"reward": {"track_turn": 1}}, "reward.track_turn: no command to follow given"),
    ({"terminate": {"height": 1}}, "terminate: 'height' given, one of .*did you mean 'height_"),
    ({"terminate": {"height_below": None}}, "terminate.height_below.limit: no value given"),
    ({"terminate": {"joint_outside": 1}}, "terminate.joint_outside: 1 given, a mapping with"),
    ({"observe": []}, r"observe: \[\] given"),
    ({"observe": ["heigth"]}, "observe: 'heigth' given, one of .* did you mean 'height'"),
    ({"observe": [{"height": {"clip": 0}}]}, "observe.height.clip: 0 given"),
    ({"observe": ["command"]}, "observe.command: no command to follow given"),
    ({"command": {"forwards": 1}}, "command: .* given, a mapping of some of"),
    ({"command": {"forward": [1, 0]}}, r"command.forward: \[1, 0\] given, a number, or"),
    ({"command": {"forward": 1, "every": 0}}, "command.every: 0 given"),
    ({"base": "trunk"}, "base: 'trunk' given, one of"),
    ({"control_step": 0}, "control_step: 0 given"),
]


@pytest.mark.parametrize(("options", "message"), MESSAGES)
def test_a_task_that_cannot_be_is_refused_by_name(options, message):
    with pytest.raises(ValueError, match=message):
        warp_envs.make("robot", asset=HOPPER, num_envs=1, **options)


@pytest.mark.parametrize(
    ("heading", "library"),
    [("Rewards", REWARDS), ("Ends", ENDS), ("Observations", OBSERVATIONS)],
)
def test_the_table_of_the_docs_is_the_library(heading, library):
    text = (Path(__file__).parents[3] / "docs" / "tasks.md").read_text(encoding="utf-8")
    section = text.split(f"### {heading}\n")[1].split("\n#")[0]
    rows = re.findall(r"^\| `(\w+)` \| (.*?) \| (.*?) \| (.*?) \|$", section, flags=re.M)
    expected = []
    for name, term in library.items():
        parameters = ", ".join(
            f"`{p}`" + ("" if default is None else f" ({default:g})")
            for p, default in term.parameters.items()
        )
        expected.append((name, term.doc.replace("|", "\\|"), term.unit, parameters))
    assert rows == expected
