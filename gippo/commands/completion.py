"""`gippo completion`."""

from __future__ import annotations

import dataclasses
import importlib
import pkgutil
from collections.abc import Iterator, Sequence
from typing import Any

from omegaconf import OmegaConf

import gippo.commands
from gippo.configuration.compose import GROUPS, choices, config_dir
from gippo.configuration.policies import BY_HAND, trained_policies
from gippo.configuration.run_config import TrainConfig, algo_schema, keys_of
from gippo.errors import UserError
from gippo.methods import is_built_in, method_names
from warp_envs.checks import near_matches

SHELLS = ("bash",)

HELP = """\
gippo completion: print what completes gippo's command lines in a shell.

Usage: gippo completion bash

The Tab key then completes commands, keys, and the values of env, algo, experiment, policy and of
keys that are true or false. It is a list made now: environments, methods and policies that come
later need it made again.

Examples:
  gippo completion bash > ~/.local/share/bash-completion/completions/gippo
  eval "$(gippo completion bash)"            this shell alone"""

_ACTORS = ("evaluate", "play", "plot")  # those that take policy=, and env= beside a run

_SCRIPT = """\
# Completion of gippo's command lines for bash, by: gippo completion bash
_gippo() {{
    local cur="${{COMP_LINE:0:COMP_POINT}}" words key
    cur="${{cur##* }}"
    if [[ $COMP_CWORD -eq 1 ]]; then
        COMPREPLY=($(compgen -W "{commands}" -- "$cur"))
        [[ ${{#COMPREPLY[@]}} -eq 1 ]] && COMPREPLY[0]+=" "
        return
    fi
    if [[ $cur == *=* ]]; then
        key="${{cur%%=*}}"
        case "$key" in
{values}
        esac
        # bash has parted the word at "=", and puts in what stands behind it
        COMPREPLY=($(compgen -W "$words" -- "${{cur#*=}}"))
        [[ ${{#COMPREPLY[@]}} -eq 1 ]] && COMPREPLY[0]+=" "
        return
    fi
    case "${{COMP_WORDS[1]}}" in
{keys}
    esac
    COMPREPLY=($(compgen -W "$words" -- "$cur"))
}}
complete -o default -o nospace -F _gippo gippo
"""


def help_text() -> str:
    """What `gippo completion --help` prints."""
    return HELP


def run(arguments: Sequence[str]) -> int:
    """Print the script of the shell that the arguments name."""
    if len(arguments) != 1 or arguments[0] not in SHELLS:
        given = " ".join(arguments)
        hint = near_matches(given, SHELLS)
        raise UserError(f"{given or 'nothing'!r} given, one of {list(SHELLS)} accepted{hint}")
    print(script(), end="")
    return 0


def script() -> str:
    """The script for bash."""
    values = {group: choices(group) for group in GROUPS}
    values["policy"] = [*trained_policies(), *BY_HAND]
    found = pkgutil.iter_modules(gippo.commands.__path__)
    commands = sorted(module.name.replace("_", "-") for module in found)
    keys = {name: dict.fromkeys(_keys(name, values)) for name in commands}
    return _SCRIPT.format(
        commands=" ".join(commands),
        values="\n".join(_case(key, names) for key, names in values.items()),
        keys="\n".join(_case(name, [f"{key}=" for key in names]) for name, names in keys.items()),
    )


def _case(pattern: str, words: Sequence[str]) -> str:
    return f'        {pattern}) words="{" ".join(words)}" ;;'


def _keys(command: str, values: dict[str, list[str]]) -> Iterator[str]:
    """A command's keys; of those that are true or false, `values` learns it."""
    if command == "train":
        yield from GROUPS
        yield "from"
        yield from _env_keys()
        schemas = [TrainConfig]
        for method in filter(is_built_in, method_names()):
            yield from (f"algo.{key}" for key, _ in _leaves(algo_schema(method)) if key != "name")
    else:
        module = importlib.import_module(f"gippo.commands.{command.replace('-', '_')}")
        own = (v for v in vars(module).values() if getattr(v, "__module__", "") == module.__name__)
        schemas = [v for v in own if isinstance(v, type) and dataclasses.is_dataclass(v)]
        schemas = [schema for schema in schemas if not schema.__name__.startswith("_")]
    if command in _ACTORS:
        yield from ("env", "policy")
    for schema in schemas:
        for key, default in _leaves(schema):
            if isinstance(default, bool):
                values[key] = ["true", "false"]
            if key != "from_run":
                yield key


def _leaves(schema: type) -> Iterator[tuple[str, Any]]:
    """Dotted keys with their defaults, sections left out."""
    config = OmegaConf.structured(schema)
    plain = OmegaConf.to_container(config)
    assert isinstance(plain, dict)
    for key in keys_of(plain):
        value = None if OmegaConf.is_missing(config, key) else OmegaConf.select(config, key)
        if not OmegaConf.is_dict(value):
            yield key, value


def _env_keys() -> Iterator[str]:
    """The options of environments that have a file."""
    for path in sorted((config_dir() / "env").rglob("*.yaml")):
        plain = OmegaConf.to_container(OmegaConf.load(path))
        assert isinstance(plain, dict)
        yield from (f"env.{key}" for key in plain if key not in ("defaults", "presets", "id"))
