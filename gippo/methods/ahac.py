"""AHAC: adaptive-horizon actor-critic (Georgiev, Srinivasan, Xu, Heiden & Garg 2024).

SHAC's objective (`gippo.updates.short_horizon`) with the least value of two critics, no target
critic, critics fitted until their loss settles, and windows whose length H follows a multiplier:

    H <- clip(H + eta (R/H - multiplier H), H_min, H_max)
    multiplier <- multiplier + rate (H - H_min)

with R the mean over environments of the window's return and last value. What it takes of the
networks and the critic is in configs/algo/ahac.yaml.

The paper, the code that its authors released and the code of their runs have three different rules.
This is the one of the runs, in which contact plays no part. In the released code H lengthens with
contact forces, the paper's objective is penalised by them; no environment here tells them, so
neither is offered. Its authors' two critics are built of the same layers and so are one; these two
are independent.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from gippo.methods.base import Method
from gippo.networks.adam import Schedule
from gippo.updates.gradient_step import GradientStepConfig
from gippo.updates.short_horizon import LAMBDA, ShortHorizonStep
from gippo.updates.window import Context, UpdateReport, Window
from warp_envs.checks import ArgumentError, check_choice, check_integer, check_number

HORIZONS = ("fixed", "return")


@dataclass
class AHACConfig(GradientStepConfig):
    """AHAC, adaptive-horizon actor-critic."""

    learning_rate: float = 2e-3
    horizon: str = "return"
    """"return": the windows' length follows what they return; "fixed": it is learner.horizon."""
    min_horizon: int = 8
    """Where the length starts, and its least."""
    max_horizon: int = 64
    horizon_rate: float = 2e-3
    """Of the length, eta, at the start; it falls linearly to `final_horizon_rate`."""
    final_horizon_rate: float = 1e-5
    multiplier_rate: float = 1e-4
    """Of the multiplier, which rises while the length is above its least."""

    def __post_init__(self) -> None:
        """Raise ValueError naming a key out of range."""
        super().__post_init__()
        if self.horizon == "contact":
            hint = "; no environment tells contact forces in its info, which it would need"
            raise ArgumentError("horizon", "'contact'", f"one of {list(HORIZONS)}", hint)
        check_choice("horizon", self.horizon, HORIZONS)
        check_integer("min_horizon", self.min_horizon, 1)
        check_integer("max_horizon", self.max_horizon, self.min_horizon)
        check_number("horizon_rate", self.horizon_rate)
        check_number("final_horizon_rate", self.final_horizon_rate)
        check_number("multiplier_rate", self.multiplier_rate)


class HorizonControl:
    """The windows' length, a real number, and the multiplier that holds it down."""

    def __init__(self, config: AHACConfig, num_epochs: int) -> None:
        """Start at the least length."""
        self._config = config
        self._schedule = Schedule(
            "linear", config.horizon_rate, config.final_horizon_rate, num_epochs
        )
        self.length = float(config.min_horizon)
        self.multiplier = 0.0

    @property
    def steps(self) -> int:
        """The length of a window."""
        return round(self.length)

    def adjust(self, objective: float, epoch: int) -> None:
        """Follow the mean over environments of a window's return and last value, R."""
        config, length = self._config, self.length
        change = objective / length - self.multiplier * length
        length += self._schedule.rate(epoch) * change
        self.length = min(max(length, float(config.min_horizon)), float(config.max_horizon))
        self.multiplier += config.multiplier_rate * (self.length - config.min_horizon)

    def state_dict(self) -> dict[str, Any]:
        """A copy of both."""
        return {"length": self.length, "multiplier": self.multiplier}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go back to what `state_dict` returned."""
        self.length = float(state["length"])
        self.multiplier = float(state["multiplier"])


class AHAC(Method):
    """Ascends the short-horizon objective over windows of a length of its own."""

    name: ClassVar[str] = "ahac"
    config_class: ClassVar[type] = AHACConfig

    def __init__(self, context: Context, config: AHACConfig) -> None:
        """Make the method for an actor."""
        self._adaptive = config.horizon == "return"
        self._control = HorizonControl(config, context.num_epochs)
        self._step = ShortHorizonStep(context, config)

    @property
    def gradient_lambda(self) -> float | None:
        """The objective's."""
        return LAMBDA

    @property
    def horizon(self) -> int | None:
        """The length as it stands; None if it is fixed."""
        return self._control.steps if self._adaptive else None

    def update(self, window: Window, epoch: int) -> UpdateReport:
        """Ascend once, then let the length follow."""
        report = self._step.update(window, epoch)
        if self._adaptive and report.problem is None:
            # -J is a mean over environments and steps
            mean = -float(report.metrics["actor_loss"])
            self._control.adjust(mean * len(window.rollout.reward), epoch)
            report.metrics["horizon_multiplier"] = self._control.multiplier
        return report

    def state_dict(self) -> dict[str, Any]:
        """A copy of the optimiser's state and the length's."""
        return {"step": self._step.state_dict(), "horizon": self._control.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go back to what `state_dict` returned."""
        self._step.load_state_dict(state["step"])
        self._control.load_state_dict(state["horizon"])
