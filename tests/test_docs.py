"""What the documentation's pages tell people: their code runs, their commands and links exist."""

import re
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[1] / "docs"
PAGES = {page.name: page.read_text(encoding="utf-8") for page in sorted(DOCS.glob("*.md"))}

# Blocks that stand by themselves, and what they need beyond the project.
RUNNABLE = {
    "index.md": None,
    "methods.md": None,
    "adapters.md": "stable_baselines3",
}


def blocks(page):
    found = re.findall(r"```python\n(.*?)```", PAGES[page], re.DOTALL)
    return [code for code in found if "--8<--" not in code]  # that is an example, tested as such


@pytest.mark.parametrize(
    ("page", "index"), [(page, i) for page in RUNNABLE for i in range(len(blocks(page)))]
)
def test_the_code_runs(page, index, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    if RUNNABLE[page] is not None:
        pytest.importorskip(RUNNABLE[page], reason="pip install 'gippo[adapters]' brings it")
    exec(blocks(page)[index], {})


def test_a_run_from_python_goes_from_training_to_acting(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names: dict = {}
    first, *others = blocks("python.md")
    assert "num_epochs=10," in first
    exec(first.replace("num_epochs=10,", "num_epochs=1,"), names)
    for code in others:
        exec(code, names)
    assert len(names["evaluation"].returns) == 20
    assert names["obs"].shape[0] == 4


def test_the_diagnosis_of_an_own_environment_runs(capsys):
    (code,) = blocks("diagnostics.md")
    exec(code, {})
    assert "these gradients" in capsys.readouterr().out


@pytest.mark.parametrize("page", PAGES)
def test_links_and_pictures_are_there(page):
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", PAGES[page]):
        if not target.startswith("https://"):
            assert (DOCS / target).exists(), target
