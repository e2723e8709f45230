"""What a term of a task is, and how it enters the library; `kernels.robots.terms` has them.

What terms there are can be told from their files, too, without running them: see `library`.
"""

import ast
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

NUM_PARAMETERS = 4


@dataclass(frozen=True)
class Term:
    """A term of the library.

    Attributes:
        name: in a task.
        function: the Warp function; None of a term that was read from its file.
        doc: what it is, in a sentence.
        unit: of its value.
        parameters: name -> default, None for one that must be given; in the order of `p`. The value
            of "joint" or "body" is a name, and the function finds its index.
        bodies: whether it reads where all bodies are.
        forces: whether it reads the actuators' forces.
        command: whether it reads the command.
        contacts: whether it reads the ground's forces on bodies.
        air: whether it reads how long bodies have been off the ground.
    """

    name: str
    function: Any
    doc: str
    unit: str
    parameters: dict[str, float | None]
    bodies: bool
    forces: bool
    command: bool
    contacts: bool = False
    air: bool = False


REWARDS: dict[str, Term] = {}
ENDS: dict[str, Term] = {}
OBSERVATIONS: dict[str, Term] = {}
WIDTHS = {
    "height": 1,
    "orientation": 4,
    "up": 3,
    "heading": 3,
    "velocities": 6,
    "velocity": 3,
    "gyro": 3,
    "own_velocities": 6,
    "command": 3,
}
"""Numbers of the observations that are as many for every robot."""


class Library(NamedTuple):
    """All terms by name."""

    rewards: dict[str, Term]
    ends: dict[str, Term]
    observations: dict[str, Term]


def library() -> Library:
    """The terms that have been entered, or that their files declare where these have not been run.

    Running them takes Warp, and reading a task does not.
    """
    return Library(REWARDS, ENDS, OBSERVATIONS) if REWARDS else _declared()


@cache
def _declared() -> Library:
    found = Library({}, {}, {})
    tables = {"REWARDS": found.rewards, "ENDS": found.ends, "OBSERVATIONS": found.observations}
    for name in ("terms.py", "contact_terms.py"):
        source = Path(__file__).with_name(name).read_text(encoding="utf-8")
        for function in ast.parse(source).body:
            for call in getattr(function, "decorator_list", ()):
                if isinstance(call, ast.Call) and getattr(call.func, "id", "") == "term":
                    table, unit = call.args
                    values = {str(k.arg): ast.literal_eval(k.value) for k in call.keywords}
                    doc = ast.get_docstring(function)
                    enter = tables[table.id], function.name, doc, ast.literal_eval(unit)
                    _enter(*enter, None, **values)
    return found


def term(library: dict[str, Term], unit: str, **settings: Any) -> Callable[..., Any]:
    """Enter a function into a library; the arguments are fields of `Term`, parameters by name."""
    import warp as wp  # here alone

    def enter(function: Callable[..., Any]) -> wp.Function:
        native = wp.func(function)
        _enter(library, function.__name__, function.__doc__, unit, native, **settings)
        return native

    return enter


def _enter(
    library: dict[str, Term],
    name: str,
    doc: str | None,
    unit: str,
    function: Any,
    *,
    bodies: bool = False,
    forces: bool = False,
    command: bool = False,
    contacts: bool = False,
    air: bool = False,
    **parameters: float | None,
) -> None:
    assert doc is not None and len(parameters) <= NUM_PARAMETERS
    name = name.removeprefix("observed_")
    needs = (bodies, forces, command, contacts, air)
    library[name] = Term(name, function, " ".join(doc.split()), unit, parameters, *needs)
