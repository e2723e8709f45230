"""The pace car: the specification's numbers, its terminations, and what its gradients leave out."""

import math

import pytest
import torch

from warp_envs.traffic.models import TREIBER_2000
from warp_envs.traffic.pace_car import PaceCarEnv
from warp_envs.traffic.simulator import TrafficSim


def make(num_lanes=2, num_vehicles=4, num_envs=1, dtype=torch.float64, **options):
    return PaceCarEnv(
        num_envs=num_envs, num_lanes=num_lanes, num_vehicles=num_vehicles, dtype=dtype, **options
    )


def rows(*values: float) -> torch.Tensor:
    return torch.tensor([values], dtype=torch.float64)


def place(env, **changes: torch.Tensor) -> None:
    env.set_state({**env.get_state(), **changes})


NOTHING = rows(0.0, 0.0)


@pytest.mark.parametrize(
    ("lanes", "vehicles", "per_lane"),
    [(1, 1, [1]), (2, 4, [2, 2]), (3, 9, [3, 3, 3]), (2, 5, [3, 2]), (10, 10, [1] * 10)],
)
def test_start(lanes, vehicles, per_lane):
    env = make(lanes, vehicles, num_envs=400)
    state = env.get_state()
    x, y = state["x"], state["y"]
    expected = [(10.0 * j, 4.0 * lane) for lane, n in enumerate(per_lane) for j in range(n)]
    assert x[7, 1:].tolist() == [place[0] for place in expected]
    assert y[7, 1:].tolist() == [place[1] for place in expected]
    lane = (y[:, 0] / 4.0).long()
    foremost = 10.0 * (torch.tensor(per_lane, dtype=torch.float64) - 1.0)
    assert torch.equal(x[:, 0], foremost[lane] + 50.0)
    share = torch.bincount(lane, minlength=lanes) / 400.0
    assert (share - 1.0 / lanes).abs().max() < 0.1
    assert (state["speed"] == 0.0).all()
    assert (state["heading"] == 0.0).all()


def test_one_step_by_hand():
    env = make(1, 1)
    place(env, x=rows(30.0, 0.0), y=rows(0.5, 0.0), speed=rows(10.0, 8.0), heading=rows(0.1, 0.0))
    obs, reward, terminated, _, info = env.step(rows(0.5, -0.25))
    beta = math.atan(0.5 * math.tan(math.radians(-5.0)))
    x = 30.0 + 10.0 * math.cos(0.1 + beta) * 0.03
    y = 0.5 + 10.0 * math.sin(0.1 + beta) * 0.03
    heading = 0.1 + 10.0 * math.sin(beta) / 2.5 * 0.03
    speed = 10.0 + 4.0 * 0.03
    desired = 1.5 + 8.0 * 0.4 + 8.0 * (8.0 - 10.0) / (2.0 * math.sqrt(35.0 * 25.0))
    rate = 35.0 * (1.0 - (8.0 / 20.0) ** 4 - (desired / 25.0) ** 2)
    human = 8.0 + rate * 0.03
    state = env.get_state()
    found = [state[name][0].tolist() for name in ("x", "y", "speed", "heading")]
    expected = [[x, 0.24], [y, 0.0], [speed, human], [heading, 0.0]]
    assert torch.allclose(torch.tensor(found), torch.tensor(expected), rtol=0, atol=1e-6)
    velocity = [speed * math.cos(heading), human, speed * math.sin(heading), 0.0]
    assert obs[0].tolist() == pytest.approx([0.0, 0.24 - x, 0.0, -y, *velocity], abs=1e-12)
    assert reward.item() == pytest.approx(1.0 - abs(human - 10.0) / 10.0, abs=1e-12)
    assert not terminated.item()
    assert info["reward_terms"]["terminated"].item() == 0.0


def test_human_vehicles_are_those_of_the_traffic_simulator():
    env = make(3, 9)
    place(env, y=env.get_state()["y"].index_fill(1, torch.tensor(0), 0.0))
    place(env, x=env.get_state()["x"].index_fill(1, torch.tensor(0), 70.0))
    place(env, speed=env.get_state()["speed"].index_fill(1, torch.tensor(0), 15.0))
    state = env.get_state()
    traffic = TrafficSim(1, 3, 10, dtype=torch.float64, dt=env.physics.dt, **env.physics.idm)
    traffic.set_state({name: state[name] for name in ("x", "y", "speed")})
    command = torch.full((1, 10), math.nan, dtype=torch.float64)
    for step in range(150):
        push = 0.1 if step < 100 else -0.2
        assert not env.step(rows(push, 0.0))[2].item()
        command[0, 0] = 8.0 * push
        alike = traffic.step(command)
        state = env.get_state()
        assert torch.allclose(alike["x"], state["x"], rtol=0, atol=1e-9)
        assert torch.allclose(alike["speed"], state["speed"], rtol=0, atol=1e-9)


@pytest.mark.parametrize(
    ("car", "why"),
    [
        ((12.0, 1.0), "collision: 2.24 m from a vehicle"),
        ((40.0, 6.1), "off the road"),
        ((40.0, -2.1), "off the road on the other side"),
        ((110.1, 0.0), "too far ahead"),
        ((9.0, 4.0), "a vehicle of the other lane is ahead"),
    ],
)
def test_termination(car, why):
    env = make(2, 3)  # vehicles at 0 and 10 in lane 0, at 0 in lane 1
    place(env, x=rows(car[0], 0.0, 10.0, 0.0), y=rows(car[1], 0.0, 0.0, 4.0))
    obs, reward, terminated, truncated, info = env.step(NOTHING)
    assert terminated.item(), why
    assert not truncated.item()
    assert reward.item() == -1.0
    assert info["reward_terms"]["speed"].item() == 0.0
    assert info["final_obs"][0, 2].item() == pytest.approx(10.0 - car[0])
    assert obs[0, 0].item() == 0.0
    assert env.get_state()["x"][0, 0] >= 50.0  # it has started anew


@pytest.mark.parametrize("car", [(12.6, 0.0), (40.0, 5.9), (40.0, 2.0), (109.9, 0.0), (10.0, 4.0)])
def test_no_termination_just_short_of_it(car):
    env = make(2, 3)
    place(env, x=rows(car[0], 0.0, 10.0, 0.0), y=rows(car[1], 0.0, 0.0, 4.0))
    assert not env.step(NOTHING)[2].item()


def test_reward_clips_each_deviation_or_their_mean():
    speeds = rows(0.0, 40.0, 10.0)  # deviations 3 and 0, before the IDM acts
    rewards = {}
    for clip in ("each", "mean"):
        env = make(2, 2, reward_clip=clip)
        place(env, x=rows(70.0, 0.0, 0.0), y=rows(0.0, 0.0, 4.0), speed=speeds)
        rewards[clip] = env.step(NOTHING)[1].item()
        left = (env.get_state()["speed"][0, 1:] - 10.0).abs() / 10.0
        expected = 1.0 - (left.clamp(max=1).mean() if clip == "each" else left.mean().clamp(max=1))
        assert rewards[clip] == pytest.approx(expected.item(), abs=1e-12)
    assert rewards["each"] > rewards["mean"] + 0.1


def test_the_speed_limit_cuts_only_what_leads_beyond_it():
    env = make(1, 1)
    for speed, push, expected in (
        (39.99, 1.0, 40.0),
        (40.0, -1.0, 39.76),
        (50.0, 1.0, 50.0),
        (50.0, -1.0, 49.76),
        (-39.9, -1.0, -40.0),
        (5.0, 1.0, 5.24),
    ):
        place(env, speed=rows(speed, 0.0), x=rows(60.0, 0.0))
        env.step(rows(push, 0.0))
        assert env.get_state()["speed"][0, 0].item() == pytest.approx(expected, abs=1e-9)


def test_driving_straight_and_standing_score_what_was_measured_before():
    """Returns of an independent implementation of the same specification."""
    for lanes, vehicles, expected in ((1, 1, 52), (2, 4, 73), (4, 16, 131), (10, 10, 16)):
        env = make(lanes, vehicles, num_envs=4, dtype=torch.float32)
        straight = torch.zeros(4)
        for _ in range(1000):
            speed = env.get_state()["speed"][:, 0]
            push = ((20.0 - speed) / 0.24).clamp(-1.0, 1.0)
            reward, terminated = env.step(torch.stack([push, torch.zeros(4)], dim=1))[1:3]
            assert not terminated.any()
            straight += reward
        assert straight.mean().item() == pytest.approx(expected, abs=0.5)
        assert straight.std() < 0.01
    env.reset()
    lengths = [k for k in range(1, 200) if env.step(torch.zeros(4, 2))[2].all()]
    assert lengths[0] == 95


# Gradients ----------------------------------------------------------------------------------------


def final_state(env, x, y, speed, heading, *actions):
    env.set_state({"x": x, "y": y, "speed": speed, "heading": heading})
    rewards = [env.step(action)[1] for action in actions]
    last = env._state
    return last, torch.stack(rewards)


@pytest.mark.parametrize("realistic", [False, True])
def test_along_the_lane_against_central_differences(realistic):
    env = make(2, 4, realistic=realistic)
    start = (
        rows(45.0, 2.0, 13.0, 1.0, 12.0),
        rows(0.3, 0.0, 0.0, 4.0, 4.0),
        rows(9.0, 7.0, 8.0, 6.0, 9.0),
        rows(0.05, 0.0, 0.0, 0.0, 0.0),
    )
    generator = torch.Generator().manual_seed(1)
    actions = [
        torch.rand(1, 2, generator=generator, dtype=torch.float64) * 0.6 - 0.3 for _ in range(4)
    ]
    arguments = [tensor.clone().requires_grad_() for tensor in (*start, *actions)]
    assert torch.autograd.gradcheck(
        lambda *tensors: final_state(env, *tensors), arguments, rtol=1e-6, atol=1e-6
    )


def test_gradients_do_not_see_the_lane_edge():
    """Steering into a lane slows its vehicle; the gradient, biased, does not say so."""
    env = make(2, 2)
    x, speed, heading = rows(26.0, 0.0, 15.0), rows(10.0, 15.0, 15.0), rows(0.0, 0.0, 0.0)

    def human_speed(edge):
        # The car starts 1 mm short of the edge between the lanes, plus `edge`.
        y = torch.cat([edge - 0.001 + 2.0, rows(0.0, 4.0)], dim=1)
        last, _ = final_state(env, x, y, speed, heading, NOTHING)
        return last[0, 3 * 2 + 2]  # of the vehicle in lane 1

    edge = rows(0.0).requires_grad_()
    (gradient,) = torch.autograd.grad(human_speed(edge), edge)
    difference = (human_speed(rows(0.002)) - human_speed(rows(-0.002))) / 0.004
    assert gradient.item() == 0.0
    assert difference.item() < -10.0


def test_finite_at_rest_and_when_touching():
    env = make(1, 2)
    state = [rows(8.0, 5.0, 0.0), rows(0.0, 0.0, 0.0), rows(0.0, 0.0, 0.0), rows(0.0, 0.0, 0.0)]
    inputs = [tensor.requires_grad_() for tensor in (*state, rows(0.0, 0.0))]
    last, rewards = final_state(env, *inputs)
    gradients = torch.autograd.grad(last.sum() + rewards.sum(), inputs)
    assert all(torch.isfinite(gradient).all() for gradient in gradients)


# The realistic preset and refusals ----------------------------------------------------------------


def test_the_realistic_preset():
    env = make(2, 2, realistic=True)
    assert env.physics.dt == 0.1
    assert env.physics.idm == TREIBER_2000
    place(env, speed=rows(0.1, 0.0, 0.0))
    env.step(rows(-1.0, 0.0))
    assert env.get_state()["speed"][0, 0].item() == 0.0  # no reversing


@pytest.mark.parametrize(
    ("x", "y", "heading", "collides"),
    [
        (14.9, 0.0, 0.0, True),  # bumper to bumper, 5 m between centres
        (15.1, 0.0, 0.0, False),
        (10.5, 1.7, 0.0, True),  # side by side, 1.8 m wide
        (10.5, 1.9, 0.0, False),
        (13.5, 1.9, math.pi / 2, False),  # across, ahead
        (13.3, 1.9, math.pi / 2, True),
        (14.0, 2.3, math.pi / 4, True),  # its tail is close
        (14.0, 2.3, -math.pi / 4, False),  # a corner apart: only the turned axes tell
        (12.0, 1.5, -math.pi / 4, True),
    ],
)
def test_boxes_collide(x, y, heading, collides):
    env = make(2, 1, realistic=True)
    place(env, x=rows(x, 10.0), y=rows(y, 0.0), heading=rows(heading, 0.0))
    assert env.step(NOTHING)[2].item() is collides


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_lanes": 0}, "num_lanes: 0 given"),
        ({"num_vehicles": 1.5}, "num_vehicles: 1.5 given"),
        ({"realistic": 1}, "realistic: 1 given"),
        ({"reward_clip": "all"}, "reward_clip: 'all' given"),
    ],
)
def test_options_that_it_refuses(options, message):
    with pytest.raises(ValueError, match=message):
        make(**options)
