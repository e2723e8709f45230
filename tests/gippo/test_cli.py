import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from gippo.cli import COMMANDS, main
from gippo.configuration.compose import configure, written
from gippo.configuration.run_config import TrainConfig
from gippo.learner import Learner
from gippo.runs.checkpoint import read, write
from gippo.terminal.interrupt import StopRequest
from gippo.terminal.progress import make_console, this_command
from gippo.updates.failures import NonFiniteError

SMALL = (
    "env=dejong",
    "env.num_envs=4",
    "learner.actor.hidden=[4]",
    "learner.critic.hidden=[4]",
    "logger=[]",
)


def train(run_dir: Path, *overrides: str) -> int:
    return main(["train", *SMALL, f"run_dir={run_dir}", *overrides])


def rows(run_dir: Path) -> list[dict]:
    lines = (run_dir / "metrics.jsonl").read_text().splitlines()
    return [{k: v for k, v in json.loads(line).items() if k != "wall_time"} for line in lines]


STARTED: list[subprocess.Popen] = []


@pytest.fixture(autouse=True)
def nobody_left():
    """A test that fails leaves no run behind, which would go on for hours."""
    yield
    while STARTED:
        STARTED.pop().kill()


def start(run_dir: Path, *overrides: str) -> subprocess.Popen:
    """A run in a process of its own, in the midst of training."""
    command = [sys.executable, "-m", "gippo", "train", *SMALL, f'run_dir="{run_dir}"', *overrides]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=environment,
        cwd=run_dir.parent,
        # Under nohup the tests' own process ignores it, and so would the run.
        preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_DFL),
    )
    STARTED.append(process)
    metrics = run_dir / "metrics.jsonl"
    deadline = time.monotonic() + 120.0
    while not (metrics.exists() and metrics.read_text().count("\n") >= 5):
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return process


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    run_dir = tmp_path_factory.mktemp("cli") / "run"
    assert train(run_dir, "num_epochs=12", "checkpoint_every=5") == 0
    return run_dir


def test_help_names_every_command(capsys):
    assert main([]) == 0
    listed = capsys.readouterr().out
    for name in COMMANDS:
        assert name in listed
        assert main([name, "--help"]) == 0
        text = capsys.readouterr().out
        assert f"Usage: gippo {name}" in text
        assert "Examples:" in text
        assert max(map(len, text.splitlines())) <= 100
    assert main(["--version"]) == 0
    assert re.fullmatch(r"gippo \d+\.\d+\.\d+\n", capsys.readouterr().out)


def test_help_of_train_tells_every_key_and_choice(capsys):
    main(["train", "--help"])
    text = capsys.readouterr().out
    for word in ("cartpole", "ackley64", "paper/cartpole", "checkpoint_every", "Default 50."):
        assert word in text


def test_keys_lists_each_key_with_its_value(capsys):
    assert main(["train", "env=ackley", "algo=rp", "--keys"]) == 0
    text = capsys.readouterr().out
    for line in (
        "env.dim=1",
        "algo.learning_rate=0.001",
        "learner.critic.hidden=[32,32]",
        "seed=0",
    ):
        assert f"  {line}" in text
    assert main(["train", "env=ackley", "--config"]) == 0
    assert "alpha_0: 1.0e-05" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["trian"], ["'trian'", "did you mean 'train'"]),
        (["train", "algo.alpha.alhpa_0=1"], ["algo.alpha.alhpa_0", "algo.alpha.alpha_0"]),
        (["train", "env=cartpoel"], ["'cartpoel'", "'cartpole'"]),
        (["train", "env=dejong", "env.dim=-3"], ["env.dim", "-3"]),
        (["train", "env.id=cartpoel"], ["env.id", "cartpoel"]),
        (["train", "device=cuda:77"], ["device", "cuda:77"]),
        (["train", "--kesy"], ["--kesy", "--keys"]),
        (["train", "resume=true", "run_dir=nowhere"], ["run_dir", "nowhere"]),
        (["play"], ["nothing given", "gippo play RUN"]),
        (["play", "run_dir=nowhere"], ["run_dir", "nowhere"]),
        (["view"], ["nothing given", "gippo view RUN"]),
        (["view", "one", "two"], ["'one': no such folder or file"]),
        (["view", "nowhere"], ["'nowhere'", "no such folder or file"]),
        (["view", "."], ["rollout.usdc", "not there", "gippo play run_dir=."]),
        (["view", "nowhere", "out=page.png"], ["out", "page.png", ".html"]),
        (["view", "nowhere", "viewer=gll"], ["viewer", "gll", "'gl'"]),
        (["convert"], ["nothing given", "gippo convert ROBOT"]),
        (["convert", "nowhere.xml"], ["'nowhere.xml': no such file"]),
        (["convert", "nowhere.xml", "out=robot.png"], ["out", "robot.png", ".usda"]),
        (["train", "run_dir=/dev/null"], ["run_dir: '/dev/null' is a file"]),
        (["train", "-m", "seed=0,1", "run_dir=x"], ["run_dir=x: ", "hydra.sweep.dir=x"]),
        (["play", "one", "two"], ["one two given"]),
        (["play", "one", "run_dir=two"], ["one given, and run_dir as well"]),
        (["train", "env=robot"], ["env.asset"]),
        (["train", "env=robot", "env.asset=robot.xml"], ["robot.xml"]),
        (["plot"], ["run_dirs"]),
        (["plot", "run_dirs=[nowhere]"], ["run_dirs", "nowhere"]),
        (["check-gradients", "env=cartpoel"], ["cartpole"]),
        (["check-gradients", "tolerance=2"], ["tolerance", "2"]),
        (["bench", "envs=[cartpoel]"], ["envs", "cartpole"]),
    ],
)
def test_a_mistake_is_one_line_and_status_2_and_writes_nothing(
    arguments, parts, capsys, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 2
    printed = capsys.readouterr()
    assert re.fullmatch(r"gippo: [^\n]+\n", printed.err)
    for part in parts:
        assert part in printed.err
    assert os.listdir(tmp_path) == []


def test_debug_shows_the_traceback():
    with pytest.raises(ValueError, match="alhpa_0"):
        main(["train", "algo.alpha.alhpa_0=1", "--debug"])


def test_a_run_leaves_what_it_promises(trained):
    names = sorted(path.name for path in trained.iterdir())
    assert names == ["checkpoints", "config.yaml", "curve.png", "metrics.jsonl"]
    told = rows(trained)
    assert [row["epoch"] for row in told] == list(range(1, 13))
    first = list(told[0])[:6]
    assert first == [
        "epoch",
        "env_steps",
        "episode_return",
        "episode_length",
        "best_return",
        "num_episodes",
    ]
    assert "alpha" in told[0]
    assert (trained / "curve.png").read_bytes().startswith(b"\x89PNG")


def test_a_run_in_the_way_is_refused_and_left_alone(trained, capsys):
    before = {path: path.read_bytes() for path in trained.rglob("*") if path.is_file()}
    assert train(trained, "num_epochs=3") == 2
    assert "resume=true" in capsys.readouterr().err
    assert {path: path.read_bytes() for path in trained.rglob("*") if path.is_file()} == before


def test_a_folder_whose_run_did_nothing_is_not_in_the_way(trained, tmp_path):
    run_dir = tmp_path / "run"
    run_dir.mkdir()
    shutil.copy(trained / "config.yaml", run_dir)
    assert train(run_dir, "num_epochs=1") == 2, "it may be anyone's configuration"
    (run_dir / "metrics.jsonl").touch()
    assert train(run_dir, "num_epochs=1") == 0
    assert len(rows(run_dir)) == 1
    assert train(run_dir, "num_epochs=1") == 2


def test_the_same_seed_gives_the_same_run_and_another_does_not(trained, tmp_path):
    assert train(tmp_path / "same", "num_epochs=12") == 0
    assert rows(tmp_path / "same") == rows(trained)
    assert train(tmp_path / "other", "num_epochs=12", "seed=1") == 0
    assert rows(tmp_path / "other") != rows(trained)


def test_resume_refuses_what_would_change_the_run_and_takes_the_rest(trained, capsys):
    before = (trained / "metrics.jsonl").read_bytes()
    for override in ("seed=1", "num_epochs=9", "env=ackley", "algo=ppo", "learner.gamma=0.9"):
        assert main(["train", f"run_dir={trained}", "resume=true", override]) == 2
        assert override.partition("=")[0] in capsys.readouterr().err
    assert main(["train", f"run_dir={trained}", "resume=true", "num_epochs=9"]) == 2
    assert "num_epochs: 9 given, at least the 12 of the run" in capsys.readouterr().err
    assert main(["train", f"run_dir={trained}", "resume=true", "keep_last=5", "seed=0"]) == 0
    assert (trained / "metrics.jsonl").read_bytes() == before


def test_a_configuration_edited_by_hand_is_not_gone_on_with(trained, tmp_path, capsys):
    run_dir = shutil.copytree(trained, tmp_path / "run")
    config = run_dir / "config.yaml"
    config.write_text(config.read_text().replace("seed: 0", "seed: 3"))
    assert main(["train", f"run_dir={run_dir}", "resume=true"]) == 2
    assert "seed: trained with 0, the run's configuration now says 3" in capsys.readouterr().err


def test_a_policy_that_is_not_finite_does_not_play(trained, tmp_path, capsys):
    run_dir = shutil.copytree(trained, tmp_path / "run")
    checkpoint = read(run_dir / "checkpoints" / "best.pt")
    checkpoint["learner"]["actor"]["mlp.weights.0"].fill_(float("nan"))
    write(run_dir / "checkpoints" / "best.pt", checkpoint)
    assert main(["play", f"run_dir={run_dir}", "out=null"]) == 2
    assert "learner.actor.mlp.weights.0 is nan" in capsys.readouterr().err


@pytest.mark.slow
def test_a_closed_terminal_ends_cleanly_and_a_reader_that_leaves_ends_nothing(tmp_path):
    """Under a name that an ASCII terminal cannot show."""
    os.environ["PYTHONIOENCODING"] = "ascii"
    try:
        process = start(tmp_path / "kürzer", "num_epochs=100000", "checkpoint_every=100000")
    finally:
        del os.environ["PYTHONIOENCODING"]
    assert process.stdout is not None
    process.stdout.close()
    before = len(rows(tmp_path / "kürzer"))
    time.sleep(1.0)
    assert process.poll() is None
    process.send_signal(signal.SIGHUP)
    assert process.wait(timeout=60) == 128 + signal.SIGHUP
    done = rows(tmp_path / "kürzer")
    assert len(done) > before
    newest = tmp_path / "kürzer" / "checkpoints" / f"epoch_{len(done):06d}.pt"
    assert newest.exists() and (tmp_path / "kürzer" / "curve.png").exists()


def test_ctrl_c_ends_cleanly_and_the_run_goes_on(tmp_path):
    process = start(tmp_path / "run", "num_epochs=400", "checkpoint_every=1000")
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 130, output
    assert "resume=true" in output
    assert "Traceback" not in output
    done = rows(tmp_path / "run")
    assert (tmp_path / "run" / "curve.png").exists()
    assert len(done) < 400
    config = tmp_path / "run" / "config.yaml"  # all 400 would take long
    config.write_text(config.read_text().replace("epochs: 400", f"epochs: {len(done) + 5}"))
    assert main(["train", f"run_dir={tmp_path / 'run'}", "resume=true"]) == 0
    assert rows(tmp_path / "run")[: len(done)] == done
    assert len(rows(tmp_path / "run")) == len(done) + 5


@pytest.mark.parametrize("folder", ["run", "seed=1,env=ant", "a b", 'it\'s "it"', "null", "[x]"])
def test_a_path_is_told_as_the_command_line_takes_it(folder):
    (typed,) = shlex.split(written("run_dir", folder))
    assert configure("train", TrainConfig, [typed]).run_dir == folder


def test_a_command_to_go_on_with_is_one_that_the_shell_finds(monkeypatch):
    monkeypatch.setattr("shutil.which", lambda name: f"/bin/{name}")
    assert this_command() == "gippo"
    monkeypatch.setattr("shutil.which", lambda name: None)
    command = this_command().split()[0]
    assert Path(command).exists()


def test_names_are_printed_as_they_are(capsys):
    make_console().print("bad:boom: on [red]x:fire:[/red]")
    assert capsys.readouterr().out == "bad:boom: on [red]x:fire:[/red]\n"


def test_the_second_signal_is_not_caught():
    console = make_console()
    with StopRequest(console) as stop:
        assert (stop.made, stop.exit_status) == (False, 0)
        os.kill(os.getpid(), signal.SIGTERM)
        assert (stop.made, stop.exit_status) == (True, 143)
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    with pytest.raises(KeyboardInterrupt), StopRequest(console) as stop:
        os.kill(os.getpid(), signal.SIGINT)
        assert stop.exit_status == 130
        os.kill(os.getpid(), signal.SIGINT)


def test_a_sweep_trains_every_combination_and_is_drawn(tmp_path):
    sweep = ["train", "-m", *SMALL, "num_epochs=2", "seed=0,1", f"hydra.sweep.dir={tmp_path}"]
    assert main(sweep) == 0
    configs = sorted(tmp_path.rglob("config.yaml"))
    assert len(configs) == 2
    assert [path.parent.name for path in configs] == ["seed=0", "seed=1"]
    assert main(["plot", f"run_dirs=[{tmp_path}]", f"out={tmp_path / 'c.png'}"]) == 0
    table = (tmp_path / "c.csv").read_text().splitlines()
    assert table[0] == "env,label,runs,env_steps,mean_return,std_return,ci95_return"
    assert table[1].startswith("dejong,gippo,2,4.0,")


def test_a_run_given_up_is_one_line_and_status_1(tmp_path, capsys, monkeypatch):
    epochs = Learner.train_epoch

    def fail_later(self):
        if self.epoch == 3:
            raise NonFiniteError("epoch 4: the actor's loss is not finite, 11 times in a row")
        return epochs(self)

    monkeypatch.setattr(Learner, "train_epoch", fail_later)
    assert train(tmp_path / "run", "num_epochs=5", "checkpoint_every=2") == 1
    assert re.fullmatch(r"gippo: epoch 4: the actor's loss [^\n]+\n", capsys.readouterr().err)
    monkeypatch.undo()
    assert main(["train", f"run_dir={tmp_path / 'run'}", "resume=true"]) == 0
    assert len(rows(tmp_path / "run")) == 5


def test_play_prints_returns(trained, capsys):
    arguments = ["play", f"run_dir={trained}", "num_envs=3", "num_steps=4", "out=null"]
    assert main(arguments) == 0
    said = capsys.readouterr().out
    assert "12 episodes: mean return -" in said
    assert main([*arguments, "checkpoint=newest", "deterministic=false"]) == 0
    assert capsys.readouterr().out != said
    assert main([*arguments, f"checkpoint={trained / 'config.yaml'}"]) == 2


def test_the_gradient_of_an_environment_is_checked(capsys):
    assert main(["check-gradients", "env=cartpole", "num_steps=3", "num_envs=2"]) == 0
    assert "they agree" in capsys.readouterr().out
    strict = ["check-gradients", "env=cartpole", "num_steps=2", "tolerance=1e-15"]
    assert main(strict) == 1
    assert "THEY DIFFER" in capsys.readouterr().out


def test_bench_measures(tmp_path, capsys):
    out = tmp_path / "bench.json"
    arguments = ["envs=[dejong]", "num_envs=[2]", "horizon=2", "seconds=0.01", f"out={out}"]
    assert main(["bench", *arguments]) == 0
    report = json.loads(out.read_text())
    assert min(report["steps"][0][way] for way in ("forward", "forward_backward")) > 0
    assert sum(report["training"][0]["shares"].values()) == pytest.approx(1.0)


def test_a_home_that_cannot_be_written_leaves_matplotlib_silent():
    code = "from gippo.cli import main; main(['--version']); "
    code += "import matplotlib; matplotlib.get_cachedir()"
    kept = {k: v for k, v in os.environ.items() if k not in ("MPLCONFIGDIR", "XDG_CONFIG_HOME")}
    environment = {**kept, "HOME": "/dev/null", "PYTHONPATH": str(Path(__file__).parents[2])}
    environment.pop("XDG_CACHE_HOME", None)
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment
    )
    assert done.stderr == ""
