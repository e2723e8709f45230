import json
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import hydra
import pytest
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra.core.hydra_config import HydraConfig

from gippo.cli import main
from gippo.commands import train
from gippo.configuration import compose, sweep
from gippo.configuration.compose import parse
from gippo.configuration.sweep import count_jobs
from gippo.errors import StoppedError
from gippo.runs import training
from gippo.runs.metrics import read_metrics
from gippo.terminal.interrupt import stopping_jobs

SMALL = (
    "env=dejong",
    "env.num_envs=4",
    "learner.actor.hidden=[4]",
    "learner.critic.hidden=[4]",
    "logger=[]",
    "num_epochs=2",
)


def run(folder, *overrides: str) -> int:
    return main(["train", "-m", *SMALL, f"hydra.sweep.dir={folder}", *overrides])


def scores(folder) -> dict:
    return {p.parent.name: p.read_bytes() for p in sorted(folder.rglob("metrics.jsonl"))}


@pytest.mark.parametrize(
    ("overrides", "parts"),
    [
        (["seed=0,x"], ["seed: x given"]),
        (["seed=0,1", "learner.horizon=1,2,0"], ["learner.horizon: 0 given"]),
        (["env=dejong,ackleyy"], ["'ackleyy'", "did you mean 'ackley'"]),
        (["algo=gippo,ppo", "algo.alpha.beta=1.02"], ["algo.alpha.beta: no such key"]),
        (["sede=0,1"], ["sede: no such key", "did you mean 'seed'"]),
        (["seed=0,1", "hydra/launcher=jobli"], ["hydra/launcher: 'jobli' given", "'joblib'"]),
        (["seed=0,1", "hydra/sweeper=grid"], ["hydra/sweeper: 'grid' given", "optuna"]),
        (["seed=0,1", "hydra.launcher.jobs=1"], ["hydra.launcher.jobs"]),
        (["seed=choice(0,1"], ["seed=choice(0,1"]),
    ],
)
def test_a_mistake_in_any_job_is_found_before_the_first(overrides, parts, tmp_path, capfd):
    assert run(tmp_path / "sweep", *overrides) == 2
    said = capfd.readouterr().err
    assert said.startswith("gippo: ")
    assert said.count("\n") == 1
    for part in parts:
        assert part in said
    assert os.listdir(tmp_path) == []


def test_a_launcher_that_is_not_installed_is_named_with_what_brings_it(monkeypatch, capsys):
    monkeypatch.setattr(sweep, "find_spec", lambda name: None)
    assert run("nowhere", "seed=0,1", "hydra/launcher=ray") == 2
    assert "pip install '.[ray]'" in capsys.readouterr().err


def test_every_value_and_combination_of_groups_is_tried_and_the_ends_of_ranges():
    samples = sweep._samples(parse(["env=a,b", "algo=c,d", "seed=range(0,3)", "x=interval(1,2)"]))
    assert samples == [
        ["env=a", "algo=c", "seed=0", "x=1.0"],
        ["env=a", "algo=d", "seed=0", "x=1.0"],
        ["env=b", "algo=c", "seed=0", "x=1.0"],
        ["env=b", "algo=d", "seed=0", "x=1.0"],
        ["env=a", "algo=c", "seed=2", "x=1.0"],
        ["env=a", "algo=c", "seed=0", "x=2.0"],
    ]


@pytest.mark.parametrize(
    ("launcher", "jobs", "cores", "threads"),
    [
        ("basic", -1, 8, None),
        ("submitit_slurm", -1, 8, None),
        ("joblib", -1, 8, 1),
        ("joblib", 4, 8, 2),
        ("joblib", 2, 8, 4),
        ("joblib", 1, 64, 4),
        ("joblib", -5, 8, 2),
        ("joblib", 16, 8, 1),
    ],
)
def test_jobs_side_by_side_share_the_cores(monkeypatch, launcher, jobs, cores, threads):
    config = SimpleNamespace(
        runtime=SimpleNamespace(choices={"hydra/launcher": launcher}),
        launcher=SimpleNamespace(n_jobs=jobs),
    )
    monkeypatch.setattr(HydraConfig, "get", lambda: config)
    monkeypatch.setattr(sweep, "num_cores", lambda: cores)
    assert sweep.job_threads() == threads


@pytest.mark.parametrize(
    ("remote", "threads"), [({}, 1), ({"num_gpus": 1}, 1), ({"num_cpus": 3}, 3)]
)
def test_a_job_of_ray_uses_the_cores_it_asks_for(monkeypatch, remote, threads):
    config = SimpleNamespace(
        runtime=SimpleNamespace(choices={"hydra/launcher": "ray"}),
        launcher=SimpleNamespace(ray=SimpleNamespace(remote=remote)),
    )
    monkeypatch.setattr(HydraConfig, "get", lambda: config)
    assert sweep.job_threads() == threads


def test_a_plugins_default_is_mended_unless_the_command_line_says_something():
    memory = "hydra.launcher.ray.init.object_store_memory"
    assert sweep._plugin_defaults(["ray", "basic"], parse(["seed=0,1"])) == [f"+{memory}=null"]
    assert sweep._plugin_defaults(["ray", "basic"], parse([f"+{memory}=1000"])) == []
    assert sweep._plugin_defaults(["basic", "optuna"], []) == ["hydra.sweeper.direction=maximize"]


def test_ray_trains_and_skips_what_is_finished(tmp_path, capfd):
    pytest.importorskip("hydra_plugins.hydra_ray_launcher")
    for said in ("gippo on dejong", "is finished"):
        assert run(tmp_path, "seed=0,1", "hydra/launcher=ray") == 0
        assert said in capfd.readouterr().out
    assert list(scores(tmp_path)) == ["seed=0", "seed=1"]


def test_many_jobs_are_checked_without_composing_each(tmp_path, monkeypatch, capfd):
    composed, load = [], ConfigLoaderImpl.load_configuration

    def counted(self, *args, **kwargs):
        composed.append(args)
        return load(self, *args, **kwargs)

    def begun(config):
        raise KeyboardInterrupt

    monkeypatch.setattr(compose, "compose", hydra.compose)
    monkeypatch.setattr(ConfigLoaderImpl, "load_configuration", counted)
    monkeypatch.setattr(train, "sweep_job", begun)
    seeds = ",".join(map(str, range(64)))
    assert run(tmp_path, f"seed={seeds}", "algo=gippo,ppo,rp,lr", "learner.gamma=0.9,0.99") == 130
    assert capfd.readouterr().out.startswith("512 jobs; their values are checked first")
    each_method = 2 * 4  # without the environment's preset for the method, and with it
    of_the_sweep, of_the_first_job = 1, 1
    assert len(composed) == each_method + of_the_sweep + of_the_first_job


def test_what_is_finished_is_skipped_and_what_is_not_goes_on(tmp_path, monkeypatch):
    assert run(tmp_path, "seed=0,1") == 0
    before = scores(tmp_path)
    assert list(before) == ["seed=0", "seed=1"]
    (tmp_path / "seed=1" / "checkpoints" / "epoch_000002.pt").unlink()
    (tmp_path / "seed=1" / "metrics.jsonl").unlink()
    trained, train_run = [], training.train

    def spy(config, *rest):
        trained.append(config.seed)
        return train_run(config, *rest)

    monkeypatch.setattr(training, "train", spy)
    assert run(tmp_path, "seed=0,1") == 0
    assert trained == [1]
    assert scores(tmp_path)["seed=0"] == before["seed=0"]
    assert run(tmp_path, "seed=0,1", "learner.gamma=0.9") == 2, "that would be another run"


@pytest.mark.slow
def test_joblib_trains_side_by_side_as_one_after_the_other(tmp_path, capfd):
    pytest.importorskip("hydra_plugins.hydra_joblib_launcher")
    assert run(tmp_path / "a", "seed=0,1", "hydra/launcher=joblib", "hydra.launcher.n_jobs=2") == 0
    assert "seed=1: gippo on dejong" in capfd.readouterr().out
    assert run(tmp_path / "b", "seed=0,1", "num_threads=1") == 0
    told = [
        [line.partition(b'"episode_return"')[2] for line in text.splitlines()]
        for folder in ("a", "b")
        for text in scores(tmp_path / folder).values()
    ]
    assert len(told) == 4
    assert told[:2] == told[2:]


@pytest.mark.slow
def test_optuna_maximises_the_score(tmp_path):
    pytest.importorskip("hydra_plugins.hydra_optuna_sweeper")
    how = ["hydra/sweeper=optuna", "hydra.sweeper.n_trials=3", "hydra.sweeper.n_jobs=1"]
    assert run(tmp_path, "algo=rp", *how, "algo.learning_rate=tag(log,interval(1e-3,1e-1))") == 0
    text = (tmp_path / "optimization_results.yaml").read_text()
    best = float(text.partition("best_value:")[2].split()[0])
    returns = [read_metrics(p.parent)["best_return"][-1] for p in tmp_path.rglob("metrics.jsonl")]
    assert len(returns) == 3
    assert best == pytest.approx(max(returns))


def test_a_signal_to_the_sweep_stops_its_jobs_and_a_second_one_the_sweep(monkeypatch):
    job = SimpleNamespace(terminate=lambda: told.append("SIGTERM"))
    told, here = [], os.getpid()
    monkeypatch.setattr(multiprocessing, "active_children", lambda: [job])
    with pytest.raises(StoppedError) as stopped, stopping_jobs(told.append):
        os.kill(here, signal.SIGTERM)
        raise RuntimeError("the jobs that were stopped, in whatever words")
    assert stopped.value.status == 143
    assert told[1:] == ["SIGTERM"] and told[0].startswith("SIGTERM: the jobs under way save")
    with pytest.raises(KeyboardInterrupt), stopping_jobs(told.append):
        os.kill(here, signal.SIGINT)
        os.kill(here, signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    monkeypatch.setattr(multiprocessing, "active_children", list)
    with pytest.raises(KeyboardInterrupt), stopping_jobs(told.append):
        os.kill(here, signal.SIGINT)  # no job has begun: nothing is to be waited for


@pytest.mark.slow
def test_ctrl_c_stops_a_joblib_sweep_and_the_same_line_goes_on(tmp_path):
    pytest.importorskip("hydra_plugins.hydra_joblib_launcher")
    folder = tmp_path / "sweep"
    assert main(["train", *SMALL, f"run_dir='{folder}/seed=0'"]) == 0
    finished = scores(folder)["seed=0"]
    line = ["train", "-m", *SMALL[:-1], "num_threads=1", f"hydra.sweep.dir={folder}"]
    launcher = ["hydra/launcher=joblib", "hydra.launcher.n_jobs=2"]
    sweep_process = subprocess.Popen(
        [sys.executable, "-m", "gippo", *line, "seed=0,1,2,3", *launcher],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])},
        start_new_session=True,
    )
    under_way = [folder / f"seed={seed}" / "metrics.jsonl" for seed in (1, 2)]
    deadline = time.monotonic() + 120.0
    while not all(path.exists() and b"\n" in path.read_bytes() for path in under_way):
        assert sweep_process.poll() is None and time.monotonic() < deadline
        time.sleep(0.01)
    os.killpg(sweep_process.pid, signal.SIGINT)
    output, _ = sweep_process.communicate(timeout=60)
    assert sweep_process.returncode == 130, output
    assert output.count("SIGTERM: saving after this epoch") == 2
    assert output.endswith("gippo: interrupted\n") and "Traceback" not in output
    saved = scores(folder)
    assert list(saved) == ["seed=0", "seed=1", "seed=2"], "the last has not begun"
    for seed in (1, 2):
        config, rows = folder / f"seed={seed}" / "config.yaml", saved[f"seed={seed}"].count(b"\n")
        config.write_text(config.read_text().replace("epochs: 2000", f"epochs: {rows + 2}"))
    assert main([*line, "seed=0,1,2"]) == 0
    after = scores(folder)
    assert after["seed=0"] == saved["seed=0"] == finished
    for name in ("seed=1", "seed=2"):
        assert after[name].startswith(saved[name])
        told = [json.loads(row)["epoch"] for row in after[name].splitlines()]
        assert told == list(range(1, saved[name].count(b"\n") + 3))


def test_a_stopped_job_ends_the_sweep_with_130(monkeypatch, tmp_path, capsys):
    def stopped(*arguments):
        raise StoppedError(130)

    monkeypatch.setattr(training, "train", stopped)
    assert run(tmp_path, "seed=0") == 130
    assert "interrupted" in capsys.readouterr().err


def test_a_folder_name_that_no_file_system_takes_is_refused_before_the_first_job(
    tmp_path, capsys, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    keys = [f"algo.alpha.{name}" for name in ("alpha_0", "max_alpha", "beta", "delta_det")]
    keys += [f"learner.{name}" for name in ("gamma", "gae_lambda", "critic.learning_rate")]
    long = [f"{key}=0.50000000000000001,0.{'5' * 30}" for key in keys]
    assert main(["train", "-m", "env=dejong", *long]) == 2
    said = capsys.readouterr().err
    assert "255 are accepted" in said and "hydra.sweep.subdir='${hydra.job.num}'" in said
    assert not list(tmp_path.iterdir())


def test_jobs_are_counted():
    given = [
        "env=dejong",
        "algo=gippo,ppo",
        "seed=range(0,128)",
        "num_epochs=1,2",
        "hydra.verbose=1",
    ]
    assert count_jobs(given) == 512
