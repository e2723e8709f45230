"""Every command that the documentation prints works as it is printed.

Each of gippo's is tried dry: read, composed and checked, its files looked for, in the order of its
page. Those of `RUN` are then run, shortened, one after the other in one folder. What is neither
gippo's nor a script, a target of the Makefile or an extra stands in `ELSEWHERE` with the reason.
"""

import re
import shlex
import sys
import webbrowser
from pathlib import Path

import pytest

from gippo.cli import main
from gippo.configuration.compose import composing_once
from tests.docs.commands import PAGES, ROOT, Command, commands_of
from tests.docs.trying import change_folder, dry, known, shortened, stage

ELSEWHERE = {
    r"source \.venv/bin/activate": "a shell's own; make train makes it",
    r"\.venv/bin/pre-commit install": "changes the repository's hooks",
    r"bash \.ci/run": "runs everything else",
    r"pip install --no-deps --target models( mjlab==.*)?": "another package",
    r"pip install (array-api-compat|pyglet imgui-bundle)": "another package",
    r"python3\.11 -m venv /tmp/blender": "Blender",
    r"/tmp/blender/bin/(pip|python) .*": "Blender",
    r"'?(\$render|render=).*": "Blender",
    r"tensorboard --logdir runs": "serves until it is stopped; the folder is there",
    r"ray (start --head|stop)": "a cluster",
    r"gippo -> warp_envs -> kernels": "an arrow, no command",
    r"gippo train -m hydra/launcher=(submitit|ray).*": "a plugin that is not installed for tests",
    r"gippo (identify env=traffic|plot kind=space_time|play num_envs=\d+)": "a part, as a name",
    r"gippo train (algo\.alpha\.alhpa_0=1|env=ring env\.noise=-1)": "mistakes that are timed",
}
"""What is tried nowhere here, and why."""
PLACES = {"RUN": "runs/first", "PYTHON": sys.executable, "NAME": "ant", "E": "ant", "ENV": "ant"}
PLACES |= {"SEED": "0", "N": "3", "...": ""}
"""What stands for a reader's own."""
RUN = {
    "README.md": r"gippo reproduce",
    "docs/index.md": None,
    "docs/export.md": None,
    "results/policies/README.md": None,
}
"""Page -> what of it is not run: it takes hours."""
ALWAYS = {"README.md", "docs/index.md", "docs/own-robot.md"}
"""Pages whose commands each run tries; an eighth of the others."""


@pytest.fixture(scope="module")
def composed():
    """What pages have in common is composed once."""
    with composing_once():
        yield


def elsewhere(command: Command) -> bool:
    text = shlex.join(command.words).replace("'", "")
    return any(re.fullmatch(pattern.replace("'?", ""), text) for pattern in ELSEWHERE)


def filled(command: Command) -> tuple[str, ...]:
    """A command's words with something in the place of a reader's own."""

    def fill(word: str) -> str:
        return re.sub(r"(?<![\w.])([A-Z]+|\.\.\.)(?![\w.])", lambda m: PLACES.get(m[1], m[1]), word)

    return tuple(word for word in map(fill, command.words) if word)


def test_patterns_of_what_is_tried_nowhere_are_needed():
    texts = [shlex.join(c.words).replace("'", "") for page in PAGES for c in commands_of(page)]
    for pattern in ELSEWHERE:
        assert any(re.fullmatch(pattern.replace("'?", ""), text) for text in texts), pattern
    assert set(RUN) <= set(PAGES)


@pytest.mark.parametrize(
    "page",
    [
        pytest.param(page, marks=[] if page in ALWAYS else pytest.mark.slow)
        for page in PAGES
        if commands_of(page)
    ],
)
def test_commands_are_read_and_accepted_as_they_stand(
    page, composed, tmp_path, monkeypatch, capsys
):
    stage(tmp_path, page)
    monkeypatch.chdir(tmp_path)
    if not any(c.text.startswith("gippo train") for c in commands_of(page)):
        dry(["train", "env=cartpole", "run_dir=runs/first"], monkeypatch)
    block = -1
    for command in commands_of(page):
        if command.inline or command.block != block:  # another shell
            monkeypatch.chdir(tmp_path)
        block = command.block
        if not elsewhere(command):
            try_dry(command, page, monkeypatch)
    assert "defect of gippo" not in capsys.readouterr().err


def try_dry(command: Command, page: str, monkeypatch) -> None:
    program, *rest = words = filled(command)
    if program == "cd":
        change_folder(command, monkeypatch)
    elif program == "torchrun":
        dry(words[words.index("gippo") + 1 :], monkeypatch)
    elif program == "gippo":
        assert known(command), command.text
        for name in NEEDED.get(page, ()):
            if name in " ".join(words) and not Path(name).exists():
                if Path(name).suffix:
                    Path(name).touch()
                else:
                    dry(["train", "env=cartpole", f"run_dir={name}"], monkeypatch)
        dry(rest, monkeypatch)
    elif program == "make":
        makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
        targets = [word for word in rest if "=" not in word]
        assert all(re.search(rf"^{target}:", makefile, re.MULTILINE) for target in targets)
        keys = [word.partition("=")[0] for word in rest if "=" in word]
        assert all(re.search(rf"^{key} \?=", makefile, re.MULTILINE) for key in keys)
    elif program == "pip":
        given = " ".join(rest)
        found = re.fullmatch(r"install (-e )?\.(\[([\w,]+)\])?", given)
        assert found, f"{command.text}: a package that ELSEWHERE has not"
        pyproject = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
        for extra in filter(None, (found[3] or "").split(",")):
            assert re.search(rf"^{extra} = \[", pyproject, re.MULTILINE), extra
    elif program in ("python", ".venv/bin/python"):
        try_python(rest)
    else:
        pytest.fail(f"{page}: {command.text!r} is of no kind that is tried; see ELSEWHERE")


NEEDED = {
    "docs/diagnostics.md": ["runs/first"],
    "docs/python.md": ["runs/ant"],
    "docs/methods.md": ["runs/first"],
    "docs/performance.md": ["runs/first"],
    "docs/rollouts.md": ["runs/first", "runs/second", "rollout.usdc", "crowd.usdc"],
    "results/randomized/README.md": ["runs/first"],
}
"""Page -> runs and recordings that it takes for granted."""


def try_python(words: list[str]) -> None:
    if words[0] == "-c":
        compile(words[1], "<documentation>", "exec")
        return
    if words[0] == "-m":
        assert words[1] == "pytest"
        paths = [word for word in words[2:] if word.startswith("tests")]
        assert paths and all((ROOT / path).exists() for path in paths), words
        return
    script = (ROOT / words[0]).read_text(encoding="utf-8")
    for flag in (word for word in words[1:] if word.startswith("--")):
        assert f'"{flag}"' in script, flag
    for path in (word for word in words[1:] if word.startswith(("tests/", "results/", "docs/"))):
        assert (ROOT / path).exists(), path


@pytest.mark.slow
@pytest.mark.parametrize("page", RUN)
def test_commands_run_one_after_the_other(page, tmp_path, monkeypatch):
    stage(tmp_path, page)
    monkeypatch.chdir(tmp_path)
    opened: list[str] = []
    monkeypatch.setattr(webbrowser, "open", lambda url: not opened.append(url))
    tried, block = 0, -1
    for command in commands_of(page):
        if command.block != block:
            monkeypatch.chdir(tmp_path)
        block = command.block
        left_out = RUN[page] and re.search(RUN[page], command.text)
        if command.inline or left_out or elsewhere(command):
            continue
        if command.words[0] == "cd":
            change_folder(command, monkeypatch)
        elif command.words[0] == "gippo":
            assert main(shortened(filled(command))) == 0, command.text
            tried += 1
    assert tried
