"""How often the host waits for a GPU in an epoch, counted on a stand-in for its memory."""

import pytest
import torch

import warp_envs
from tests.gippo.device_stand_in import DEVICE, DeviceStandIn, waits_of_an_epoch
from tests.gippo.networks.graph_stand_in import as_on_a_gpu
from warp_envs.traffic import TrafficSim

SMALL = ["env=dejong", "env.dim=2", "learner.horizon=4", "learner.critic.iterations=2"]
SMALL += ["learner.actor.hidden=[4]", "learner.critic.hidden=[4]"]

OF_EVERY_EPOCH = {
    "critic.py:fit": 1,  # whether all is finite
    "window.py:nonfinite_update": 1,  # the same of the update
    "statistics.py:update": 1,  # rewards and ends of episodes
    "window.py:as_floats": 1,  # all metrics
}
OF_A_METHOD = {
    "gippo": {"alpha.py:alpha_statistics": 1},
    "gippo_adaptive": {"gippo_adaptive.py:update": 1, "natural_step.py:move": 1},
    "ppo": {},
    "ppo algo.schedule=adaptive": {"surrogate.py:attempt": 1},
    "pe": {},
    "lr": {},
    "rp": {},
    "lr_rp": {},
    "shac": {},
    "ahac": {"ahac.py:update": 1},
    "sapo": {"sapo.py:_next": 2},
}


@pytest.mark.parametrize(
    "method",
    [
        pytest.param(method, marks=[] if own or method == "ppo" else pytest.mark.slow)
        for method, own in OF_A_METHOD.items()
    ],
)
def test_the_host_waits_where_it_decides_and_for_the_metrics(method):
    waits, metrics = waits_of_an_epoch(*SMALL, *f"algo={method}".split())
    expected = {**OF_EVERY_EPOCH, **OF_A_METHOD[method]}
    retries = sum(int(value) for name, value in metrics.items() if name.endswith("_retries"))
    if method != "gippo_adaptive":  # of each attempt at the update whether it is one
        expected["retries.py:_judge"] = (2 if method == "gippo" else 1) + retries
    if "surrogate.py:attempt" in expected:
        expected["surrogate.py:attempt"] += retries
    found = {place.split("/")[-1].partition(" ")[0]: number for place, number in waits.items()}
    assert found == expected


def test_a_step_waits_for_nothing(monkeypatch):
    device = DeviceStandIn()
    with device.active():
        as_on_a_gpu(monkeypatch)
        env = warp_envs.make("dejong", dim=2, num_envs=4, device=str(DEVICE), seed=0)
        traffic = TrafficSim(2, 2, 3, device=str(DEVICE))
        actions = torch.zeros(3, 4, 2, device=DEVICE, requires_grad=True)
        # The first step looks at what kernels have written; the second window takes more slots, as
        # the first one's rewards are still there.
        for _ in range(3):
            device.waits.clear()
            env.detach()
            rewards = torch.stack([env.step(action)[1] for action in actions])
            torch.autograd.grad(rewards.sum(), actions)
            traffic.run(2)
    assert not device.waits


def test_the_stand_in_counts_what_a_gpu_is_waited_for():
    device = DeviceStandIn()
    with device.active():
        x = torch.arange(4.0, device=DEVICE) - 1.0
        y = torch.where(x > 0.0, x, 0.0).sum()
        x[x > 2.0] = 0.0
        assert not device.waits and y.device == DEVICE
        waiting = [
            lambda: bool(y > 0.0),
            y.item,
            y.cpu,
            lambda: x.to("cpu"),
            x.tolist,
            x.numpy,
            lambda: x[x > 0.0],
            x.nonzero,
            lambda: x[torch.tensor([0, 1])],
            lambda: torch.tensor([1.0], device=DEVICE),
            lambda: x.copy_(torch.ones(4)),
            lambda: torch.ones(4).to(DEVICE),
        ]
        for number, wait in enumerate(waiting, 1):
            wait()
            assert device.waits.total() == number, wait
        host = torch.ones(4)
        with pytest.raises(RuntimeError, match="on the device and on the host"):
            x + host
        assert device.holds(x * 2.0) and not device.holds(host)
