import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from gippo.cli import main
from gippo.configuration.compose import configure, parse
from gippo.configuration.run_config import TrainConfig
from gippo.errors import UserError
from gippo.studies.reproduction import code_version as versions
from gippo.studies.reproduction import runs as runs_module
from gippo.studies.reproduction.experiments import Reproduction
from gippo.studies.reproduction.paper import EXPERIMENTS
from gippo.studies.reproduction.runs import Run, complete, config_digest

ROOT = Path(__file__).parents[4]
GIVEN_UP = "gippo: epoch 2: the loss is nan before its first step, 11 times in a row"


def run_of(tmp_path, **changes):
    return Run(**{"env": "dejong", "method": "rp", "seed": 0, "runs_dir": tmp_path, **changes})


def test_a_runs_folder_tells_all_that_decides_its_numbers(tmp_path, monkeypatch):
    plain = run_of(tmp_path)
    others = [
        run_of(tmp_path, seed=1),
        run_of(tmp_path, budget=7),
        run_of(tmp_path, method="ppo"),
        run_of(tmp_path, env="ackley"),
        run_of(tmp_path, variant=("algo.learning_rate=0.5",)),
    ]
    assert len({run.run_dir for run in (plain, *others)}) == 6
    assert run_of(tmp_path, variant=("learner.parallel_updates=true",)).run_dir == plain.run_dir
    moved = dataclasses.replace(plain.config, run_dir="elsewhere", num_threads=3)
    assert config_digest(moved) == config_digest(plain.config)
    monkeypatch.setattr(runs_module, "code_version", lambda method: "otherone")
    assert run_of(tmp_path).run_dir != plain.run_dir
    assert run_of(tmp_path).run_dir.name.rpartition("_")[0] == plain.run_dir.name.rpartition("_")[0]


def test_a_runs_folder_may_have_any_name(tmp_path):
    run = run_of(tmp_path / "a, b=c {d}")
    (override, *_) = parse(run.command[4:])
    assert override.key_or_group == "run_dir"
    assert override.value() == str(run.run_dir)


def test_a_budget_is_a_number_of_epochs_at_most(tmp_path):
    assert run_of(tmp_path).config.num_epochs == 2000
    assert run_of(tmp_path, budget=7).config.num_epochs == 7
    assert run_of(tmp_path, budget=10**6).config.num_epochs == 2000
    assert run_of(tmp_path, budget=7).full_epochs == 2000


def test_the_ladders_ant_has_windows_of_16_steps_and_as_many_steps(tmp_path):
    (ant,) = (p for p in EXPERIMENTS["ladder"].problems if p.env == "ant_dflex")
    full = run_of(tmp_path, env=ant.env, variant=ant.variant)
    cut = dataclasses.replace(full, budget=7)
    assert (full.config.learner.horizon, full.config.num_epochs) == (16, 2000 * 32 // 16)
    assert (cut.config.num_epochs, cut.full_epochs) == (7, 4000)
    assert configure("train", TrainConfig, cut.command[4:]).num_epochs == 7


def test_a_problems_form_reaches_its_runs(tmp_path, monkeypatch):
    made = []
    monkeypatch.setattr(Reproduction, "complete", lambda self, runs: made.extend(runs))
    places = [f"runs_dir={tmp_path / 'runs'}", f"out={tmp_path / 'results'}"]
    choice = ["problems=[ant_dflex,hopper]", "methods=[rp]", "seeds=1", "budget=2"]
    assert main(["reproduce", "ladder", *choice, *places]) == 0
    horizons = {run.env: run.config.learner.horizon for run in made}
    assert horizons == {"ant_dflex": 16, "hopper": 32}
    page = (tmp_path / "results" / "ladder_shortened" / "README.md").read_text()
    assert "Ant, windows of 16 steps" in page


def test_another_versions_run_is_used_only_when_asked_for(tmp_path):
    own = run_of(tmp_path).run_dir
    older = own.with_name(own.name.rpartition("_")[0] + "_0123abcd")
    older.mkdir()
    assert run_of(tmp_path).run_dir == own
    assert run_of(tmp_path, any_code=True).run_dir == older
    assert run_of(tmp_path, any_code=True).code == "0123abcd"
    own.mkdir()
    assert run_of(tmp_path, any_code=True).run_dir == own


def test_the_code_version_sees_code_and_not_comments(tmp_path):
    sources = {path.name for path in versions._sources("rp")}
    assert sources >= {"learner.py", "rollout.py", "rp.py", "pace_car.py", "idm.py", "ant.usda"}
    assert not sources & {"plots.py", "pe.py", "reproduce.py", "recording.py", "train.py"}
    assert versions.code_version("rp") != versions.code_version("pe")
    bare = versions._bare('"""Doc."""\nx = 1  # one\ndef f():\n    """Doc."""\n    return x\n')
    assert bare == versions._bare("x = 1\n\n\ndef f():\n    return x\n")
    assert bare != versions._bare("x = 2\n\n\ndef f():\n    return x\n")


def test_code_that_changes_meanwhile_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(runs_module, "digest_of_sources", lambda method: "changed")
    with pytest.raises(UserError, match="the code has changed"):
        complete([run_of(tmp_path, budget=1)], jobs=1, report=lambda line: None)


class Script(Run):
    """A run whose process does as told."""

    script = "raise SystemExit(0)"

    @property
    def command(self):
        return [sys.executable, "-c", f"folder = {str(self.run_dir)!r}\n{self.script}"]


WRITES = """
import json, os
os.makedirs(folder)
with open(os.path.join(folder, "metrics.jsonl"), "w") as file:
    for epoch in range(1, {epochs} + 1):
        row = {{"epoch": epoch, "best_return": -1.0 / epoch, "wall_time": 0.1}}
        file.write(json.dumps(row) + chr(10))
{then}
"""


def scripted(tmp_path, epochs, then, seed=0):
    run = Script("dejong", "rp", seed, tmp_path, budget=4)
    object.__setattr__(run, "script", WRITES.format(epochs=epochs, then=then))
    return run


def test_a_run_given_up_is_kept_as_a_failure_and_not_made_again(tmp_path):
    lines = []
    failing = scripted(tmp_path, 2, f"print({GIVEN_UP!r}); raise SystemExit(1)")
    good = scripted(tmp_path, 4, "", seed=1)
    complete([failing, good, good], jobs=2, report=lines.append)
    assert failing.failure == GIVEN_UP
    assert failing.score == -0.5
    assert good.ended and good.failure is None and good.score == -0.25
    assert lines[0] == "2 runs, 0 of them there already"
    assert any(f"GIVEN UP after epoch 2: {GIVEN_UP}" in line for line in lines)
    lines.clear()
    complete([failing, good], jobs=2, report=lines.append)
    assert lines == ["2 runs, 2 of them there already"]


def test_a_full_disk_is_no_failure_of_the_method(tmp_path):
    run = scripted(tmp_path, 2, "print('gippo: no space left on device'); raise SystemExit(1)")
    with pytest.raises(UserError, match="ended with status 1: gippo: no space left"):
        complete([run], jobs=1, report=lambda line: None)
    assert run.failure is None


def test_a_run_that_cannot_begin_is_told_with_its_last_words(tmp_path):
    run = scripted(tmp_path, 0, "print('gippo: env.dim: wrong'); raise SystemExit(2)")
    with pytest.raises(UserError, match=r"dejong rp seed 0: ended with status 2: gippo: env.dim"):
        complete([run], jobs=1, report=lambda line: None)


def reproduce(folder, *arguments):
    places = [f"runs_dir={folder / 'runs'}", f"out={folder / 'results'}"]
    return main(["reproduce", "table1", "problems=[dejong]", *places, *arguments])


@pytest.mark.slow
def test_a_shortened_table_says_so_and_is_not_made_twice(tmp_path, capsys):
    arguments = ["methods=[rp]", "--seeds", "1", "first_seed=3", "--budget=3"]
    assert reproduce(tmp_path, *arguments) == 0
    said = capsys.readouterr().out
    assert "1 runs, 0 of them there already" in said
    assert "SHORTENED: 3 of 2000 epochs" in said
    folder = tmp_path / "results" / "table1_shortened"
    page = (folder / "README.md").read_text()
    assert "**SHORTENED: 3 of 2000 epochs.**" in page
    assert "| De Jong, 1 dimension | RP | 1 |" in page
    assert (folder / "curves.png").read_bytes().startswith(b"\x89PNG")
    assert (folder / "configs" / "dejong_rp.yaml").read_text().startswith("env:")
    score = (folder / "runs.csv").read_text().splitlines()[1].split(",")
    assert score[:3] == ["dejong", "rp", "3"]
    assert "Not run here: De Jong, 64 dimensions; Ackley, 1 dimension;" in page
    (metrics,) = tmp_path.glob("runs/*/metrics.jsonl")
    last = json.loads(metrics.read_text().splitlines()[-1])
    assert (last["epoch"], last["best_return"]) == (3, float(score[3]))
    assert json.loads((folder / "environment.json").read_text())["versions"]["torch"]
    before = metrics.read_bytes()
    assert reproduce(tmp_path, *arguments) == 0
    assert "1 runs, 1 of them there already" in capsys.readouterr().out
    assert metrics.read_bytes() == before


@pytest.mark.slow
def test_an_interruption_saves_and_the_same_command_goes_on(tmp_path):
    command = [sys.executable, "-m", "gippo", "reproduce", "table1", "problems=[dejong]"]
    command += ["methods=[rp]", "seeds=1", "budget=400", f"runs_dir={tmp_path / 'runs'}"]
    command += [f"out={tmp_path / 'results'}"]
    process = subprocess.Popen(
        command,
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    deadline = time.monotonic() + 120.0
    while not any(p.stat().st_size > 3000 for p in tmp_path.glob("runs/*/metrics.jsonl")):
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < deadline
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    said, _ = process.communicate(timeout=60)
    assert process.returncode == 143, said
    assert "the same command goes on with it" in said
    (run_dir,) = (p.parent for p in tmp_path.glob("runs/*/metrics.jsonl"))
    epochs = len((run_dir / "metrics.jsonl").read_text().splitlines())
    assert 0 < epochs < 400
    assert list((run_dir / "checkpoints").glob("*.pt"))
    run = Run("dejong", "rp", 0, tmp_path / "runs", budget=400)
    assert run.run_dir == run_dir
    assert run.command[-2:] == ["resume=true", "num_threads=1"]


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["tabel1"], ["'tabel1'", "table1"]),
        ([], ["figure7"]),
        (["table1", "problems=[cartpole]"], ["problems", "cartpole", "dejong64"]),
        (["table1", "methods=[gipo]"], ["methods", "gipo", "gippo"]),
        (["table1", "--seeds"], ["--seeds"]),
        (["table1", "seeds=0"], ["seeds", "0"]),
        (["table1", "first_seed=-1"], ["first_seed", "-1"]),
    ],
)
def test_a_mistake_is_one_line_and_writes_nothing(arguments, parts, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["reproduce", *arguments]) == 2
    printed = capsys.readouterr().err
    assert printed.count("\n") == 1
    assert all(part in printed for part in parts)
    assert os.listdir(tmp_path) == []
