"""`gippo check-gradients`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from omegaconf import MISSING
from rich.table import Table

from gippo.configuration.compose import choices, configure
from gippo.environment import make_env
from gippo.terminal.help_text import describe_keys, listed
from gippo.terminal.progress import make_console
from warp_envs.checks import ArgumentError, check_device_name, check_integer

if TYPE_CHECKING:
    from gippo.studies.gradient_check import StepCheck

HELP = """\
gippo check-gradients: compare an environment's gradients with central differences.

The environment is built in double precision. A random weighting of the rewards and observations of
a window is differentiated in every action of every step, once by the environment and once by
central differences. Where differences over two widths disagree the function has a kink (a contact
that begins, a limit reached); these are counted, not compared, and more than a tenth of them counts
as a failure.

Usage: gippo check-gradients [env=NAME] [key=value ...]

{env}

Keys:
{keys}

Exit status: 0 they agree; 1 they do not; 2 a mistake in what was asked.

Examples:
  gippo check-gradients env=cartpole
  gippo check-gradients env=dejong env.dim=5 num_steps=1"""

_KINKS_ALLOWED = 0.1


@dataclass
class GradientCheckConfig:
    """What to check."""

    env: dict[str, Any] = MISSING
    """From configs/env/; its num_envs is not used."""
    num_envs: int = 4
    """Copies of the environment, each with its own state and actions."""
    num_steps: int = 8
    """Steps of the window."""
    action_scale: float = 0.8
    """Actions are uniform within it; below 1, where none is clipped."""
    step_size: float = 1e-6
    """Of the central differences."""
    tolerance: float = 1e-5
    """Largest difference accepted, relative to the largest derivative of the step."""
    seed: int = 0
    """Of the initial states, the actions and the weights."""
    device: str = "cpu"
    """cpu or cuda."""

    def __post_init__(self) -> None:
        """Raise ValueError naming a key out of range."""
        check_integer("num_envs", self.num_envs, 1)
        check_integer("num_steps", self.num_steps, 1)
        check_integer("seed", self.seed, 0, 2**31 - 1)
        check_device_name("device", self.device)
        for name in ("action_scale", "step_size", "tolerance"):
            if not 0.0 < getattr(self, name) <= 1.0:
                raise ArgumentError(name, str(getattr(self, name)), "a number in (0, 1]")


def help_text() -> str:
    """What `gippo check-gradients --help` prints."""
    keys = describe_keys(GradientCheckConfig, skip=("env",))
    return HELP.format(env=listed("env", choices("env")), keys=keys)


def run(arguments: Sequence[str]) -> int:
    """Check as the arguments say."""
    config = configure("check_gradients", GradientCheckConfig, arguments)
    import torch

    from gippo.studies.gradient_check import check_env_gradient

    env = make_env(
        config.env,
        num_envs=config.num_envs,
        device=config.device,
        seed=config.seed,
        dtype=torch.float64,
    )
    checks = check_env_gradient(
        env,
        num_steps=config.num_steps,
        action_scale=config.action_scale,
        step_size=config.step_size,
        seed=config.seed,
    )
    console = make_console()
    console.print(_table(checks, config.tolerance))
    worst = max(check.error for check in checks)
    kinks, count = sum(check.kinks for check in checks), sum(check.count for check in checks)
    good = worst <= config.tolerance and kinks <= _KINKS_ALLOWED * count
    console.print(
        f"{config.env['id']}: {count} derivatives, {kinks} at kinks; largest relative error "
        f"{worst:.1e}, {config.tolerance:.0e} accepted: {'they agree' if good else 'THEY DIFFER'}"
    )
    return 0 if good else 1


def _table(checks: Sequence[StepCheck], tolerance: float) -> Table:
    table = Table("step", "derivatives", "largest", "relative error", "kinks", "", box=None)
    for column in table.columns:
        column.justify = "right"
    for check in checks:
        table.add_row(
            str(check.step),
            str(check.count),
            f"{check.magnitude:.3g}",
            f"{check.error:.1e}",
            str(check.kinks),
            "ok" if check.error <= tolerance else "OFF",
        )
    return table
