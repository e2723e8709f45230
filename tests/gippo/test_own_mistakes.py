"""Mistakes in a user's own classes: told where they are, and not as defects of gippo."""

import sys
from pathlib import Path

import pytest

from gippo import methods
from gippo.cli import main

MODULE = """
from dataclasses import dataclass

import torch

from gippo import Method, UpdateReport
from warp_envs import ArticulatedEnv
from warp_envs.landscapes import DeJongEnv
from warp_envs.robots.cartpole import CartpoleEnv


@dataclass
class Settings:
    rate: float = 0.1


class Good(Method):
    name = "good"
    config_class = Settings

    def __init__(self, context, config):
        self.parameters = context.parameters

    def update(self, window, epoch):
        return UpdateReport({"actor_loss": 0.0})

    def state_dict(self):
        return {}

    def load_state_dict(self, state):
        pass


class Bad(Good):
"""
ENV = "class Bad(CartpoleEnv):\n"
SMALL = [
    *(
        "logger=[]",
        "env.num_envs=4",
        "learner.actor.hidden=[4]",
        "learner.critic.hidden=[4]",
    ),
    *("learner.horizon=2", "num_epochs=30", "rollout.num_envs=0"),
]


@pytest.fixture
def bad(tmp_path, monkeypatch, capsys):
    """Trains with the class `Bad` of these lines; gives the status, what was said and the file."""
    monkeypatch.setattr(methods, "_others", {})
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    written = []

    def train(lines: str, *, env: bool = False) -> tuple[int, str, str]:
        name = f"bad{len(written)}_{tmp_path.name}"
        text = MODULE.replace("class Bad(Good):\n", ENV if env else "class Bad(Good):\n")
        body = "\n".join(f"    {line}" for line in lines.splitlines())
        file = Path(f"{name}.py")
        written.append(file)
        file.write_text(f"{text}{body}\n")
        chosen = f"env={name}:Bad" if env else f"algo={name}:Bad"
        other = [] if env else ["env=dejong"]
        status = main(["train", chosen, *other, *SMALL, f"run_dir=run{len(written)}"])
        return status, capsys.readouterr().err, str(file.resolve())

    return train


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ("update = Method.update", "Bad.update: nothing given, a method(self, window, epoch)"),
        ("def update(self, window): pass", "Bad.update: (self, window) given, (self, window, ep"),
        ("def __init__(self, context): pass", "Bad.__init__: (self, context) given, (self, con"),
        ("name = None", "Bad.name: None given, a name of letters"),
        ("config_class = int", "Bad.config_class: <class 'int'> given, a dataclass"),
        ("def state_dict(self): return None", "Bad.state_dict: a NoneType given, a dict of"),
        ("def state_dict(self): return {'a': [set()]}", "a set as state['a'][0] given"),
        ("horizon = 0", "Bad.horizon: 0 given, an integer of at least 1"),
        ("gradient_lambda = 2.0", "Bad.gradient_lambda: 2.0 given, a number in (0, 1]"),
    ],
)
def test_a_method_s_class_is_refused_before_anything_is_written(bad, lines, said):
    status, text, _ = bad(lines)
    assert status == 2 and said in text and text.count("\n") == 1
    assert not Path("run1").exists()


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ("record_step = 3", "Bad.record_step: 3 given, (self, program, state, action, next_state)"),
        ("def record_observation(self, program): pass", "Bad.record_observation: (self, program)"),
        ("def __init__(self): pass", "Bad.__init__: no 'num_envs' given, the options of all"),
        ("def __init__(self, size=1, **options): pass", "the option 'size' by position given"),
        ("def __init__(self, **options): pass", "no call of super().__init__(**options)"),
        ("extra_state = {'last': 'two'}", "Bad.extra_state['last']: 'two' given, an integer"),
        ("control_step = -0.1", "control_step: -0.1 given"),
        ("asset = '/tmp/nowhere.usda'", "asset: '/tmp/nowhere.usda' given, an existing USD file"),
        ("actuated = 'front_hinge'", "actuated: 'front_hinge' given, a list of any of ["),
        ("name = 'In Chworm!'", "Bad.name: 'In Chworm!' given, a name of letters"),
        ("reward_terms = 'upright'", "reward_terms: 'upright' given, different names"),
        (
            "def record_outcome(self, program, state, *rest): state['joint_qq']",
            "Bad: state: 'joint_qq' given, one of ['joint_q', 'joint_qd'] accepted; did you mean",
        ),
    ],
)
def test_an_environment_s_class_is_refused_before_anything_is_written(bad, lines, said):
    status, text, _ = bad(lines, env=True)
    assert status == 2 and said in text and text.count("\n") == 1
    assert not Path("run1").exists()


@pytest.mark.parametrize(
    ("returned", "said"),
    [
        ("None", "Bad.update: a NoneType returned, UpdateReport("),
        ("{'actor_loss': 0.0}", "Bad.update: a dict returned"),
        ("UpdateReport({'actor_loss': torch.ones(3)})", "'actor_loss' is a tensor (3,) of torch"),
        ("UpdateReport({'actor_loss': 'low'})", "metric 'actor_loss' is a str, a number"),
        ("UpdateReport({'epoch': 3})", "a metric 'epoch', a name of its own"),
    ],
)
def test_what_an_update_returns_is_checked(bad, returned, said):
    status, text, _ = bad(f"def update(self, window, epoch): return {returned}")
    assert status == 1 and said in text and text.count("\n") == 1


def test_an_exception_in_a_user_s_file_is_told_with_its_line(bad):
    status, text, file = bad("def update(self, window, epoch): raise ValueError('boom')")
    line = MODULE.count("\n") + 1
    assert status == 1
    assert text == f"gippo: {file}, line {line}: ValueError: boom (--debug shows the traceback)\n"
    status, text, file = bad("def __init__(self, **options): [][1]", env=True)
    assert status == 1 and f"{file}, line {line}: IndexError" in text
    status, text, file = bad("def update(self, window, epoch) return 1")
    assert status == 1 and f"{file}, line {line}: SyntaxError: " in text


@pytest.mark.parametrize(
    ("update", "said"),
    [
        ("return UpdateReport({'actor_loss': float('nan')})", "the method's actor_loss is nan"),
        (
            "self.parameters.vector.fill_(float('inf')); return UpdateReport({})",
            "the parameter 'mlp.weights.0' is not finite after the update",
        ),
    ],
)
def test_an_update_that_is_not_finite_is_undone_and_ends_a_run_when_none_is(bad, update, said):
    status, text, _ = bad(f"def update(self, window, epoch): {update}")
    assert status == 1 and text.count("\n") == 1
    assert said in text and "11 times in a row; there is no checkpoint yet, one is due" in text


def test_actions_that_are_not_finite_are_told_with_the_update_before(bad):
    lines = "def update(self, window, epoch): self.parameters.vector.fill_(3e30)"
    status, text, _ = bad(f"{lines}; return UpdateReport({{}})")
    assert status == 1
    assert (
        "epoch 1: the policy's actions: nan" in text
        and "before, Bad's, is the likely cause" in text
    )
    assert "there is no checkpoint yet" in text
