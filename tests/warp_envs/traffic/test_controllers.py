"""Hand-made controllers: their published numbers, by hand, and what they do to the ring."""

import math

import pytest
import torch

import warp_envs
from warp_envs.checks import ArgumentError
from warp_envs.traffic.controllers import FollowerStopper, HumanDriver, PISaturation
from warp_envs.traffic.ring import RingEnv


def make(num_envs=1, **options):
    return RingEnv(num_envs=num_envs, dtype=torch.float64, **{"warm_up_steps": 0, **options})


def one(value):
    return torch.tensor([value], dtype=torch.float64)


@pytest.mark.parametrize(
    ("speed", "leader", "gap", "command"),
    [
        (4.0, 5.0, 4.4, 0.0),  # the leader is faster: x_k = 4.5, 5.25, 6 m
        (4.0, 5.0, 4.5 + 0.75 / 2, 1.5),  # half of min(5, 3)
        (4.0, 2.0, 4.5 + 4 / 3.0 + 0.1, 2.0 * 0.1 / (0.75 + 2.0 - 4 / 3.0)),
        (4.0, 2.0, 5.25 + 2.0 + 1.0, 2.0 + 1.0 * 1.0 / (0.75 + 2.0)),
        (4.0, 2.0, 6.0 + 4.0 + 0.01, 3.0),
        (4.0, -1.0, 7.0 + 5.0, 0.0),  # never follows backwards
    ],
)
def test_follower_stopper_by_hand(speed, leader, gap, command):
    controller = FollowerStopper(make(), desired_speed=3.0)
    found = controller.acceleration(one(speed), one(leader), one(gap)).item()
    assert found == pytest.approx((command - speed) / 0.1, abs=1e-9)


def test_pi_saturation_by_hand_and_from_the_start_of_an_episode():
    controller = PISaturation(make())
    first = controller.acceleration(one(4.0), one(5.0), one(18.5)).item()
    target = 4.0 + 0.5  # half of the way from 7 to 30 m, and alpha = 1
    assert first == pytest.approx((0.5 * target + 0.5 * 4.0 - 4.0) / 0.1, abs=1e-9)
    command = 4.0 + 0.1 * first
    second = controller.acceleration(one(6.0), one(5.0), one(5.0)).item()  # alpha = 1 / 2
    wanted = 0.75 * (0.5 * 5.0 + 0.5 * 5.0) + 0.25 * command
    assert second == pytest.approx((wanted - 6.0) / 0.1, abs=1e-9)
    controller.reset(torch.tensor([True]))
    again = controller.acceleration(one(4.0), one(5.0), one(18.5)).item()
    assert again == pytest.approx(first, abs=1e-12)


def test_pi_saturation_remembers_38_seconds():
    controller = PISaturation(make())
    for _ in range(380):
        controller.acceleration(one(2.0), one(2.0), one(7.0))
    for _ in range(190):
        controller.acceleration(one(4.0), one(4.0), one(7.0))
    target = 3.0  # the mean of 190 times 2 and 190 times 4, and one 4 more for a 2 below
    found = controller.acceleration(one(4.0), one(4.0), one(7.0)).item()
    last = controller._command.item()
    assert last == pytest.approx(4.0 + 0.1 * found, abs=1e-9)
    assert last == pytest.approx(target, abs=0.02)


def test_a_human_driver_is_the_humans():
    env = make(noise=0.0, max_acceleration=50.0, fail_safe=False, warm_up_steps=300)
    other = make(noise=0.0, autonomous=False, warm_up_steps=300)
    other.set_state(env.get_state())
    controller, nothing = HumanDriver(env), torch.zeros(1, 1, dtype=torch.float64)
    for _ in range(300):
        env.step(controller(env.observe()))
        other.step(nothing)
    assert torch.allclose(env.get_state()["x"], other.get_state()["x"], rtol=0, atol=1e-9)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("controller", "least", "most_spread"),
    [(FollowerStopper, 0.84, 0.2), (PISaturation, 0.95, 0.2)],
)
def test_controllers_remove_the_wave(controller, least, most_spread):
    env = warp_envs.make("ring", num_envs=16, seed=5)
    obs, _ = env.reset(seed=5)
    acting, speeds = controller(env), []
    for step in range(2500):
        obs = env.step(acting(obs))[0]
        if step >= 2000:
            speeds.append(env.get_state()["speed"])
    speeds = torch.stack(speeds)
    assert (speeds.mean(dim=(0, 2)) > least * env.equilibrium_speed()).all()
    assert (speeds.std(dim=(0, 2)) < most_spread).all()


def test_other_environments_and_numbers_are_refused():
    env = warp_envs.make("pace_car", num_envs=1)
    with pytest.raises(ArgumentError, match="policy: FollowerStopper for env=pace_car given"):
        FollowerStopper(env)
    for wrong in (0.0, -1.0, math.nan):
        with pytest.raises(ArgumentError, match=r"policy.desired_speed: .* given"):
            FollowerStopper(make(), desired_speed=wrong)
