import pytest
from omegaconf import OmegaConf

from gippo.experience.critic import CriticConfig
from gippo.learner import LearnerConfig
from gippo.methods.ahac import AHACConfig
from gippo.methods.gippo import GIPPOConfig
from gippo.methods.lr import LRConfig
from gippo.methods.rp import RPConfig
from gippo.methods.sapo import SAPOConfig
from gippo.methods.shac import SHACConfig
from gippo.networks.perceptron import ActorConfig
from gippo.updates.alpha import AlphaConfig
from gippo.updates.retries import RetryConfig
from gippo.updates.surrogate import PPOConfig

ALL = (
    ActorConfig,
    CriticConfig,
    LearnerConfig,
    LRConfig,
    RPConfig,
    PPOConfig,
    AlphaConfig,
    GIPPOConfig,
    SHACConfig,
    AHACConfig,
    SAPOConfig,
)


@pytest.mark.parametrize("config_class", ALL)
def test_every_config_is_a_structured_config(config_class):
    node = OmegaConf.structured(config_class)
    assert OmegaConf.to_object(OmegaConf.create(OmegaConf.to_yaml(node))) is not None
    assert OmegaConf.to_object(node) == config_class()


def test_overrides_are_checked_when_the_object_is_made():
    node = OmegaConf.merge(OmegaConf.structured(LearnerConfig), {"critic": {"iterations": 0}})
    with pytest.raises(ValueError, match=r"critic\.iterations: 0 given, an integer of at least 1"):
        OmegaConf.to_object(node)


@pytest.mark.parametrize(
    ("config_class", "options"),
    [
        (ActorConfig, {"hidden": []}),
        (ActorConfig, {"hidden": [64, 0]}),
        (CriticConfig, {"betas": [0.9]}),
        (CriticConfig, {"betas": [0.9, 1.0]}),
        (CriticConfig, {"target_rate": 1.2}),
        (LearnerConfig, {"horizon": 0}),
        (LearnerConfig, {"horizon": True}),
        (LearnerConfig, {"gamma": 0.0}),
        (LearnerConfig, {"gae_lambda": 0.0}),
        (LearnerConfig, {"normalize_obs": 1}),
        (LRConfig, {"learning_rate": 0.0}),
        (LRConfig, {"schedule": "adaptive"}),
        (RPConfig, {"gae_lambda": 1.1}),
        (PPOConfig, {"schedule": "cosine"}),
        (PPOConfig, {"clip": 1.0}),
        (PPOConfig, {"learning_rate": float("nan")}),
        (PPOConfig, {"max_learning_rate": 1e-7}),
        (PPOConfig, {"max_grad_norm": 0.0}),
        (RetryConfig, {"factor": 1.0}),
        (RetryConfig, {"retries": -1}),
        (PPOConfig, {"minibatch_size": 0}),
        (AlphaConfig, {"alpha_0": 2.0}),
        (AlphaConfig, {"alpha_0": float("inf")}),
        (AlphaConfig, {"beta": 1.0}),
        (AlphaConfig, {"delta_oorr": -0.1}),
        (AlphaConfig, {"bias_test": "loose"}),
    ],
)
def test_a_value_out_of_range_is_named_with_what_is_accepted(config_class, options):
    (key,) = options
    with pytest.raises(ValueError, match=rf"{key}: .* given, .* accepted"):
        config_class(**options)


def test_the_edges_of_ranges_are_accepted():
    LearnerConfig(gamma=1.0, gae_lambda=1.0)
    AlphaConfig(alpha_0=1.0, delta_det=1.0, delta_oorr=1.0)
    PPOConfig(max_grad_norm=None, min_learning_rate=1e-3, max_learning_rate=1e-3)
