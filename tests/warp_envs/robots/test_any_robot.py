"""Any robot from a file as an environment."""

import pytest
import torch

import warp_envs
from warp_envs.articulation.stiffness import advised_substeps
from warp_envs.robots.base import asset_path
from warp_envs.usd.loader import load_robot

HOPPER = asset_path("hopper.usda")
ANT = asset_path("ant.usda")


def test_joints_are_driven_in_the_order_of_their_names():
    named = warp_envs.make("robot", asset=str(HOPPER), num_envs=2, actuated=["foot", "thigh"])
    assert named.num_actions == 2
    still = {name: torch.zeros(2, 6) for name in ("joint_q", "joint_qd")}
    still["joint_q"][:, 1] = 5.0  # in the air, where only the driven joints feel a force
    named.set_state(still)
    named.step(torch.tensor([[1.0, 0.0], [0.0, 1.0]]))
    moved = named.get_state()["joint_qd"]
    assert moved[0, 5] > 0 and moved[1, 3] > 0


def test_observation_is_the_joint_state_and_reward_progress_less_effort():
    env = warp_envs.make("robot", asset=ANT, num_envs=3, gear=50.0)
    actions = (2 * torch.rand(3, 8) - 1).requires_grad_()
    obs, reward, terminated, truncated, info = env.step(actions)
    state = env.get_state()
    assert torch.equal(obs, torch.cat([state["joint_q"], state["joint_qd"]], 1))
    terms = info["reward_terms"]
    assert torch.equal(terms["progress"], state["joint_qd"][:, 0])
    assert torch.allclose(terms["effort"], -0.1 * actions.square().sum(1))
    assert not terminated.any() and not truncated.any()
    (gradient,) = torch.autograd.grad(obs.sum() + reward.sum(), actions)
    assert gradient.abs().min() > 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"asset": "nowhere.usda"}, "nowhere.usda"),
        ({"asset": HOPPER, "actuated": ["elbow"]}, "actuated: 'elbow' given, hinges and slides"),
        ({"asset": HOPPER, "actuated": ["leg", "leg"]}, "actuated: 'leg' twice given, each joint"),
        ({"asset": HOPPER, "actuated": []}, r"actuated: \[\] given, a list of any of"),
        ({"asset": HOPPER, "control_step": 1e9}, r"control_step: .* substeps .* one of at most"),
        ({"asset": HOPPER, "substeps": 10**9}, "substeps: 1000000000 given"),
        ({"asset": HOPPER, "gear": float("nan")}, "gear: nan given"),
        ({"asset": HOPPER, "substeps": 0}, "substeps: 0 given"),
        ({"asset": HOPPER, "compiled": "yes"}, "compiled: 'yes' given"),
        ({"asset": 7}, "asset: 7 given, the path of a robot's file accepted"),
        ({"asset": HOPPER, "legs": 2}, "legs: no option of 'robot' given"),
    ],
)
def test_refused_by_name(options, message):
    with pytest.raises(ValueError, match=message):
        warp_envs.make("robot", num_envs=2, **options)


def test_an_asset_is_asked_for():
    with pytest.raises(ValueError, match="asset"):
        warp_envs.make("robot", num_envs=2)


LEASH = """<mujoco><worldbody><site name="peg" pos="0 0 2"/>
<body name="trunk" pos="0 0 1"><freejoint/><geom type="box" size="0.1 0.1 0.05"/>
<body name="arm" pos="0.1 0 0"><joint name="elbow" axis="0 1 0" damping="30"/>
<geom type="capsule" fromto="0 0 0 0.2 0 0" size="0.01"/><site name="tip" pos="0.2 0 0"/></body>
</body></worldbody>
<tendon><spatial stiffness="900" springlength="0 1"><site site="peg"/><site site="tip"/></spatial>
</tendon></mujoco>"""


def test_a_leash_below_the_base_and_a_stiff_damper(tmp_path):
    (tmp_path / "leash.xml").write_text(LEASH)
    options = {"asset": tmp_path / "leash.xml", "num_envs": 2, "observe": ["height", "joint_qd"]}
    still = {"keyframe": None, "spread": 0.0, "speed_spread": 0.0}
    env = warp_envs.make(
        "robot", implicit_damping=True, compiled=False, ground="flat", start=still, **options
    )
    assert env.substeps < advised_substeps(load_robot(env.asset_path), env.control_step)
    env.reset()
    for _ in range(60):
        obs, *_, info = env.step(torch.zeros(2, 1))
        assert not info["diverged"].any()
    assert obs[0, 0] > 0.3, "the leash does not hold it"


def test_whether_damping_is_implicit_is_a_flag():
    with pytest.raises(ValueError, match="implicit_damping: 2 given"):
        warp_envs.make("robot", asset=HOPPER, num_envs=2, implicit_damping=2)
