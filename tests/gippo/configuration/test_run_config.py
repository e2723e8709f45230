import importlib
import inspect
import pickle
import re
import shutil
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf

import warp_envs
from gippo.cli import main
from gippo.configuration.compose import choices, config_dir, configure
from gippo.configuration.run_config import TrainConfig, algo_schema, load_config, save_config
from gippo.environment import make_env
from gippo.errors import UserError
from gippo.methods import method_class, method_names
from gippo.methods.gippo import GIPPOConfig
from gippo.updates.surrogate import PPOConfig
from warp_envs.checks import near_matches
from warp_envs.registry import _CHECKS


def train(*overrides: str) -> TrainConfig:
    return configure("train", TrainConfig, overrides)


def refusal(*overrides: str) -> str:
    with pytest.raises(UserError) as caught:
        train(*overrides)
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_cartpole_is_the_papers_but_for_the_constant_rate():
    config = train()
    assert (config.env["id"], config.env["num_envs"]) == ("cartpole", 64)
    assert (config.num_epochs, config.learner.horizon) == (500, 32)
    assert config.learner.actor.hidden == config.learner.critic.hidden == [64, 64]
    method = config.method_config
    assert type(method) is GIPPOConfig
    assert (method.alpha.alpha_0, method.alpha.learning_rate) == (0.5, 1e-2)
    assert (method.alpha.beta, method.alpha.delta_oorr) == (1.02, 0.75)
    assert (method.ppo.learning_rate, method.ppo.schedule) == (3e-4, "constant")


def test_the_papers_experiment_brings_its_adaptive_rate_to_ppo_and_gippo():
    assert train("experiment=paper/cartpole").method_config.ppo.schedule == "adaptive"
    ppo = train("experiment=paper/cartpole", "algo=ppo").method_config
    assert type(ppo) is PPOConfig
    assert (ppo.schedule, ppo.kl_target) == ("adaptive", 0.008)
    assert train("experiment=paper/cartpole", "algo=rp").method_config.learning_rate == 1e-2


@pytest.mark.parametrize(
    ("env", "lr", "rp", "ppo"),
    [
        ("dejong", 1e-3, 1e-2, 1e-4),
        ("dejong64", 1e-3, 1e-2, 1e-2),
        ("ackley", 1e-4, 1e-3, 1e-4),
        ("ackley64", 3e-4, 1e-3, 1e-2),
    ],
)
def test_rates_of_function_optimisation(env, lr, rp, ppo):
    for algo, rate in (("lr", lr), ("rp", rp), ("ppo", ppo)):
        assert train(f"env={env}", f"algo={algo}").method_config.learning_rate == rate
    gippo = train(f"env={env}")
    assert gippo.method_config.ppo.learning_rate == ppo
    assert gippo.method_config.ppo.minibatch_size == 64
    assert gippo.method_config.alpha.alpha_0 == 1e-5
    assert gippo.learner.normalize_value
    assert (gippo.learner.horizon, gippo.num_epochs) == (1, 2000)
    assert gippo.env["dim"] == (64 if env.endswith("64") else 1)


@pytest.mark.parametrize("env", ["cartpole", "pace_car10", "hopper"])
def test_gippo_adaptive_brings_what_it_takes_of_the_learner_and_no_other_method_does(env):
    learner = train(f"env={env}", "algo=gippo_adaptive").learner
    assert learner.staggered
    assert learner.critic.terminal_share == 0.015
    plain = train(f"env={env}", "algo=rp").learner
    assert not plain.staggered
    assert plain.critic.terminal_share == 0.0
    learner.staggered, learner.critic.terminal_share = False, 0.0
    assert learner == plain


@pytest.mark.slow
@pytest.mark.parametrize("env", choices("env"))
def test_every_environment_file_fits_every_method(env, tmp_path):
    (tmp_path / "robot.usda").write_text("#usda 1.0\n")
    needed = [f"env.asset={tmp_path / 'robot.usda'}"] if env in ("robot", "go1") else []
    for algo in choices("algo"):
        config = train(f"env={env}", f"algo={algo}", *needed)
        assert type(config.method_config) is method_class(algo).config_class
    assert config.env["id"] in warp_envs.env_ids()
    for place in _CHECKS[config.env["id"]]:  # one that lacks an option would be left out
        module, _, name = place.partition(":")
        check = getattr(importlib.import_module(f"warp_envs.options.{module}"), name)
        assert set(inspect.signature(check).parameters) <= set(config.env)


def test_every_method_may_be_chosen():
    built_in = ["ahac", "gippo", "gippo_adaptive", "lr", "lr_rp", "pe", "ppo", "rp", "sapo", "shac"]
    assert choices("algo") == sorted(method_names()) == built_in


def test_a_wrong_option_of_the_environment_is_named_by_its_key():
    for key, value in (("dim", 0), ("id", "dejog"), ("num_envs", -1)):
        settings = {"id": "dejong", "num_envs": 2, "dim": 1} | {key: value}
        with pytest.raises(UserError, match=rf"^env\.{key}: {value!r}"):
            make_env(settings)


def test_presets_of_half_cheetah_humanoid_and_anymal_are_their_authors():
    found = {
        name: train(f"env={name}", "algo=rp")
        for name in ("ant", "half_cheetah", "humanoid", "humanoid_dflex", "anymal")
    }
    assert found["half_cheetah"].learner == found["ant"].learner
    assert found["humanoid"].learner == found["humanoid_dflex"].learner
    networks = [(c.learner.actor.hidden, c.learner.critic.hidden) for c in found.values()]
    assert networks[2] == ([256, 128], [128, 128])
    assert networks[4] == ([400, 200, 100], [400, 200, 100])
    assert [c.learner.critic.learning_rate for c in found.values()] == [2e-3, 2e-3, *[5e-4] * 3]
    assert {c.learner.critic.target_rate for c in found.values()} == {0.8}  # not theirs: it lags
    assert [c.env["num_envs"] for c in found.values()] == [64, 64, 64, 64, 128]
    assert all(c.method_config.learning_rate == 2e-3 for c in found.values())


def test_the_robots_presets():
    ant, dflex, hopper = (train(f"env={name}") for name in ("ant", "ant_dflex", "hopper"))
    assert dflex.learner == ant.learner
    assert dflex.method_config == ant.method_config
    assert ant.learner.actor.hidden == hopper.learner.actor.hidden == [128, 64, 32]
    assert [c.learner.critic.learning_rate for c in (ant, hopper)] == [2e-3, 2e-4]
    assert [c.env["num_envs"] for c in (ant, hopper)] == [64, 256]
    alphas = [c.method_config.alpha for c in (ant, hopper)]
    assert [a.learning_rate for a in alphas] == [5e-4, 5e-3]
    assert [a.alpha_0 for a in alphas] == [0.5, 5e-3]
    assert [a.delta_oorr for a in alphas] == [0.5, 0.75]
    assert train("env=hopper", "algo=rp").method_config.learning_rate == 2e-3
    assert hopper.num_epochs == 2000


def test_a_method_s_file_says_what_it_takes_of_the_learner():
    rp, shac, ahac, sapo = (
        train(f"algo={name}").learner for name in ("rp", "shac", "ahac", "sapo")
    )
    assert [c.actor.log_sigma for c in (rp, shac, ahac)] == ["head", *2 * ["state_independent"]]
    assert (sapo.actor.activation, sapo.actor.layer_norm) == ("silu", "before")
    assert sapo.actor.log_sigma_bounds == [-5.0, 2.0]
    assert [c.critic.count for c in (rp, shac, ahac, sapo)] == [1, 1, 2, 2]
    assert (ahac.critic.actor_combine, sapo.critic.actor_combine) == ("min", "mean")
    assert (ahac.critic.max_grad_norm, ahac.critic.tolerance) == (None, 0.2)
    assert ahac.critic.learning_rate == 1e-3  # cartpole's, for all methods
    assert train("algo=shac", "env=ant").method_config.learning_rate == 2e-3
    humanoid = [train(f"algo={name}", "env=humanoid").learner.critic for name in ("shac", "ahac")]
    assert [(c.target, c.target_rate) for c in humanoid] == [(True, 0.8), (False, 0.8)]
    assert train("algo=shac", "learner.actor.log_sigma=head").learner.actor.log_sigma == "head"


def test_presets_win_over_a_method_s_file(tmp_path, monkeypatch):
    shutil.copytree(config_dir(), tmp_path / "configs")
    line = "presets: {run: {num_epochs: 1}, learner: {critic: {target_rate: 0.005}}}"
    file = tmp_path / "configs" / "env" / "mine.yaml"
    file.write_text(f"id: dejong\nnum_envs: 4\ndim: 2\n{line}\n")
    monkeypatch.setattr("gippo.configuration.compose.config_dir", lambda: tmp_path / "configs")
    critics = [train(f"algo={name}", "env=mine").learner.critic for name in ("shac", "ahac")]
    assert [(c.target, c.target_rate) for c in critics] == [(True, 0.005), (False, 0.005)]


# Copies, epochs, the actor's and the critic's layers, both learning rates, target rate.
SMALL, MIDDLE, LARGE = [64, 64], [128, 64, 32], [400, 200, 100]
PUBLISHED = {
    "shac/cartpole": ("cartpole", 64, 500, SMALL, SMALL, 1e-2, 1e-3, 0.8),
    "shac/hopper": ("hopper", 256, 2000, MIDDLE, SMALL, 2e-3, 2e-4, 0.8),
    "shac/half_cheetah": ("half_cheetah", 64, 2000, MIDDLE, SMALL, 2e-3, 2e-3, 0.8),
    "shac/ant": ("ant_dflex", 64, 2000, MIDDLE, SMALL, 2e-3, 2e-3, 0.8),
    "shac/humanoid": ("humanoid_dflex", 64, 2000, [256, 128], [128, 128], 2e-3, 5e-4, 0.005),
    "ahac/ant": ("ant_dflex", 128, 2000, LARGE, LARGE, 2e-3, 5e-4, None),
    "ahac/hopper": ("hopper", 1024, 500, LARGE, LARGE, 2e-3, 5e-4, None),
    "ahac/anymal": ("anymal", 128, 3000, LARGE, LARGE, 2e-3, 5e-4, None),
    "ahac/humanoid": ("humanoid_dflex", 64, 5000, LARGE, LARGE, 2e-3, 5e-4, None),
    "sapo/ant": ("ant_dflex", 64, 5000, MIDDLE, SMALL, 2e-3, 5e-4, None),
    "sapo/hopper": ("hopper", 64, 5000, MIDDLE, SMALL, 2e-3, 5e-4, None),
    "sapo/humanoid": ("humanoid_dflex", 64, 5000, [256, 128], [128, 128], 2e-3, 5e-4, None),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_budgets_and_networks(name):
    config = train(f"experiment={name}")
    critic, rate = config.learner.critic, config.method_config.learning_rate
    found = (config.env["id"], config.env["num_envs"], config.num_epochs)
    found += (config.learner.actor.hidden, critic.hidden, rate, critic.learning_rate)
    assert (*found, critic.target_rate if critic.target else None) == PUBLISHED[name]
    assert config.algo.name == name.partition("/")[0]
    assert (config.learner.horizon, config.learner.gamma) == (32, 0.99)


@pytest.mark.parametrize(
    ("override", "parts"),
    [
        ("learner.actor.activation=gelu", ("actor.activation", "'gelu'", "'silu'")),
        ("learner.critic.layer_norm=never", ("critic.layer_norm", "'never'", "'before'")),
        ("learner.actor.log_sigma=free", ("actor.log_sigma", "'free'", "'state_independent'")),
        ("learner.actor.log_sigma_bounds=[2,-5]", ("actor.log_sigma_bounds", "lower one first")),
        ("learner.critic.combine=max", ("critic.combine", "'max'", "'mean'")),
        ("learner.critic.count=0", ("critic.count", "0 given", "at least 1")),
        ("learner.critic.tolerance=0", ("critic.tolerance", "0")),
        ("algo.horizon=contact", ("algo.horizon", "'contact'", "'return'", "contact forces")),
        ("algo.max_horizon=7", ("algo.max_horizon", "7 given", "at least 8")),
    ],
)
def test_what_these_methods_brought_is_refused_by_its_whole_key(override, parts):
    message = refusal("algo=ahac", override)
    assert all(part in message for part in parts), message


def test_the_command_line_wins_over_preset_and_experiment():
    config = train("experiment=paper/cartpole", "algo.ppo.schedule=linear", "num_epochs=7")
    assert config.method_config.ppo.schedule == "linear"
    assert config.num_epochs == 7
    assert train("env=ackley", "env.dim=3").env["dim"] == 3
    assert train("learner.critic.hidden=[8]").learner.critic.hidden == [8]


@pytest.mark.parametrize("override", ["algo.alpha.alhpa_0=1", "alpha_0=1", "algo.alpha_0=1"])
def test_a_misspelt_key_is_refused_with_the_near_matches(override):
    message = refusal(override)
    assert override.partition("=")[0] in message
    assert "'algo.alpha.alpha_0'" in message


@pytest.mark.parametrize(
    ("overrides", "parts"),
    [
        (["algo.alpha.alpha_0=-1"], ["algo.alpha.alpha_0", "-1", "(0, 1]"]),
        (["algo=ppo", "algo.learning_rate=-1"], ["algo.learning_rate", "-1"]),
        (["learner.horizon=0"], ["learner.horizon", "0"]),
        (["learner.actor.hidden=[]"], ["learner.actor.hidden"]),
        (["num_epochs=2.5"], ["num_epochs", "2.5", "an integer"]),
        (["num_epochs=0"], ["num_epochs", "0"]),
        (["resume=perhaps"], ["resume", "perhaps"]),
        (["seed=-1"], ["seed", "-1"]),
        (["rollout.num_steps=0"], ["rollout.num_steps", "0"]),
        (["env=cartpoel"], ["env", "'cartpoel'", "did you mean 'cartpole'"]),
        (["algo=gipppo"], ["algo", "'gipppo'", "did you mean 'gippo'"]),
        (["experiment=paper/cart"], ["experiment", "paper/cartpole"]),
        (["env.colour=red"], ["env.colour", "env.num_envs"]),
        (["seed=0,1"], ["seed=0,1", "-m"]),
        (["+env.colour=red"], ["+env.colour=red"]),
        (["env.presets.ppo.clip=0.3"], ["env.presets.ppo.clip"]),
        (["seed"], ["'seed'", "key=value"]),
        (["seed=["], ["'seed=['"]),
        (["run_dir="], ["run_dir"]),
        (["learner.horizon=${nothing}"], ["nothing"]),
    ],
)
def test_what_cannot_be_is_refused_by_name(overrides, parts):
    message = refusal(*overrides)
    for part in parts:
        assert part in message


@settings(max_examples=30, deadline=None)
@given(st.text(st.characters(codec="ascii", min_codepoint=32, max_codepoint=126), max_size=20))
def test_no_override_breaks_more_than_itself(text):
    try:
        config = train(f"algo.alpha.beta={text}")
    except UserError as error:
        assert "\n" not in str(error)
    else:
        assert config.method_config.alpha.beta > 1.0


def test_a_saved_configuration_comes_back_equal(tmp_path):
    for overrides in ([], ["algo=rp", "env=ackley64", "algo.gae_lambda=1"]):
        config = train(*overrides)
        save_config(config, tmp_path / "config.yaml")
        assert load_config(tmp_path) == config


@pytest.mark.parametrize(
    ("old", "new", "culprit"),
    [
        ("horizon: 32", "horizon: 0", "learner.horizon"),
        ("horizon: 32", "horzion: 32", "horzion"),
        ("name: gippo", "name: gipppo", "algo.name"),
        ("seed: 0", "seed: [", "config.yaml"),
    ],
)
def test_a_damaged_configuration_is_refused_by_name(tmp_path, old, new, culprit):
    path = tmp_path / "config.yaml"
    save_config(train(), path)
    path.write_text(path.read_text().replace(old, new))
    with pytest.raises(UserError) as caught:
        load_config(tmp_path, to_train=True)
    assert culprit in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_configuration_goes_to_another_process_and_back():
    cloudpickle = pytest.importorskip("cloudpickle")
    node = OmegaConf.structured(algo_schema("gippo"))
    same = pickle.loads(cloudpickle.dumps(node))
    assert OmegaConf.get_type(same) is algo_schema("gippo")
    assert OmegaConf.structured(algo_schema("gippo")) == node


def test_no_run_is_no_configuration(tmp_path):
    with pytest.raises(UserError, match="holds no run"):
        load_config(tmp_path)


def test_near_matches_prefer_the_same_section():
    known = ["a.rate", "b.rate", "b.other"]
    assert near_matches("b.rtae", known) == "; did you mean 'b.rate' or 'a.rate'?"
    assert near_matches("b.zzz", known) == ""


def test_a_configuration_with_aliases_is_refused_however_far_they_would_unfold(tmp_path):
    lines = ["a0: &a0 [x, x]", *(f"a{i}: &a{i} [*a{i - 1}, *a{i - 1}]" for i in range(1, 60))]
    (tmp_path / "config.yaml").write_text("\n".join(lines))
    with pytest.raises(UserError, match=r"config\.yaml: an alias \(\*a0\)"):
        load_config(tmp_path)


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("num_epochs=abc", "num_epochs: abc given, an integer accepted"),
        ("num_threads=few", "num_threads: few given, an integer or null accepted"),
        ("learner.gamma=high", "learner.gamma: high given, a number accepted"),
        ("tensorboard=false", "tensorboard: no such key; logger=[]"),
        ("resume=often", "resume: often given, true or false accepted"),
        ("learner.staggered=3", "learner.staggered: 3 given, true or false accepted"),
        ("seed=", "seed: '' given, an integer accepted"),
        ("learner.actor.hidden=64", "learner.actor.hidden: 64 given, a list, as [64,64], accepted"),
        ("learner.actor=64", "learner.actor: 64 given, a section of hidden, activation"),
        ("env=inchworm.py:Worm", "a module is named without .py: inchworm:Worm"),
        ("env=./robots/inchworm.py:Worm", "as Python imports it: robots.inchworm:Worm"),
    ],
)
def test_a_value_of_another_kind_is_told_with_what_is_accepted(override, said):
    assert said in refusal(override)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("presets: {gippo: {alhpa: {}}}", "'alhpa'"),
        ("presets: {run: {num_epochs: 1}, gippo: {alpha: {beta: low}}}", "'low'"),
        ("presets: {learner: {horizon: 0}, run: {num_epochs: 1}}", "learner.horizon: 0 given"),
    ],
)
def test_a_mistake_in_a_preset_names_its_file(line, said, tmp_path, monkeypatch):
    shutil.copytree(config_dir(), tmp_path / "configs")
    file = tmp_path / "configs" / "env" / "mine.yaml"
    file.write_text(f"id: dejong\nnum_envs: 4\ndim: 2\n{line}\n")
    monkeypatch.setattr("gippo.configuration.compose.config_dir", lambda: tmp_path / "configs")
    told: list[str] = []
    with pytest.raises(UserError) as caught:
        configure("train", TrainConfig, ["env=mine"], told.append)
    assert str(caught.value).startswith(f"{file}: presets: ") and said in str(caught.value)
    assert not told and "\n" not in str(caught.value)


def test_a_folder_that_sweeps_name_and_the_home_folder_need_no_quotes():
    folder = "runs/robots/algo=ppo,env=ant,seed=0"
    assert train(f"run_dir={folder}").run_dir == folder
    assert train("run_dir=runs/seed=0").run_dir == "runs/seed=0"
    home = Path.home().as_posix()
    for text in ("~/runs/one", "'~/runs/one'", '"~/runs/one"'):
        assert train(f"run_dir={text}").run_dir == f"{home}/runs/one"
    assert train("run_dir=runs/a~b").run_dir == "runs/a~b"


@pytest.mark.parametrize("env", ["ant", "pace_car", "robot", "ackley64"])
def test_what_keys_prints_can_be_typed_back(env, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("my robot.usda").write_text("#usda 1.0\n")
    more = ["env.asset=my robot.usda", "env.reward={progress: 1.5}"] if env == "robot" else []
    assert main(["train", f"env={env}", *more, "--keys"]) == 0
    printed = re.findall(r"^  ([\w.]+=.*?)(?:  |$)", capsys.readouterr().out, re.MULTILINE)
    typed = [text for text in printed if not text.startswith("env.id=")]
    assert len(typed) > 40
    assert train(f"env={env}", *typed) == train(f"env={env}", *more)
