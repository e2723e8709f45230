"""Evaluation of the policy while it is trained."""

import math

import numpy as np
import pytest

import gippo
from gippo.cli import main
from gippo.runs.checkpoint import read
from gippo.runs.metrics import read_metrics
from gippo.runs.trainer import Trainer
from tests.gippo.runs.test_trainer import Walk, rows

SMALL = (
    *("env=cartpole", "env.num_envs=4", "learner.horizon=8"),
    *("learner.actor.hidden=[4]", "learner.critic.hidden=[4]", "logger=[]"),
    *("num_epochs=7", "rollout.num_envs=0"),
)


def columns(run_dir):
    return {k: v for k, v in read_metrics(run_dir).items() if k != "wall_time"}


def test_training_does_not_notice_and_the_numbers_are_those_of_evaluate(tmp_path):
    plain, watched = tmp_path / "plain", tmp_path / "watched"
    assert main(["train", *SMALL, f"run_dir={plain}"]) == 0
    more = ["evaluate_every=3", "evaluate_episodes=5", "checkpoint_every=1"]
    assert main(["train", *SMALL, f"run_dir={watched}", *more]) == 0
    found = columns(watched)
    returns, lengths = (found.pop(f"evaluation_{name}") for name in ("return", "length"))
    np.testing.assert_equal(found, columns(plain))
    assert np.flatnonzero(np.isfinite(returns)).tolist() == [2, 5, 6]
    # The policy of an epoch acts by the normaliser of the epochs up to it, as the saved one does.
    judged = gippo.evaluate(watched, num_episodes=5, checkpoint="newest", seed=0)
    assert returns[6] == judged.mean
    assert lengths[6] == pytest.approx(np.mean(judged.lengths))


def test_the_best_policy_is_the_best_evaluated_where_that_is_asked_for(tmp_path):
    learner = Walk()
    options = {"num_epochs": 9, "checkpoint_every": 4, "keep_last": 2}
    trainer = Trainer(
        learner,
        tmp_path,
        **options,
        evaluate=lambda: {"evaluation_return": -abs(learner.epoch - 6.0)},
        evaluate_every=2,
        best_by="evaluation",
    )
    assert trainer.train()
    assert read(tmp_path / "checkpoints" / "best.pt")["epoch"] == 6
    told = [row.get("evaluation_return") for row in rows(tmp_path)]
    assert told == [None, -4.0, None, -2.0, None, 0.0, None, -2.0, -3.0]
    assert trainer.best_return == 0.0 and not math.isnan(trainer.best_return)


def test_the_best_by_evaluation_needs_evaluations(capsys):
    assert main(["train", "env=dejong", "best_by=evaluation"]) == 2
    assert "evaluate_every: 0 given" in capsys.readouterr().err
