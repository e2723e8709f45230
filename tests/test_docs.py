"""The pages on diagnostics and reproduction: their code runs, their links and commands exist."""

import re
from pathlib import Path

import pytest

from gippo.cli import COMMANDS

DOCS = Path(__file__).parents[1] / "docs"
PAGES = [DOCS / "diagnostics.md", DOCS / "reproduction.md"]


def test_the_example_of_an_own_environment_runs(capsys):
    (code,) = re.findall(r"```python\n(.*?)```", PAGES[0].read_text(encoding="utf-8"), re.DOTALL)
    exec(code, {})
    assert "these gradients" in capsys.readouterr().out


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_links_and_commands_are_there(page):
    text = page.read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", text):
        if not target.startswith("https://"):
            assert (DOCS / target).exists(), target
    commands = re.findall(r"^    gippo (\S+)", text, re.MULTILINE)
    assert commands
    assert set(commands) <= set(COMMANDS)
