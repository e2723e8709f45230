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
        ("env.action_delay=-1", "env.action_delay: -1 given"),
        ("device=gpu", "device: 'gpu' given"),
        ("run_dir=/dev/null", "run_dir: '/dev/null' is a file"),
        ("run_dir=/dev", "run_dir: '/dev' is not empty; resume=true"),
        ("env.compild=true", "did you mean 'env.compiled'?"),
    ],
)
def test_a_mistake_is_told_before_either_is_imported(override, said):
    last, errors = imported(["train", override])
    assert last == "status 2 imported []"
    assert said in errors


def test_nor_does_a_folder_without_the_run_to_go_on_with():
    last, errors = imported(["train", "resume=true", "run_dir=nowhere"])
    assert last == "status 2 imported []"
    assert "run_dir: 'nowhere' holds no run" in errors


def test_a_policy_s_name_needs_neither():
    last, errors = imported(["evaluate", "policy=antt"])
    assert last == "status 2 imported []"
    assert "did you mean 'ant'?" in errors


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
    code = f"""
import sys
from gippo.cli import main
for line in {lines!r}:
    print(main(["train", *line.split()]), [n for n in {HEAVY!r} if n in sys.modules], flush=True)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    said = done.stderr.splitlines()
    assert done.stdout.splitlines() == ["2 []"] * len(lines), done.stdout + done.stderr
    assert len(said) == len(lines), said
    for line, told in zip(lines, said, strict=True):
        key = line.split()[-1].partition("=")[0]
        assert told.startswith(f"gippo: {key}"), told
        assert " accepted" in told, told
