import numpy as np
import pytest

from gippo.studies.reproduction.alpha_policies import (
    ALPHAS,
    POLICIES,
    alpha_policy,
    expected_reward,
    plot_alpha_policies,
    reward_and_gradient,
)

CURVATURE = 2.0 * 5.12**2
"""De Jong's reward is -(5.12 a)^2."""


def test_gradients_are_those_of_de_jongs_function():
    action = np.linspace(-0.9, 0.9, 7)
    reward, gradient = reward_and_gradient("dejong", action)
    np.testing.assert_allclose(reward, -0.5 * CURVATURE * action**2, rtol=1e-12)
    np.testing.assert_allclose(gradient, -CURVATURE * action, rtol=1e-12)


@pytest.mark.parametrize("alpha", ALPHAS["dejong"])
def test_de_jongs_alpha_policy_is_a_narrower_gaussian(alpha):
    """a -> (1 - alpha c) a maps N(m, s^2) to N((1 - alpha c) m, ((1 - alpha c) s)^2)."""
    policy = alpha_policy("dejong", alpha)
    shrunk = 1.0 - alpha * CURVATURE
    mean, std = (shrunk * value for value in POLICIES["dejong"])
    expected = np.exp(-0.5 * ((policy.action - mean) / std) ** 2) / (std * np.sqrt(2.0 * np.pi))
    np.testing.assert_allclose(policy.density, expected, rtol=1e-9)
    np.testing.assert_allclose(policy.determinant, shrunk, rtol=1e-9)
    assert policy.valid
    gain = expected_reward("dejong", alpha) - expected_reward("dejong", 0.0)
    second_moment = POLICIES["dejong"][0] ** 2 + POLICIES["dejong"][1] ** 2
    assert gain == pytest.approx(0.5 * CURVATURE * (1.0 - shrunk**2) * second_moment, rel=0.01)


def test_a_large_alpha_folds_ackleys_policy_and_a_small_one_gains():
    small, _, large = ALPHAS["ackley"]
    assert alpha_policy("ackley", small).valid
    assert not alpha_policy("ackley", large).valid
    assert expected_reward("ackley", small) > expected_reward("ackley", 0.0)


def test_figure_1_is_drawn(tmp_path):
    plot_alpha_policies(tmp_path / "figure.png")
    assert (tmp_path / "figure.png").read_bytes().startswith(b"\x89PNG")
