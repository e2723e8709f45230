"""What a command imports before it has work to do."""

import subprocess
import sys

import pytest

CODE = """
import sys
from gippo.cli import main
arguments = {arguments!r}
status = main(arguments)
heavy = [name for name in {heavy!r} if name in sys.modules]
print("status", status, "imported", heavy)
"""
HEAVY = ("torch", "warp", "matplotlib", "scipy", "pxr")


def imported(arguments, heavy=HEAVY):
    code = CODE.format(arguments=arguments, heavy=heavy)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()[-1], done.stderr


@pytest.mark.parametrize("command", ["train", "bench"])
def test_help_needs_neither_torch_nor_warp(command):
    assert imported([command, "--help"])[0] == "status 0 imported []"


def test_the_list_of_commands_needs_nothing_at_all():
    heavy = (*HEAVY, "hydra", "omegaconf", "numpy", "gymnasium", "rich", "warp_envs")
    assert imported(["--help"], heavy)[0] == "status 0 imported []"


@pytest.mark.parametrize("flag", ["--keys", "--config"])
def test_the_keys_of_a_run_need_neither(flag):
    assert imported(["train", "env=ant", "algo=pe", flag])[0] == "status 0 imported []"


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("algo.alpha.alhpa_0=1", "algo.alpha.alpha_0"),
        ("algo.alpha.betas=[0.9,2]", "algo.alpha.betas: "),
        ("learner.critic.hidden=[0]", "learner.critic.hidden: "),
        ("env=cartpoel", "'cartpole'"),
        ("env.id=cartpoel", "env.id: 'cartpoel' given"),
        ("env.num_envs=0", "env.num_envs: 0 given"),
        ("env.compild=true", "did you mean 'env.compiled'?"),
    ],
)
def test_a_mistake_is_told_before_either_is_imported(override, said):
    last, errors = imported(["train", override])
    assert last == "status 2 imported []"
    assert said in errors


def test_a_policy_s_name_needs_neither():
    last, errors = imported(["evaluate", "policy=antt"])
    assert last == "status 2 imported []"
    assert "did you mean 'ant'?" in errors
