"""Where a run's numbers go besides metrics.jsonl."""

import csv
import importlib.util
import json
import sys
from types import ModuleType, SimpleNamespace

import pytest

from gippo.cli import main
from gippo.runs.loggers import tag
from gippo.runs.metrics import read_metrics

SMALL = (
    *("env=dejong", "env.num_envs=4", "learner.actor.hidden=[4]", "learner.critic.hidden=[4]"),
    *("num_epochs=3", "checkpoint_every=2", "rollout.num_envs=0"),
)


def train(run_dir, *more):
    return main(["train", *SMALL, f"run_dir={run_dir}", *more])


class Service:
    """A module that stands in for wandb's or mlflow's: it keeps what it is told."""

    def __init__(self):
        self.told, self.begun, self.ended, self.failing_from = [], [], 0, 99

    def log(self, numbers, step):
        if step >= self.failing_from:
            raise ConnectionError("no route to host")
        self.told.append((step, numbers))

    def finish(self):
        self.ended += 1

    def as_wandb(self):
        def init(**given):
            self.begun.append(given)
            return SimpleNamespace(id=given["id"] or "w1", log=self.log, finish=self.finish)

        return {"init": init}

    def as_mlflow(self):
        def start_run(run_id, run_name):
            self.begun.append({"id": run_id, "name": run_name})
            return SimpleNamespace(info=SimpleNamespace(run_id=run_id or "m1"))

        def log_params(parameters):
            self.begun[-1]["config"] = parameters

        return {
            "set_experiment": lambda name: None,
            "start_run": start_run,
            "log_params": log_params,
            "log_metrics": self.log,
            "end_run": self.finish,
        }


def stand_in(monkeypatch, name):
    service, module = Service(), ModuleType(name)
    vars(module).update(getattr(service, f"as_{name}")())
    module.__spec__ = importlib.util.spec_from_loader(name, loader=None)
    monkeypatch.setitem(sys.modules, name, module)
    return service


@pytest.mark.parametrize("name", ["wandb", "mlflow"])
def test_a_service_gets_every_epoch_and_goes_on_with_the_same_run(name, tmp_path, monkeypatch):
    service, run_dir = stand_in(monkeypatch, name), tmp_path / "run"
    assert train(run_dir, f"logger=[{name}]") == 0
    columns = read_metrics(run_dir)
    assert [step for step, _ in service.told] == [1, 2, 3]
    assert service.told[2][1]["critic/critic_loss"] == columns["critic_loss"][2]
    assert service.told[2][1]["return/episode_return"] == columns["episode_return"][2]
    assert service.ended == 1 and service.begun[0]["name"] == "run"
    config = service.begun[0]["config"]
    assert (config["seed"] if name == "wandb" else config["env.num_envs"]) in (0, 4)
    assert main(["train", f"run_dir={run_dir}", "resume=true", "num_epochs=4"]) == 0
    assert [step for step, _ in service.told] == [1, 2, 3, 4]
    assert service.begun[1]["id"] == {"wandb": "w1", "mlflow": "m1"}[name]
    assert not (run_dir / "tensorboard").exists()


def test_a_service_that_fails_ends_no_training(tmp_path, monkeypatch, capsys):
    service = stand_in(monkeypatch, "wandb")
    service.failing_from = 2
    assert train(tmp_path / "run", "logger=[wandb]") == 0
    assert "logger: wandb has failed" in capsys.readouterr().out
    assert [step for step, _ in service.told] == [1]
    assert len(read_metrics(tmp_path / "run")["epoch"]) == 3


def test_csv_holds_the_rows_of_metrics_jsonl(tmp_path):
    run_dir = tmp_path / "run"
    assert train(run_dir, "logger=[csv]", "evaluate_every=2") == 0
    rows = [json.loads(line) for line in (run_dir / "metrics.jsonl").read_text().splitlines()]
    with (run_dir / "metrics.csv").open() as file:
        table = list(csv.DictReader(file))
    assert [int(row["epoch"]) for row in table] == [1, 2, 3]
    assert table[0]["evaluation_return"] == "" and float(table[1]["evaluation_return"]) < 0.0
    for name, value in rows[2].items():
        assert table[2][name] == ("" if value is None else str(value))


def test_what_is_not_there_is_refused_before_anything_is_written(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "mlflow", None)
    assert train(tmp_path / "run", "logger=[mlflow]") == 2
    assert "pip install '.[mlflow]'" in capsys.readouterr().err
    assert train(tmp_path / "run", "logger=[tensorbored]") == 2
    assert "'tensorboard'" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("name", "grouped"),
    [
        ("episode_return", "return/episode_return"),
        ("best_return", "return/best_return"),
        ("evaluation_return", "return/evaluation_return"),
        ("alpha", "alpha/alpha"),
        ("det_max", "alpha/det_max"),
        ("actor_loss", "actor/actor_loss"),
        ("kl", "actor/kl"),
        ("critic_loss", "critic/critic_loss"),
        ("wall_time", "time/wall_time"),
        ("reward/progress", "reward/progress"),
    ],
)
def test_tags_are_in_groups(name, grouped):
    assert tag(name) == grouped


def test_wandb_itself_offline(tmp_path, monkeypatch):
    pytest.importorskip("wandb", reason="pip install 'gippo[wandb]' brings it")
    monkeypatch.setenv("WANDB_MODE", "offline")
    assert train(tmp_path / "run", "logger=[wandb]") == 0
    assert list((tmp_path / "run" / "wandb").glob("offline-run-*/*.wandb"))


def test_mlflow_itself_in_a_database(tmp_path, monkeypatch):
    mlflow = pytest.importorskip("mlflow", reason="pip install 'gippo[mlflow]' brings it")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    monkeypatch.chdir(tmp_path)
    assert train(tmp_path / "run", "logger=[mlflow]") == 0
    known = json.loads((tmp_path / "run" / "loggers.json").read_text())["mlflow"]
    history = mlflow.MlflowClient().get_metric_history(known, "critic/critic_loss")
    assert [m.step for m in history] == [1, 2, 3]
