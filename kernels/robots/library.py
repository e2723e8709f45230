"""What a term of a task is, and how it enters the library; `kernels.robots.terms` has them."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import warp as wp

NUM_PARAMETERS = 4


@dataclass(frozen=True)
class Term:
    """A term of the library.

    Attributes:
        name: in a task.
        function: the Warp function.
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


def term(
    library: dict[str, Term],
    unit: str,
    *,
    bodies: bool = False,
    forces: bool = False,
    command: bool = False,
    contacts: bool = False,
    air: bool = False,
    **parameters: float | None,
) -> Callable[[Callable[..., Any]], wp.Function]:
    """Enter a function into a library; the arguments are fields of `Term`."""

    def enter(function: Callable[..., Any]) -> wp.Function:
        assert function.__doc__ is not None and len(parameters) <= NUM_PARAMETERS
        native = wp.func(function)
        name = function.__name__.removeprefix("observed_")
        doc = " ".join(function.__doc__.split())
        needs = (bodies, forces, command, contacts, air)
        library[name] = Term(name, native, doc, unit, parameters, *needs)
        return native

    return enter
