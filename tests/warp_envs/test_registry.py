"""Environments by name and by reference, the project's and others'."""

import inspect

import gymnasium
import pytest
import torch

import warp_envs
from tests.warp_envs.toy import Spring
from warp_envs.checks import ArgumentError
from warp_envs.registry import _ENVS, env_class, env_options, gymnasium_id
from warp_envs.robots.base import ArticulatedEnv
from warp_envs.vector_env import DifferentiableVectorEnv

TOY = "tests.warp_envs.toy:Spring"


@pytest.fixture
def registered():
    before = dict(_ENVS)
    yield
    for name in set(_ENVS) - set(before):
        del _ENVS[name]
        del gymnasium.registry[gymnasium_id(name)]


@pytest.mark.parametrize("env_id", warp_envs.env_ids())
def test_gymnasium_is_told_the_time_limit_of_each_class(env_id):
    spec = gymnasium.spec(gymnasium_id(env_id))
    assert spec.max_episode_steps == env_class(env_id).max_episode_steps


def test_an_environment_from_elsewhere_is_made_by_reference():
    env = warp_envs.make(TOY, num_envs=2)
    assert type(env) is Spring and env.num_envs == 2
    with pytest.raises(ArgumentError, match="colour: no option of") as caught:
        warp_envs.make(TOY, num_envs=2, colour="red")
    assert caught.value.key == "colour"


def test_a_registered_environment_is_known_by_name_to_make_and_gymnasium(registered):
    warp_envs.register("toy", Spring)
    warp_envs.register("toy_of_text", TOY)
    assert {"toy", "toy_of_text"} <= set(warp_envs.env_ids())
    for name in ("toy", "toy_of_text"):
        assert type(warp_envs.make(name, num_envs=2)) is Spring
        assert type(gymnasium.make_vec(gymnasium_id(name), num_envs=2)) is Spring
    warp_envs.register("toy", Spring)  # once more is no mistake


@pytest.mark.parametrize(
    ("name", "env", "message"),
    [
        ("ant", Spring, "name: 'ant' given, a name that is not taken"),
        ("Toy", Spring, "name: 'Toy' given, lower-case"),
        ("toy", "toy", "env: 'toy' given, a class or 'module:Class'"),
        ("toy", dict, "env: dict given, a subclass of warp_envs.DifferentiableVectorEnv"),
    ],
)
def test_what_cannot_be_registered_is_named(name, env, message):
    with pytest.raises(ArgumentError, match=message):
        warp_envs.register(name, env)
    assert warp_envs.env_ids() == tuple(_ENVS) and "toy" not in _ENVS


@pytest.mark.parametrize(
    ("reference", "parts"),
    [
        ("nowhere.at_all:Env", ["there is no 'nowhere'", "folder that commands are started from"]),
        ("tests.warp_envs.toy:Sprin", ["a class of tests.warp_envs.toy", "did you mean 'Spring'"]),
        ("pathlib:Path", ["a subclass of warp_envs.DifferentiableVectorEnv"]),
        ("cartpoel", ["did you mean 'cartpole'"]),
    ],
)
def test_a_reference_to_nothing_is_told_as_what_it_is(reference, parts):
    with pytest.raises(ArgumentError) as caught:
        warp_envs.make(reference, num_envs=1)
    assert caught.value.key == "env_id"
    for part in parts:
        assert part in str(caught.value)


def test_what_is_registered_is_checked_as_soon_as_it_is_there(registered):
    class Half(Spring):
        record_step = DifferentiableVectorEnv.record_step

    class Nameless(ArticulatedEnv):
        record_observation = Spring.record_observation
        record_outcome = Spring.record_outcome

    for env, said in {
        Half: "Half.record_step: nothing",
        Nameless: "Nameless.name: nothing",
    }.items():
        with pytest.raises(ArgumentError, match=said):
            warp_envs.register("half", env)
        assert "half" not in warp_envs.env_ids()
    warp_envs.register("toy", "tests.warp_envs.toy:Sprin")
    with pytest.raises(ArgumentError, match=r"did you mean 'Spring'\?; it is registered as 'toy'"):
        warp_envs.make("toy", num_envs=1)


def test_an_error_inside_the_module_is_its_own(tmp_path, monkeypatch):
    (tmp_path / "broken_env_module.py").write_text("import no_such_module_at_all\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ModuleNotFoundError, match="no_such_module_at_all"):
        warp_envs.make("broken_env_module:Env", num_envs=1)


def test_options_come_with_their_defaults():
    robots = {"compiled": None, "mass_matrix_every": 1, "parameters": (), "randomize": None}
    robots.update(action_delay=0, observation_noise=0.0, randomize_observed=None)
    assert env_options("cartpole") == {"max_episode_steps": 240, **robots}
    assert env_options("robot")["asset"] is inspect.Parameter.empty
    with pytest.raises(ArgumentError, match="asset: not given, but 'robot' needs it"):
        warp_envs.make("robot", num_envs=1)


def test_the_package_names_what_it_imports_when_asked():
    for name in warp_envs.__all__:
        assert name in dir(warp_envs)
        if name != "Arrays":  # a dictionary's type
            assert getattr(warp_envs, name).__module__.startswith("warp_envs.")
    with pytest.raises(AttributeError, match="no attribute 'Articulatoin'"):
        _ = warp_envs.Articulatoin
    assert warp_envs.make("dejong", num_envs=1).observe().dtype is torch.float32


@pytest.mark.parametrize(
    "env_id", ["dejong", "cartpole", "hopper", "ant", "half_cheetah", "pace_car"]
)
def test_an_environment_tells_what_each_of_its_numbers_is(env_id):
    env = warp_envs.make(env_id, num_envs=1)
    assert sum(quantity.count for quantity in env.obs_quantities) == env.num_obs
    assert sum(quantity.count for quantity in env.action_quantities) == env.num_actions
