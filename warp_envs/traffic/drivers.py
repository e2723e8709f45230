"""Drivers' numbers in a file, as `gippo identify env=traffic` writes it."""

from __future__ import annotations

from pathlib import Path

import torch
import yaml

from warp_envs.checks import ArgumentError
from warp_envs.traffic.models import check_number_of, find_model


def read_drivers(path: str | Path, dtype: torch.dtype = torch.float32) -> dict[str, torch.Tensor]:
    """Numbers of drivers by name, each (drivers,).

        numbers = read_drivers("trajectories_drivers.yaml")
        traffic = TrafficSim(num_envs=1, num_lanes=1, num_vehicles=len(numbers["v0"]), **numbers)

    Args:
        path: a YAML file with `model` and `parameters`: name -> a list of numbers.
        dtype: of the tensors.

    Raises:
        ArgumentError: no such file, no such layout, or a number that the model does not have or
            accept.
    """
    try:
        told = yaml.safe_load(Path(path).read_text("utf-8"))
    except OSError as error:
        raise ArgumentError(str(path), error.strerror or str(error)) from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ArgumentError(str(path), f"no YAML: {str(error).splitlines()[0]}") from error
    if not isinstance(told, dict) or not isinstance(told.get("parameters"), dict):
        raise ArgumentError(str(path), "no parameters in it", "model and parameters")
    model = find_model(told.get("model", "idm"))
    known = {number.name: number for number in model.numbers}
    found: dict[str, torch.Tensor] = {}
    for name, values in told["parameters"].items():
        key = f"{path}: parameters.{name}"
        if name not in known:
            raise ArgumentError(key, "no number of the model", f"any of {[*known]}")
        try:
            found[name] = torch.tensor(values, dtype=dtype)
        except (TypeError, ValueError):
            raise ArgumentError(key, repr(values), "a list of numbers") from None
        check_number_of(known[name], found[name])
    return found
