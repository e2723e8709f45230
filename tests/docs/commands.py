"""Every command that the documentation prints.

A page's commands are those of its fenced blocks (without a language, or bash), the indented lines
that begin with a program, and code within a line of text that begins with one and has arguments.
"""

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = (
    "README.md",
    "CONTRIBUTING.md",
    *sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "docs").rglob("*.md")),
    *sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "results").rglob("README.md")),
)
PROGRAMS = ("gippo", "python", "pip", "make", "torchrun")
"""What a line of text or an indented one begins with if it is a command."""
SHELL = ("", "bash", "sh", "console", "shell")
OUTPUTS = ("cartpole, a new policy after",)
"""How blocks begin that show what a command prints."""
_ASSIGNED = re.compile(r"[A-Z_]+=\S*$")


@dataclass(frozen=True)
class Command:
    """One command of a page: the words that a shell would hand over.

    Attributes:
        page: its file.
        text: as it is printed.
        words: without variables that are set before the program.
        inline: whether it stands within a line of text: it need not follow from those before.
        block: the number of the block that it stands in.
    """

    page: str
    text: str
    words: tuple[str, ...]
    inline: bool = False
    block: int = -1


def commands_of(page: str) -> list[Command]:
    """A page's commands in their order, those in text last."""
    text = (ROOT / page).read_text(encoding="utf-8").replace("\\\n", " ")
    fences = re.findall(r"^```(.*?)\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    blocks = [block for language, block in fences if language in SHELL]
    lines = [
        (line, number)
        for number, block in enumerate(blocks)
        if not block.startswith(OUTPUTS)
        for line in block.splitlines()
    ]
    plain = re.sub(r"^```.*?^```$", "", text, flags=re.DOTALL | re.MULTILINE)
    indented = [line.strip() for line in plain.splitlines() if line.startswith("    ")]
    lines += [(line, len(blocks)) for line in indented if _program(line) in PROGRAMS]
    plain = re.sub(r"^    .*$", "", plain, flags=re.MULTILINE)
    spans = [" ".join(span.split()) for span in re.findall(r"`([^`]+)`", plain)]
    spans = [(span, -1) for span in spans if _program(span) in PROGRAMS and _given(span)]
    return [
        Command(page, part, words, inline=number < 0, block=number)
        for line, number in (*lines, *spans)
        for part in re.split(r"\s+&&\s+", line.strip())
        if (words := _words(part))
    ]


def _given(span: str) -> bool:
    """Whether more is said than a name: `gippo train` and `make` are names, `make docs` is not."""
    words = _words(span)
    return len(words) > (2 if words[0] == "gippo" else 1)


def _words(line: str) -> tuple[str, ...]:
    words = shlex.split(line, comments=True)
    while words and _ASSIGNED.match(words[0]):
        words.pop(0)
    return tuple(words)


def _program(line: str) -> str:
    try:
        return (_words(line) or ("",))[0]
    except ValueError:  # an apostrophe: no command
        return ""
