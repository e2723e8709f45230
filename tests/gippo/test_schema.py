"""Settings classes made from their source are those of the code, without its imports."""

import dataclasses
import pickle

import pytest

from gippo.configuration.run_config import TrainConfig
from gippo.experience.critic import CriticConfig
from gippo.learner import LearnerConfig
from gippo.methods import config_class, method_class, method_names
from gippo.schema import documentation, option_meanings, real, settings_class, source_of
from gippo.updates.surrogate import PPOConfig
from warp_envs.checks import ArgumentError
from warp_envs.registry import env_ids, env_options, env_source

PAIRS = [(settings_class("gippo.learner", "LearnerConfig"), LearnerConfig)]
PAIRS += [(config_class(name), method_class(name).config_class) for name in method_names()]


@pytest.mark.parametrize(("light", "own"), PAIRS)
def test_fields_defaults_and_documentation_are_the_same(light, own):
    assert light is not own
    assert dataclasses.asdict(light()) == dataclasses.asdict(own())
    assert documentation(light) == documentation(own)
    assert [f.name for f in dataclasses.fields(light)] == [f.name for f in dataclasses.fields(own)]
    assert real(light()) == own()
    assert source_of(light) == source_of(own) == (own.__module__, own.__qualname__)


def test_the_checks_are_the_same():
    light = settings_class("gippo.experience.critic", "CriticConfig")
    for options in ({"betas": [0.9, 1.0]}, {"hidden": []}, {"target_rate": 2.0}):
        said = []
        for cls in (light, CriticConfig):
            with pytest.raises(ArgumentError) as caught:
                cls(**options)
            said.append(str(caught.value))
        assert said[0] == said[1]


def test_parts_become_those_of_the_code():
    settings = real(dataclasses.replace(PAIRS[0][0](), horizon=7))
    assert type(settings) is LearnerConfig and type(settings.critic) is CriticConfig
    assert settings.horizon == 7


def test_a_class_is_made_once_and_pickled_by_name():
    assert config_class("ppo") is settings_class("gippo.updates.surrogate", "PPOConfig")
    assert config_class("ppo") is not PPOConfig
    settings = config_class("gippo")()
    again = pickle.loads(pickle.dumps(settings))
    assert again == settings and type(again) is type(settings)


def test_classes_of_the_code_are_documented_as_well():
    assert documentation(TrainConfig)["seed"].startswith("Of everything random")


@pytest.mark.parametrize("env_id", env_ids())
def test_every_option_of_an_environment_has_a_meaning(env_id):
    meanings = option_meanings(*env_source(env_id))
    assert {"num_envs", *env_options(env_id)} <= set(meanings)
