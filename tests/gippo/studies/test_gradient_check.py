import pytest
import torch

from gippo.environment import make_env
from gippo.studies.gradient_check import check_env_gradient


def check(env, **changes):
    options = {"num_steps": 2, "action_scale": 0.8, "step_size": 1e-6, "seed": 0}
    return check_env_gradient(env, **{**options, **changes})


def make(name: str, **options):
    return make_env({"id": name, "num_envs": 3, **options}, seed=0, dtype=torch.float64)


def test_a_right_gradient_passes():
    checks = check(make("ackley", dim=3))
    assert [c.step for c in checks] == [0, 1]
    assert max(c.error for c in checks) < 1e-6
    assert all(c.count == 9 and c.kinks == 0 for c in checks)


def test_a_wrong_gradient_is_found(monkeypatch):
    env = make("dejong", dim=2)
    right = env.step

    def wrong(actions):
        obs, reward, *rest = right(actions)
        return obs, reward + 0.01 * (actions.sum(1) - actions.detach().sum(1)), *rest

    monkeypatch.setattr(env, "step", wrong)
    assert max(c.error for c in check(env)) > 1e-4


def test_kinks_are_counted_and_not_compared(monkeypatch):
    env = make("dejong", dim=1)
    right = env.step
    edge = 1e-7

    def bent(actions):
        obs, reward, *rest = right(actions)
        return obs, reward + 10.0 * (actions - centre - edge).abs().sum(1), *rest

    generator = torch.Generator().manual_seed(0)
    centre = 0.8 * (torch.rand(1, 3, 1, dtype=torch.float64, generator=generator)[0] * 2 - 1)
    monkeypatch.setattr(env, "step", bent)
    (only,) = check(env, num_steps=1)
    assert only.kinks == 3
    assert only.error == pytest.approx(0.0)
