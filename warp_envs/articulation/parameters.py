"""A robot's physical parameters by name: what there is, what of it varies, and its values.

`BODY.mass` names a number of one body, `mass` those of all bodies side by side. Values are tensors
with the environments first, and are laid out as rows of `Columns` for the kernels.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from typing import Any

import numpy as np
import torch

from warp_envs.articulation.anatomy import SINGLE, base_body, base_joints, has_weight
from warp_envs.articulation.columns import Columns
from warp_envs.articulation.log_cholesky import log_cholesky_of, numbers_of_log_cholesky
from warp_envs.checks import ArgumentError, near_matches
from warp_envs.options.parameters import PARAMETERS
from warp_envs.usd.description import Body, RobotDescription

Value = float | int | Sequence[Any] | np.ndarray | torch.Tensor


@dataclass(frozen=True, eq=False)
class Parameter:
    """A physical parameter of a robot.

    Attributes:
        name: as `set_parameters` takes it.
        shape: of its values in one environment.
        unit: SI; of several joints "N m s/rad or N s/m", by their kinds.
        default: what the robot's description says, of this shape.
        low: least value.
        high: greatest value.
        positive: whether it has to be above `low`, which is then 0.
        keys: the quantities it stands for, see `Columns`.
        varies: whether it may differ from environment to environment.
    """

    name: str
    shape: tuple[int, ...]
    unit: str
    default: np.ndarray
    low: float
    high: float
    positive: bool
    keys: tuple[tuple[str, int], ...]
    varies: bool = False

    @property
    def range(self) -> str:
        """The values accepted, as an interval."""
        least = "(-inf" if self.low == -np.inf else f"{'(' if self.positive else '['}{self.low:g}"
        return f"{least}, {self.high:g}{')' if self.high == np.inf else ']'}"


def parameter(
    name: str, kind: str, defaults: Sequence[Any], keys: Iterable[tuple[str, int]], whole: bool
) -> Parameter:
    """A parameter of a kind: of one owner, or of a `whole` group side by side."""
    of = PARAMETERS[kind]
    default = np.asarray(defaults if whole else defaults[0], dtype=np.float64)
    shape = (len(defaults), *of.shape) if whole else of.shape
    return Parameter(
        name, shape, of.unit, default.reshape(shape), of.low, np.inf, of.positive, tuple(keys)
    )


def robot_parameters(description: RobotDescription) -> dict[str, Parameter]:
    """Every parameter that a robot's dynamics have, by name.

    `mass` and the like stand for all bodies that move and have weight; `damping` and the like for
    all hinges and slides but those by which the base moves in the world.
    """
    found = [parameter("gravity", "gravity", [description.gravity], [("gravity", 0)], False)]
    material = description.contact
    if material is not None and description.touches_ground:
        constants = {
            "friction": material.mu,
            "contact_ke": material.ke,
            "contact_kd": material.kd,
            "contact_kf": material.kf,
        }
        found += [parameter(n, n, [value], [(n, 0)], False) for n, value in constants.items()]
    bodies = description.bodies
    labels = _labels([body.name for body in bodies], [body.path for body in bodies])
    joints = _labels([b.joint.name for b in bodies], [b.joint.path for b in bodies])
    moving = _moving(bodies)
    heavy = [i for i in moving if has_weight(description, i)]
    base = base_joints(description, base_body(description))
    single = [i for i in moving if bodies[i].joint.kind in SINGLE and i not in base]
    found += _of(_BODY_DEFAULTS, labels, moving, heavy, bodies)
    found += _of(_JOINT_DEFAULTS, joints, moving, single, bodies)
    return {item.name: item for item in found}


def _of(
    defaults: Mapping[str, Any],
    labels: Sequence[str],
    each: Sequence[int],
    group: Sequence[int],
    bodies: Sequence[Body],
) -> list[Parameter]:
    """The parameters of each owner, and of the group."""
    found = []
    for kind, default in defaults.items():
        values = {i: default(bodies[i]) for i in each}
        has = [i for i in each if values[i] is not None]
        for i in has:
            name = f"{labels[i]}.{kind}"
            item = parameter(name, kind, [values[i]], _keys(kind, i), False)
            if kind == "mass" and bodies[i].joint.kind == "fixed":
                item = replace(item, positive=False)
            found.append(item)
        members = [i for i in group if i in has]
        if members:
            keys = [key for i in members for key in _keys(kind, i)]
            found.append(parameter(kind, kind, [values[i] for i in members], keys, True))
    return found


def _keys(kind: str, index: int) -> list[tuple[str, int]]:
    if kind == "log_cholesky":
        return [("mass", index), ("com", index), ("second_moment", index)]
    return [(kind, index)]


_BODY_DEFAULTS = {
    "mass": lambda body: body.mass,
    "com": lambda body: body.com,
    "inertia_scale": lambda body: 1.0 if np.any(body.inertia) else None,
    "log_cholesky": lambda body: log_cholesky_of(body.mass, body.com, body.inertia),
}


def _single(name: str) -> Any:
    return lambda body: getattr(body.joint, name) if body.joint.kind in SINGLE else None


def _limit(name: str) -> Any:
    def default(body: Body) -> float | None:
        joint = body.joint
        limited = np.isfinite(joint.lower) or np.isfinite(joint.upper)
        acts = limited or (name == "limit_kd" and joint.limit_kd > 0.0)
        return getattr(joint, name) if joint.kind in SINGLE and acts else None

    return default


_DAMPED = (*SINGLE, "spherical")

_JOINT_DEFAULTS = {
    "armature": lambda body: None if body.joint.kind == "fixed" else body.joint.armature,
    "damping": lambda body: body.joint.damping if body.joint.kind in _DAMPED else None,
    "stiffness": _single("stiffness"),
    "rest": _single("rest"),
    "limit_ke": _limit("limit_ke"),
    "limit_kd": _limit("limit_kd"),
}


def _moving(bodies: Sequence[Body]) -> list[int]:
    """The bodies that are not welded to the world."""
    moves: list[bool] = []
    for body in bodies:
        carried = body.parent >= 0 and moves[body.parent]
        moves.append(carried or body.joint.kind != "fixed")
    return [i for i, moved in enumerate(moves) if moved]


def _labels(names: Sequence[str], paths: Sequence[str]) -> list[str]:
    """Names where they tell one from the other, else paths."""
    names = list(names)
    return [
        name if names.count(name) == 1 else path for name, path in zip(names, paths, strict=True)
    ]


def choose(known: Mapping[str, Parameter], names: Any, key: str) -> dict[str, Parameter]:
    """The named parameters, patterns as `*_hip.damping` resolved, in the order they were named.

    Args:
        known: all that there are.
        names: a list.
        key: what it is called, for errors.

    Raises:
        ArgumentError: no list of names, a name or pattern without a parameter, or two that stand
            for the same number.
    """
    if isinstance(names, str) or not isinstance(names, (Sequence, Mapping)):
        raise ArgumentError(key, repr(names), f"a list of any of {list(known)}")
    chosen: dict[str, Parameter] = {}
    taken: dict[tuple[str, int], str] = {}
    for name in names:
        for item in _matched(known, name, key):
            for of in item.keys:
                quantity, index = of
                rivals = [of]
                if quantity in ("inertia_scale", "second_moment"):
                    rivals = [("inertia_scale", index), ("second_moment", index)]
                for rival in rivals:
                    if taken.get(rival, item.name) != item.name:
                        given = f"{taken[rival]} and {item.name}"
                        raise ArgumentError(key, given, "each number once")
                taken[of] = item.name
            chosen[item.name] = replace(item, varies=True)
    return chosen


def _matched(known: Mapping[str, Parameter], name: Any, key: str) -> list[Parameter]:
    if name in known:
        return [known[name]]
    found = [item for item in known.values() if fnmatchcase(item.name, str(name))]
    if not found:
        groups = [group for group in known if "." not in group]
        accepted = f"any of {groups}"
        if len(groups) < len(known):
            accepted += ", or of one body or joint, as 'NAME.mass' or '*.damping',"
        raise ArgumentError(key, repr(name), accepted, near_matches(str(name), known))
    return found


class Parameters:
    """The parameters that vary, with their values in each environment."""

    def __init__(
        self,
        known: Mapping[str, Parameter],
        names: Any,
        num_envs: int,
        dtype: torch.dtype,
        device: str | torch.device,
    ) -> None:
        """Let the named parameters vary, from their defaults.

        Raises:
            ArgumentError: as `choose`.
        """
        self.chosen = choose(known, names, "parameters")
        self.known = {**known, **self.chosen}
        self.columns = Columns(tuple(key for item in self.chosen.values() for key in item.keys))
        self._num_envs, self._dtype, self._device = num_envs, dtype, device
        self._values: dict[str, torch.Tensor] = {}
        self._rows: torch.Tensor | None = None
        self.set({name: item.default for name, item in self.chosen.items()})

    def set(self, values: Mapping[str, Value], key: str = "parameters") -> None:
        """Take values, each of which broadcasts to (num_envs, *shape).

        Those that require a gradient are kept as they are, and read again in each step; of others a
        copy is.

        Raises:
            ArgumentError: a name that does not vary, or a value of the wrong shape, type or place,
                not finite or out of range. Nothing has been set then.
        """
        read = {name: self._read(name, value, key) for name, value in values.items()}
        self._values.update(read)
        self._rows = None

    def _read(self, name: str, value: Value, key: str) -> torch.Tensor:
        where = f"{key}[{name!r}]"
        if name not in self.chosen:
            also = ", which does not vary here" if name in self.known else ""
            hint = near_matches(str(name), self.chosen)
            raise ArgumentError(key, f"{name!r}{also}", f"any of {list(self.chosen)}", hint)
        item = self.chosen[name]
        if isinstance(value, torch.Tensor):
            like = (self._dtype, torch.device(self._device))
            if (value.dtype, value.device) != like:
                given = f"{value.dtype} on {value.device}"
                raise ArgumentError(where, given, f"{like[0]} on {like[1]}")
        else:
            try:
                value = torch.as_tensor(np.array(value, dtype=np.float64)).to(
                    self._device, self._dtype
                )
            except (TypeError, ValueError):
                raise ArgumentError(where, repr(value), "numbers or a tensor") from None
        shape = (self._num_envs, *item.shape)
        try:
            whole = value.expand(shape)
        except RuntimeError:
            accepted = f"one that broadcasts to {shape}"
            raise ArgumentError(where, f"shape {tuple(value.shape)}", accepted) from None
        check_values(where, item, value.detach())
        return whole if value.requires_grad else whole.clone()

    @property
    def differentiable(self) -> bool:
        """Whether a value requires a gradient."""
        return any(value.requires_grad for value in self._values.values())

    def values(self) -> dict[str, torch.Tensor]:
        """Name -> (num_envs, *shape), as they were set."""
        return dict(self._values)

    def rows(self) -> torch.Tensor:
        """The numbers that the kernels read, (num_envs, columns.count)."""
        if self._rows is not None and not self.differentiable:
            return self._rows
        parts = []
        for name, item in self.chosen.items():
            value = self._values[name].reshape(self._num_envs, -1)
            if item.keys[-1][0] == "second_moment":
                value = numbers_of_log_cholesky(value)
            parts.append(value)
        self._rows = torch.cat(parts, dim=1)
        return self._rows

    def named(self, rows: torch.Tensor) -> dict[str, torch.Tensor]:
        """Name -> (num_envs, *shape) of `rows`; log-Cholesky ones, which nothing draws, as set."""
        found = {}
        for name, item in self.chosen.items():
            if item.keys[-1][0] == "second_moment":
                found[name] = self._values[name]
                continue
            first = self.columns.start[item.keys[0]]
            part = rows[:, first : first + int(np.prod(item.shape))]
            found[name] = part.reshape(-1, *item.shape)
        return found

    def flat(self) -> torch.Tensor:
        """A detached copy of all values side by side, (num_envs, columns.count)."""
        values = [value.detach().reshape(self._num_envs, -1) for value in self._values.values()]
        return torch.cat(values, dim=1)

    def set_flat(self, flat: torch.Tensor) -> None:
        """Take what `flat` gave; a gradient reaches it."""
        widths = [int(np.prod(item.shape)) for item in self.chosen.values()]
        parts = zip(self.chosen.items(), flat.split(widths, dim=1), strict=True)
        self.set({name: part.reshape(-1, *item.shape) for (name, item), part in parts})


def check_values(key: str, item: Parameter, value: torch.Tensor) -> None:
    """Raise ArgumentError unless all of `value` is finite and in the parameter's range."""
    good = torch.isfinite(value) & (value <= item.high)
    good &= (value > item.low) if item.positive else (value >= item.low)
    if not bool(good.all()):
        raise ArgumentError(key, str(value[~good][0].item()), f"numbers in {item.range}")
