"""What a command imports before it has work to do."""

import subprocess
import sys

import pytest

HEAVY = ("torch", "warp", "matplotlib", "scipy", "pxr")


def told(lines, heavy=HEAVY):
    """For each command line, one after the other in one process: status and what is imported.

    Returns:
        These, and the lines that are said of mistakes.
    """
    code = f"""
import sys
from gippo.cli import main
for line in {lines!r}:
    status = main(line.split())
    print("::", status, [name for name in {heavy!r} if name in sys.modules], flush=True)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    marked = [line for line in done.stdout.splitlines() if line.startswith("::")]
    return [line.removeprefix(":: ") for line in marked], done.stderr.splitlines()


def test_help_and_the_keys_of_a_run_need_neither_torch_nor_warp():
    keys = "train env=ant algo=pe"
    lines = ["train --help", "bench --help", f"{keys} --keys", f"{keys} --config"]
    assert told(lines)[0] == ["0 []"] * len(lines)


def test_the_list_of_commands_needs_nothing_at_all():
    heavy = (*HEAVY, "hydra", "omegaconf", "numpy", "gymnasium", "rich", "warp_envs")
    assert told(["--help"], heavy)[0] == ["0 []"]


MISTAKES = {
    "train algo.alpha.alhpa_0=1": "algo.alpha.alpha_0",
    "train algo.alpha.betas=[0.9,2]": "algo.alpha.betas: ",
    "train learner.critic.hidden=[0]": "learner.critic.hidden: ",
    "train env=cartpoel": "'cartpole'",
    "train env.id=cartpoel": "env.id: 'cartpoel' given",
    "train env.num_envs=0": "env.num_envs: 0 given",
    "train env.action_delay=-1": "env.action_delay: -1 given",
    "train device=gpu": "device: 'gpu' given",
    "train run_dir=/dev/null": "run_dir: '/dev/null' is a file",
    "train run_dir=/dev": "run_dir: '/dev' is not empty; resume=true",
    "train env.compild=true": "did you mean 'env.compiled'?",
    "train resume=true run_dir=nowhere": "run_dir: 'nowhere' holds no run",
    "evaluate policy=antt": "did you mean 'ant'?",
}
"""Command line -> what is said of it."""


def test_a_mistake_is_told_before_either_is_imported():
    done, errors = told(list(MISTAKES))
    assert done == ["2 []"] * len(MISTAKES), errors
    assert len(errors) == len(MISTAKES)
    for said, error in zip(MISTAKES.values(), errors, strict=True):
        assert said in error


WRONG_VALUES = """
env=ring env.noise=-1
env=ring env.max_ring_length=100
env=ring10 env.sims_per_step=0
env=merge env.share=2
env=merge env.num_vehicles=3
env=bottleneck env.flow_rate=-1
env=pace_car env.reward_clip=eech
env=pace_car4 env.num_lanes=0
env=dejong env.dim=0
env=ackley64 env.dim=-1
env=cartpole env.action_delay=-1
env=cartpole env.action_delay=[3,1]
env=ant env.compiled=maybe
env=ant_dflex env.randomize={friction:3}
env=ant env.randomize={friction:{scal:[1,2]}}
env=hopper env.observation_noise=-0.1
env=half_cheetah env.parameters=friction
env=humanoid env.randomize=friction
env=anymal env.action_delay=[0,1,2]
env=humanoid_dflex env.observation_noise=loud
env=robot env.asset=missing.usda
env=gym/hopper env.control_step=0
env=gym/hopper env.substeps=automatic
env=gym/walker2d env.gear=strong
env=gym/walker2d env.max_speed=-1
env=gym/hopper env.reward={progres:1}
env=gym/hopper env.terminate={tilt_above:hot}
env=gym/hopper env.observe=[heigth]
env=gym/hopper env.observe=[command]
env=gym/hopper env.command={forwards:1}
env=gym/hopper env.command={forward:[1,0]}
env=gym/hopper env.ground=ruff
env=gym/hopper env.ground={kind:rough,heigth:1}
env=gym/hopper env.ground={kind:stairs,cell:0}
env=gym/hopper env.actuators={x:{kind:servo}}
env=gym/hopper env.actuators={x:{kind:position,kd:-1}}
env=gym/hopper env.start={heigth:1}
env=gym/hopper env.start={spread:-1}
env=robot env.asset=gymnasium:envs/mujoco/assets/ant.xml env.task=Gallop
env=gym/hopper env.implicit_damping=7
learner.horizon=0
learner.gamma=2
learner.critic.hidden=[0]
algo=ppo algo.learning_rate=-1
algo.alpha.alpha_0=-1
device=gpu
seed=-1
num_threads=0
rollout.num_steps=0
logger=[csvv]
best_by=luck
"""


@pytest.mark.slow
def test_wrong_values_of_all_kinds_are_told_before_either_is_imported():
    """Each by its key, with what is accepted; one process for all of them."""
    lines = WRONG_VALUES.strip().splitlines()
    done, errors = told([f"train {line}" for line in lines])
    assert done == ["2 []"] * len(lines), errors
    assert len(errors) == len(lines), errors
    for line, error in zip(lines, errors, strict=True):
        key = line.split()[-1].partition("=")[0]
        assert error.startswith(f"gippo: {key}"), error
        assert " accepted" in error, error
