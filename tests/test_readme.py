"""What the README tells people to type."""

import math
import re
from pathlib import Path

import torch

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


CODE = re.findall(r"```python\n(.*?)```", README, re.DOTALL)


def test_three_lines_train_load_and_evaluate(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    short = CODE[0].replace("num_epochs=500", "num_epochs=1").replace("=100)", "=2)")
    exec(short, {})
    assert math.isfinite(float(capsys.readouterr().out.splitlines()[-1]))


def test_the_example_runs_and_has_a_gradient():
    names: dict = {}
    exec(CODE[1], names)
    assert float(names["actions"].grad.abs().max()) > 0.0
    assert bool(torch.isfinite(names["actions"].grad).all())


def test_links_and_pictures_are_there():
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", README):
        if not target.startswith("https://"):
            assert (ROOT / target).exists(), target
