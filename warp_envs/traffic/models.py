"""Car-following models by name, and the numbers of their drivers."""

from __future__ import annotations

import importlib
import pkgutil
import re
from collections.abc import Mapping
from functools import cache

import torch
import warp as wp

import kernels.traffic
from kernels.traffic import idm
from kernels.traffic.car_following import STATE_NAMES, VEHICLE, CarFollowing, Parameter
from warp_envs.checks import ArgumentError, near_matches

Number = float | torch.Tensor


@cache
def models() -> dict[str, CarFollowing]:
    """The models of `kernels.traffic` by name: a new file there is found by its `MODEL`."""
    found = {}
    for file in pkgutil.iter_modules(kernels.traffic.__path__):
        module = importlib.import_module(f"kernels.traffic.{file.name}")
        model = getattr(module, "MODEL", None)
        if isinstance(model, CarFollowing):
            found[model.name] = model
    return found


def find_model(model: str | CarFollowing) -> CarFollowing:
    """A car-following model: itself, one of `models` by name, or a file's own as "module:NAME".

    Raises:
        ArgumentError: there is none of that name, or its acceleration does not take its parameters.
    """
    if isinstance(model, str):
        model = _import_model(model) if ":" in model else _named_model(model)
    if not isinstance(model, CarFollowing):
        accepted = 'a model\'s name, "module:NAME" or a CarFollowing'
        raise ArgumentError("model", f"a {type(model).__name__}", accepted)
    _check_model(model)
    return model


def default_numbers(model: CarFollowing) -> dict[str, float]:
    """Of a vehicle and its driver, by name."""
    return {number.name: number.default for number in model.numbers}


# Treiber, Hennecke and Helbing (2000), Table I; they do not bound emergency braking.
TREIBER_2000: dict[str, float] = default_numbers(idm.MODEL)


def check_names(given: Mapping[str, object], numbers: tuple[Parameter, ...], model: str) -> None:
    """Raise an ArgumentError, which asks for the nearest, at a name that is not among `numbers`."""
    known = [number.name for number in numbers]
    for name in given:
        if name not in known:
            hint = near_matches(name, known)
            raise ArgumentError(f"parameter of {model}", repr(name), f"any of {known}", hint)


def check_number_of(number: Parameter, value: torch.Tensor) -> None:
    """Raise an ArgumentError at a value that the parameter may not have; NaN is none."""
    if not number.may_be_zero and not bool((value > 0.0).all()):
        raise ArgumentError(number.name, str(float(value.detach().min())), "positive numbers")
    if not bool((value >= 0.0).all()):
        raise ArgumentError(number.name, str(float(value.detach().min())), "numbers >= 0")
    if not number.may_be_infinite and not bool(torch.isfinite(value).all()):
        raise ArgumentError(number.name, str(float(value.detach().max())), "finite numbers")


def read_parameter(
    number: Parameter,
    value: Number,
    shape: tuple[int, int],
    dtype: torch.dtype,
    device: torch.device,
) -> torch.Tensor:
    """The vehicles' numbers, of `shape`: as given where they require a gradient, else a copy.

    Raises:
        ArgumentError: no number or tensor; one of another type or place, that does not broadcast
            to `shape`, or out of range.
    """
    name = number.name
    if not isinstance(value, torch.Tensor):
        if not isinstance(value, (int, float)) or isinstance(value, bool):
            raise ArgumentError(name, repr(value), "a number or a tensor")
        value = torch.tensor(value, dtype=dtype, device=device)
    if value.dtype != dtype or value.device != device:
        raise ArgumentError(name, f"{value.dtype} on {value.device}", f"{dtype} on {device}")
    check_number_of(number, value)
    if not value.requires_grad:
        value = value.clone()  # what is written into it later drives nobody
    try:
        return value.expand(shape)
    except RuntimeError as error:
        accepted = f"one that broadcasts to {shape}"
        raise ArgumentError(name, f"shape {tuple(value.shape)}", accepted) from error


def _named_model(name: str) -> CarFollowing:
    if name not in models():
        accepted = f'one of {[*models()]}, or "module:NAME"'
        raise ArgumentError("model", repr(name), accepted, near_matches(name, models()))
    return models()[name]


def _import_model(path: str) -> CarFollowing:
    name, _, attribute = path.partition(":")
    try:
        module = importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{name}.".startswith(f"{error.name}."):
            raise  # the file is there, and imports what is not
        raise ArgumentError("model", repr(path), "a module that can be imported") from error
    found = {key: value for key, value in vars(module).items() if isinstance(value, CarFollowing)}
    if attribute not in found:
        accepted = f"a CarFollowing of {name}: one of {[*found]}"
        raise ArgumentError("model", repr(path), accepted, near_matches(attribute, found))
    return found[attribute]


def _check_model(model: CarFollowing) -> None:
    if re.fullmatch(r"[a-z_]\w*", model.name) is None:
        raise ArgumentError("model", repr(model.name), "a name of letters, digits and underscores")
    names = [parameter.name for parameter in model.parameters]
    taken = {number.name for number in VEHICLE} & set(names)
    if taken:
        raise ArgumentError(f"model {model.name}", f"parameters {sorted(taken)}", "other names")
    expected = [*STATE_NAMES, *names]
    for function in filter(None, (model.acceleration, model.sumo_acceleration)):
        if not isinstance(function, wp.Function):
            raise ArgumentError(f"model {model.name}", repr(function), "a wp.func")
        arguments = list(function.input_types)
        if arguments != expected:
            given = f"{function.key} of {arguments}"
            raise ArgumentError(f"model {model.name}", given, f"a wp.func of {expected}")
