"""Policies that have a name: trained ones that come with gippo, and some made by hand."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from gippo.configuration.run_config import CONFIG_FILE
from warp_envs.checks import check_choice
from warp_envs.references import is_reference

BY_HAND: Mapping[str, str] = {
    "idm": "warp_envs.traffic.controllers:HumanDriver",
    "follower_stopper": "warp_envs.traffic.controllers:FollowerStopper",
    "pi_saturation": "warp_envs.traffic.controllers:PISaturation",
    "speed_limit": "warp_envs.traffic.controllers:SpeedLimit",
}
"""Name -> "module:Class" of what acts without training."""


def policies_dir() -> Path:
    """Where the trained ones lie: in the package in a wheel, else in a checkout's results."""
    package = Path(__file__).parents[1]
    packaged = package / "policies"
    return packaged if packaged.is_dir() else package.parent / "results" / "policies"


def trained_policies() -> dict[str, Path]:
    """Name -> folder, each as a run's: its configuration, and a checkpoint of the policy alone."""
    found = sorted(policies_dir().glob(f"*/{CONFIG_FILE}"))
    return {path.parent.name: path.parent for path in found}


def check_policy(name: str) -> None:
    """Raise ArgumentError unless `name` is a policy's, or of the form ``module:Class``."""
    if not is_reference(name):
        check_choice("policy", name, [*trained_policies(), *BY_HAND])
