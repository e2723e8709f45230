"""From a command line to a checked configuration, through Hydra."""

from __future__ import annotations

import inspect
import re
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

from hydra import compose, initialize_config_dir
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from omegaconf import (
    MISSING,
    BooleanNode,
    DictConfig,
    FloatNode,
    IntegerNode,
    ListConfig,
    OmegaConf,
    StringNode,
)
from omegaconf.errors import OmegaConfBaseException, ValidationError

from gippo.configuration.run_config import algo_schema, from_omegaconf, keys_of, one_line
from gippo.environment import check_env
from gippo.errors import UserError
from gippo.methods import method_names
from warp_envs.checks import ArgumentError, check_choice, near_matches
from warp_envs.registry import env_ids, env_options, is_reference

GROUPS = ("env", "algo", "experiment")
ELSEWHERE = {
    "train": {"tensorboard": "logger=[] writes none of its events"},
    "evaluate": {"num_envs": "num_episodes says how many; each has an environment of its own"},
    "inspect": {"out": "picture=FILE.png names what it writes"},
}
"""Command -> keys of earlier releases and of other commands, and what takes their place."""
NUM_ENVS, NUM_EPOCHS = 64, 500
"""Of an environment without a configuration file."""

T = TypeVar("T")


def config_dir() -> Path:
    """Where the configuration files lie: in the package in a wheel, else at a checkout's root."""
    package = Path(__file__).parents[1]
    packaged = package / "configs"
    return packaged if packaged.is_dir() else package.parent / "configs"


def configure(
    command: str,
    schema: type[T],
    overrides: Sequence[str],
    tell: Callable[[str], None] = lambda line: None,
) -> T:
    """The configuration of `command` under command-line overrides ``key=value``.

    The environment file's `presets`, an experiment's changes to them included, are laid under what
    the experiment and the command line say.

    Args:
        command: the name of the command's primary configuration, and of its schema.
        schema: its dataclass; fields `env` and `algo` are filled from the groups of these names.
        overrides: in Hydra's grammar.
        tell: gets a line if the environment has no preset for the method, whose defaults hold then.

    Raises:
        UserError: an override that cannot be read, an unknown key, choice or value; the message
            names it and what comes near.
    """
    if not any(composed[0] == command for composed in _compositions or ()):
        register(command, schema)
    parsed = parse(overrides)
    try:
        with _hydra():
            groups = [override for override in parsed if override.key_or_group in GROUPS]
            _check_choices(groups)
            own = [override for override in parsed if _is_hydras(override)]
            values = [override for override in parsed if override not in [*groups, *own]]
            # experiment=null chooses none
            chosen = [_text(o) for o in [*groups, *own] if o not in groups or o.value() is not None]
            _store_choices(groups)
            base = _composed(command, chosen)
            check_keys(values, base, command)
            check_values(values, base)
            selected, note = _store_preset(base)
            try:
                whole = _composed(command, selected + chosen) if selected else base
                config = from_omegaconf(with_values(whole, values), schema)
            except (UserError, HydraException, OmegaConfBaseException) as error:
                # which a preset may have given
                epochs = parse(["num_epochs=1"]) if selected else []
                from_omegaconf(with_values(base, [*epochs, *values]), schema)
                # Without the preset all is well.
                raise UserError(f"{_preset_file(groups, base)}: presets: {_said(error)}") from error
    except (HydraException, OmegaConfBaseException) as error:
        raise UserError(_said(error)) from error
    if isinstance(getattr(config, "env", None), dict):
        check_env(config.env)  # type: ignore[attr-defined]
    if note:
        tell(note)
    return config


_compositions: dict[tuple[str, ...], DictConfig] | None = None
"""What has been composed, while `composing_once` holds."""


@contextmanager
def composing_once() -> Iterator[None]:
    """Let Hydra compose each choice of groups once in here; values are set in copies of that.

    Composing takes some 0.1 s, and of the jobs of a sweep most differ in values alone.
    """
    global _compositions
    _compositions = {}
    try:
        yield
    finally:
        _compositions = None


def _composed(command: str, chosen: Sequence[str]) -> DictConfig:
    """What Hydra makes of choices from groups, to be copied before it is changed."""
    key = (command, *chosen)
    if _compositions is None or key not in _compositions:
        found = compose(command, list(chosen))
        if _compositions is None:
            return found
        _compositions[key] = found
    return _compositions[key]


def with_values(config: DictConfig, values: Sequence[Override]) -> DictConfig:
    """A copy of a configuration with the values that a command line gives.

    Raises:
        OmegaConfBaseException: a value of the wrong type.
    """
    changed = config.copy()
    for override in values:
        OmegaConf.update(changed, override.key_or_group, override.value(), merge=True)
    return changed


def _is_hydras(override: Override) -> bool:
    return override.key_or_group.split(".")[0] == "hydra"


def _said(error: Exception) -> str:
    """What Hydra or OmegaConf has to say, in a line."""
    cause = None if isinstance(error, UserError) else error.__cause__
    return one_line(cause if isinstance(cause, Exception) else error)


def _preset_file(groups: Sequence[Override], base: DictConfig) -> str:
    """The file that holds the presets of the environment chosen, as far as there is one."""
    chosen = [str(override.value()) for override in groups if override.key_or_group == "env"]
    name = chosen[-1] if chosen else str(base.env.id)
    path = config_dir() / "env" / f"{name}.yaml"
    return str(path) if path.exists() else f"env={name}"


@contextmanager
def _hydra() -> Iterator[None]:
    """Hydra on our files; inside a sweep's job, in place of the sweep's own."""
    instance = GlobalHydra.instance()
    outer, instance.hydra = instance.hydra, None
    try:
        with initialize_config_dir(str(config_dir().resolve()), version_base="1.3"):
            yield
    finally:
        instance.hydra = outer


def choices(group: str) -> list[str]:
    """What selects from a configuration group by name: files, methods, registered environments."""
    if group == "algo":
        return sorted(method_names())
    folder = config_dir() / group
    files = {p.relative_to(folder).with_suffix("").as_posix() for p in folder.rglob("*.yaml")}
    return sorted(files | set(env_ids())) if group == "env" else sorted(files)


def register(command: str, schema: type) -> None:
    """Make a command's keys, and those of all methods, known to Hydra."""
    store = ConfigStore.instance()
    if (config_dir() / f"{command}.yaml").exists():
        store.store(group="schema", name=command, node=schema)
    else:
        store.store(name=command, node=schema)
    store.store(group="preset", name="none", node={}, package="_global_")
    for group in ("env", "algo"):  # launchers send the store to their jobs: nothing of other runs
        store.repo.pop(group, None)
    for name in method_names():  # a method's own file includes what it is stored as
        has_file = (config_dir() / "algo" / f"{name}.yaml").exists()
        group = "schema/algo" if has_file else "algo"
        store.store(group=group, name=name, node=algo_schema(name))


def _store_choices(groups: Sequence[Override]) -> None:
    """Make environments without a file, and references ``module:Class``, known to Hydra.

    Raises:
        UserError: a reference that names no environment or method.
    """
    for override in groups:
        group, name = override.key_or_group, str(override.value())
        try:
            if group == "algo" and is_reference(name):
                ConfigStore.instance().store(group="algo", name=name, node=algo_schema(name))
            elif group == "env" and not (config_dir() / "env" / f"{name}.yaml").exists():
                ConfigStore.instance().store(group="env", name=name, node=_env_node(name))
        except ArgumentError as error:
            own = error.key in ("env_id", "algo")  # else the class's, which says what of it
            raise UserError(str(error.renamed(group) if own else error)) from error


def _env_node(env_id: str) -> dict[str, Any]:
    """What a file in configs/env/ would say of an environment that has none.

    Its options are those of its class with a default that YAML can hold, and those that must be
    given.
    """
    plain = (type(None), bool, int, float, str, list, tuple)
    options = {
        name: MISSING if default is inspect.Parameter.empty else default
        for name, default in env_options(env_id).items()
        if default is inspect.Parameter.empty or isinstance(default, plain)
    }
    presets = {"run": {"num_epochs": NUM_EPOCHS}}
    return {"id": env_id, "num_envs": NUM_ENVS, **options, "presets": presets}


def _store_preset(base: DictConfig) -> tuple[list[str], str]:
    """Hand Hydra the environment's preset for the chosen method.

    Returns:
        What selects it, if there is one, and a line if there is none for the method.
    """
    if "algo" not in base:
        return [], ""
    presets = OmegaConf.select(base, "env.presets")
    plain: Any = {} if presets is None else OmegaConf.to_container(presets, resolve=True)
    note = ""
    if base.algo.name not in plain:
        note = f"no preset of {base.env.id} for {base.algo.name}: the method's defaults are used"
    if presets is None:
        return [], note
    node = dict(plain.get("run", {}))
    node.update(
        (section, plain[name])
        for section, name in (("learner", "learner"), ("algo", base.algo.name))
        if name in plain
    )
    ConfigStore.instance().store(group="preset", name="selected", node=node, package="_global_")
    return ["preset=selected"], note


def parse(overrides: Sequence[str]) -> list[Override]:
    """The command line's overrides, read by Hydra's grammar.

    Raises:
        UserError: naming the one that cannot be read.
    """
    for text in overrides:
        if "=" not in text and not text.startswith("~"):
            cut = " (a value with blanks needs quotes)" if text.endswith(("}", "]", ",")) else ""
            raise UserError(f"{text!r}: key=value expected{cut}")
    overrides = [_with_quotes(_from_home(text)) for text in overrides]
    try:
        return OverridesParser.create().parse_overrides(overrides)
    except HydraException as error:
        raise UserError(
            f"{_culprit(overrides)}: cannot be read as key=value (a value with special characters "
            "is quoted twice: \"key='a b=c'\")"
        ) from error


def _from_home(text: str) -> str:
    """``key=~/runs`` with the home folder in place of ``~``, which shells leave there."""
    key, equals, value = text.partition("=")
    home = Path.home().as_posix()
    return key + equals + re.sub(r"""(^|[\["',])~(?=/)""", lambda m: m[1] + home, value)


def _with_quotes(text: str) -> str:
    """``key="value"`` of a plain value with marks that Hydra's grammar has other uses for.

    A sweep's folders hold equals signs.
    """
    key, _, value = text.partition("=")
    if not value or any(mark in value for mark in "\"'[]{}()$\\"):
        return text
    with suppress(HydraException):
        OverridesParser.create().parse_overrides([text])
        return text
    return f'{key}="{value}"'


def written(key: str, value: object) -> str:
    """``key=value`` as one types it in a shell: quoted where the shell or Hydra asks for it."""
    text = f"{key}={value}"
    try:
        (override,) = OverridesParser.create().parse_overrides([text])
        plain = override.value() == str(value)
    except HydraException:
        plain = False
    if not plain:
        escaped = str(value).replace('"', '\\"')
        text = f'{key}="{escaped}"'
    return shlex.quote(text)


def with_run(arguments: Sequence[str], *, several: bool = False) -> list[str]:
    """A command line on which runs stand by their paths, with ``run_dir=`` or ``run_dirs=``.

    A sweep's folders have an equals sign in their names, too.

    Raises:
        UserError: several, where one is expected, or one in both ways.
    """
    named = [text for text in arguments if "=" not in text or Path(text).exists()]
    rest = [text for text in arguments if text not in named]
    key = "run_dirs" if several else "run_dir"
    if not named:
        return rest
    if any(text.startswith(f"{key}=") for text in rest):
        raise UserError(f"{named[0]} given, and {key} as well: one of them is accepted")
    if several:
        return [override_text(key, named), *rest]
    if len(named) > 1:
        raise UserError(f"{' '.join(named)} given; one run's folder expected")
    return [override_text(key, named[0]), *rest]


def override_text(key: str, value: Any) -> str:
    """``key=value`` in Hydra's grammar, for a Python value."""
    return f"{key}={_in_grammar(value)}"


def _in_grammar(value: Any) -> str:
    if value is None or isinstance(value, bool):
        return "null" if value is None else str(value).lower()
    if isinstance(value, Mapping):
        parts = (f"{name}:{_in_grammar(part)}" for name, part in value.items())
        return "{" + ",".join(parts) + "}"
    if isinstance(value, Sequence) and not isinstance(value, str):
        return "[" + ",".join(map(_in_grammar, value)) + "]"
    if isinstance(value, (int, float)):
        return repr(value)
    escaped = str(value).replace('"', '\\"')
    return f'"{escaped}"'


def _culprit(overrides: Sequence[str]) -> str:
    """The first override that cannot be parsed."""
    parser = OverridesParser.create()
    for text in overrides:
        try:
            parser.parse_overrides([text])
        except HydraException:
            return repr(text)
    return "overrides"


def _check_choices(overrides: Sequence[Override]) -> None:
    for override in overrides:
        group, given = override.key_or_group, override.value()
        if given is None and group == "experiment":
            continue
        if group != "experiment" and isinstance(given, str) and is_reference(given):
            continue
        known = choices(group)
        if given not in known:
            more = "" if group == "experiment" else " (or module:Class)"
            raise UserError(
                str(
                    ArgumentError(
                        group, repr(given), f"one of {known}{more}", _near(str(given), known)
                    )
                )
            )


def _near(given: str, known: Sequence[str]) -> str:
    file, colon, name = given.partition(":")
    if colon and file:
        dotted = file.removesuffix(".py").strip("./").replace("/", ".")
        return f"; a module is named as Python imports it: {dotted}:{name}"
    return near_matches(given, known)


def check_keys(overrides: Sequence[Override], base: DictConfig, command: str) -> None:
    """Refuse a key that the configuration has not, before Hydra does in its own words."""
    plain = OmegaConf.to_container(base, resolve=False)
    assert isinstance(plain, dict)
    known = [k for k in keys_of(plain) if not k.startswith("env.presets") and k != "algo.name"]
    for override in overrides:
        key = override.key_or_group
        if key in GROUPS or _is_hydras(override):
            continue
        told = override.type is None or override.is_add() or override.is_delete()
        if told or override.package is not None:
            raise UserError(f"{override.input_line!r}: only key=value is accepted")
        if key.startswith("env.presets"):
            raise UserError(f"{key}: presets are for files; set the key itself, as algo.X=value")
        if key not in known:
            instead = ELSEWHERE.get(command, {})
            listed = f"; {instead[key]}" if key in instead else near_matches(key, known)
            listed = listed or f"; there are {_siblings(key, known)}"
            raise UserError(f"{key}: no such key{listed}")


def refuse_unused(command: str, overrides: Sequence[str], used: Sequence[str]) -> None:
    """Refuse the keys of a training that a command composes and has no use for.

    Args:
        command: the command's name.
        overrides: in Hydra's grammar; groups are in use.
        used: names, and the first parts of names, that it takes.

    Raises:
        UserError: naming the first that is none of them.
    """
    for override in parse(overrides):
        key = override.key_or_group
        if key not in GROUPS and key.partition(".")[0] not in used:
            sections = ("env", "algo", "learner")
            mine = ", ".join(f"{name}.KEY" if name in sections else name for name in used)
            raise UserError(f"{key}: no key of gippo {command}, which takes {mine} of train's")


def _siblings(key: str, known: Sequence[str]) -> str:
    """The keys of the deepest section of `key` that exists."""
    section = key.rpartition(".")[0]
    while section and section not in known:
        section = section.rpartition(".")[0]
    prefix = f"{section}." if section else ""
    names = [k for k in known if k.startswith(prefix) and "." not in k[len(prefix) :]]
    return ", ".join(names)


def check_values(overrides: Sequence[Override], base: DictConfig) -> None:
    """Refuse a sweep, and a value of the wrong type."""
    trial = base.copy()
    for override in overrides:
        if override.is_sweep_override():
            raise UserError(
                f"{override.input_line}: several values need -m (gippo train -m ...); a list is "
                "written [a,b]"
            )
        key = override.key_or_group
        if key in GROUPS or _is_hydras(override):
            continue
        value, node = override.value(), _node(base, key)
        try:
            number = isinstance(value, (int, float))
            if type(node) is BooleanNode and number and value not in (0, 1):
                raise ValidationError("neither true nor false")  # OmegaConf takes it for true
            OmegaConf.update(trial, key, value, merge=True)
        except OmegaConfBaseException as error:
            known = _accepted(node) or one_line(error).removeprefix(f"{key}: ")
            refused = ArgumentError(key, override.get_value_string() or "''", known)
            raise UserError(str(refused)) from error
        if key == "env.id" and not is_reference(str(override.value())):
            try:
                check_choice(key, override.value(), env_ids())
            except ArgumentError as error:
                raise UserError(str(error)) from error


def _node(base: DictConfig, key: str) -> Any:
    section, _, name = key.rpartition(".")
    parent = OmegaConf.select(base, section) if section else base
    return parent._get_node(name) if isinstance(parent, DictConfig) else None


_KINDS = {
    IntegerNode: "an integer",
    FloatNode: "a number",
    BooleanNode: "true or false",
    StringNode: "text",
}


def _accepted(node: Any) -> str:
    """What a key of the configuration takes, "" where that is not known."""
    what = next((what for kind, what in _KINDS.items() if type(node) is kind), "")
    if isinstance(node, ListConfig):
        shown = "" if node._is_none() or node._is_missing() else f", as {_in_grammar(list(node))},"
        what = f"a list{shown}"
    elif isinstance(node, DictConfig) and not node._is_none():
        what = f"a section of {', '.join(map(str, node))}"
    return f"{what} or null" if what and node._is_optional() else what


def _text(override: Override) -> str:
    return override.input_line or ""
