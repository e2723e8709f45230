"""What every method is given, and what it must do with it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar

from gippo.updates.window import Context, UpdateReport, Window


class Method(ABC):
    """A way to update the actor from a window. A subclass names itself and its config."""

    name: ClassVar[str]
    config_class: ClassVar[type]

    @abstractmethod
    def __init__(self, context: Context, config: Any) -> None:
        """Make the method for an actor, with a `config_class`."""

    @property
    def gradient_lambda(self) -> float | None:
        """The lambda of the advantages whose action gradients are wanted; None: no gradients."""
        return None

    @abstractmethod
    def update(self, window: Window, epoch: int) -> UpdateReport:
        """Update the actor's parameters in place; `epoch` counts from zero."""

    @abstractmethod
    def state_dict(self) -> dict[str, Any]:
        """A copy of everything but the actor that the next update depends on."""

    @abstractmethod
    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go back to what `state_dict` returned."""
