"""`gippo completion`."""

from __future__ import annotations

import ast
import dataclasses
import importlib
import pkgutil
import re
from collections.abc import Iterator, Sequence
from typing import Any

from omegaconf import OmegaConf

import gippo.commands
from gippo.commands.plot import KINDS
from gippo.commands.reproduce import NAMES
from gippo.configuration.compose import GROUPS, choices, config_dir
from gippo.configuration.policies import BY_HAND, trained_policies
from gippo.configuration.run_config import TrainConfig, algo_schema
from gippo.errors import UserError
from gippo.methods import is_built_in, method_names
from warp_envs.checks import ArgumentError, near_matches
from warp_envs.options.parameters import PARAMETERS
from warp_envs.registry import check_options

SHELLS = ("bash", "zsh")

HELP = """\
gippo completion: print what completes gippo's command lines in a shell.

Usage: gippo completion bash|zsh

The Tab key then completes commands, keys, and the values of keys that have some to choose from,
those in lists (logger=[csv,...) and behind commas (algo=gippo,ppo) too. It is a list made now:
environments, methods and policies that come later need it made again.

Examples:
  gippo completion bash > ~/.local/share/bash-completion/completions/gippo
  gippo completion zsh > ~/.zfunc/_gippo     where ~/.zfunc is in fpath, before compinit
  eval "$(gippo completion bash)"            this shell alone
  eval "$(gippo completion zsh)"             the same in zsh, after compinit"""

_ACTORS = ("evaluate", "play", "plot")  # those that take policy=, and env= beside a run
_NONE = "?"  # no key's value

# For both shells, in what both understand; each has its own `_gippo_matches`.
_WORDS = """\
# Completion of gippo's command lines for {shell}, by: gippo completion {shell}
_gippo_words() {{  # the command, the word at hand
    local choices key value before
    if [[ $2 == *=* ]]; then
        key="${{2%%=*}}" value="${{2#*=}}"
        case "$1:$key" in
{values}
            *) choices="" ;;
        esac
        before="${{value%"${{value##*[][,]}}"}}"  # of a list, what stands before its last part
        _gippo_matches "$choices" "$before" "${{value#"$before"}}"
        return
    fi
    case "$1" in
        "") choices="{commands}" ;;
{keys}
        *) choices="" ;;
    esac
    _gippo_matches "$choices" "" "$2"
}}
"""

_BASH = """\
_gippo_matches() {
    local word
    COMPREPLY=()
    for word in $1; do
        [[ $word == "$3"* ]] && COMPREPLY+=("$2$word")
    done
    # a value or a command is whole; a list may go on
    [[ ${#COMPREPLY[@]} -eq 1 && $2 != *'['* && ${COMPREPLY[0]} != *= ]] && COMPREPLY[0]+=" "
}
_gippo() {
    # bash has parted the word at "=", and puts in what stands behind it
    local cur="${COMP_LINE:0:COMP_POINT}"
    cur="${cur##* }"
    if [[ $COMP_CWORD -eq 1 ]]; then _gippo_words "" "$cur"; return; fi
    _gippo_words "${COMP_WORDS[1]}" "$cur"
}
complete -o default -o nospace -F _gippo gippo
"""

_ZSH = """\
_gippo_matches() {
    local -a found
    local word
    for word in ${=1}; do
        [[ $word == "$3"* ]] && found+=("$2$word")
    done
    if (( ! $#found )); then _default; return; fi
    [[ -n $key ]] && compset -P '*='
    compadd -S '' -- $found
}
_gippo() {
    if (( CURRENT == 2 )); then _gippo_words "" "$PREFIX"; return; fi
    _gippo_words "$words[2]" "$PREFIX"
}
compdef _gippo gippo
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
    print(script(arguments[0]), end="")
    return 0


def script(shell: str) -> str:
    """The script for a shell of `SHELLS`."""
    found = pkgutil.iter_modules(gippo.commands.__path__)
    commands = sorted(module.name.replace("_", "-") for module in found)
    keys = {name: dict(_keys(name)) for name in commands}
    # What is the same for all commands that have the key stands once.
    everywhere = {key: words for of in keys.values() for key, words in of.items()}
    same = {k for k in everywhere if len({tuple(o[k]) for o in keys.values() if k in o}) == 1}
    cases = [_case(f"*:{key}", everywhere[key]) for key in everywhere if key in same]
    cases += [
        _case(f"{name}:{key}", words)
        for name, of in keys.items()
        for key, words in of.items()
        if key not in same
    ]
    positional = {"reproduce": NAMES, "completion": SHELLS}
    text = _WORDS.format(
        shell=shell,
        commands=" ".join(commands),
        values="\n".join(case for case in cases if case),
        keys="\n".join(
            _case(name, [*positional.get(name, ()), *(f"{key}=" for key in of)])
            or f'        {name}) words="" ;;'
            for name, of in keys.items()
        ),
    )
    if shell == "zsh":
        return f"#compdef gippo\n{text}{_ZSH}"
    return text + _BASH


def _case(pattern: str, words: Sequence[str]) -> str:
    return f'        {pattern}) choices="{" ".join(words)}" ;;' if words else ""


def _keys(command: str) -> Iterator[tuple[str, list[str]]]:
    """A command's keys, with their values where there are some to choose from."""
    groups = {group: choices(group) for group in GROUPS}
    if command == "train":
        yield from groups.items()
        yield "from", []
        yield from _env_keys()
        plain: dict[str, Any] = {"env": {"id": "", "num_envs": 1}, "algo": None, "num_epochs": 1}
        yield from _of(TrainConfig(**plain))
        for method in filter(is_built_in, method_names()):
            yield from _of(algo_schema(method)(), "algo.")
        return
    module = importlib.import_module(f"gippo.commands.{command.replace('-', '_')}")
    own = (v for v in vars(module).values() if getattr(v, "__module__", "") == module.__name__)
    for schema in (v for v in own if isinstance(v, type) and dataclasses.is_dataclass(v)):
        if not schema.__name__.startswith("_"):
            yield from _of(_made(schema))
    if command == "plot":
        yield "kind", list(KINDS)
    if command == "identify":
        yield "fit", list(PARAMETERS)
    if command in (*_ACTORS, "check-gradients", "compile", "diagnose", "bench"):
        yield "env", groups["env"]
    if command in _ACTORS:
        yield "policy", [*trained_policies(), *BY_HAND]


def _made(schema: type) -> Any:
    """A command's settings at their defaults; what must be given is something."""
    given = {"env": {"id": "", "num_envs": 1}, "run_dirs": [""], "arch": ""}
    names = {entry.name for entry in dataclasses.fields(schema)}
    return schema(**{name: value for name, value in given.items() if name in names})


def _of(settings: Any, prefix: str = "") -> Iterator[tuple[str, list[str]]]:
    """The keys of settings, those of their parts by dotted names."""
    for entry in dataclasses.fields(settings):
        value, key = getattr(settings, entry.name), f"{prefix}{entry.name}"
        if dataclasses.is_dataclass(value):
            yield from _of(value, f"{key}.")
        elif isinstance(value, bool):
            yield key, ["true", "false"]
        elif entry.name not in ("from_run", "name", "env", "algo"):
            yield key, _accepted(settings, entry)


def _accepted(settings: Any, entry: dataclasses.Field[Any]) -> list[str]:
    """The values that a key takes, by what its settings say when they refuse another."""
    listed = "list[str]" in str(entry.type)
    if not listed and not isinstance(getattr(settings, entry.name), str):
        return []
    try:
        dataclasses.replace(settings, **{entry.name: [_NONE] if listed else _NONE})
    except ArgumentError as error:
        return _listed(error)
    return []


def _listed(error: ArgumentError) -> list[str]:
    found = re.match(r"(?:one|any) of ([\[(].*?[\])])", error.accepted)
    return [str(word) for word in ast.literal_eval(found[1])] if found else []


def _env_keys() -> Iterator[tuple[str, list[str]]]:
    """The options of environments that have a file."""
    for path in sorted((config_dir() / "env").rglob("*.yaml")):
        plain = OmegaConf.to_container(OmegaConf.load(path))
        assert isinstance(plain, dict)
        options = {str(k): v for k, v in plain.items() if k not in ("defaults", "presets", "id")}
        for key, value in options.items():
            words: list[str] = []
            if isinstance(value, bool):
                words = ["true", "false"]
            elif isinstance(value, str) and value != "???":
                try:
                    check_options(str(plain.get("id")), {**options, key: _NONE})
                except ArgumentError as error:
                    words = _listed(error)
            if key != "num_envs" or path.stem == "cartpole":
                yield f"env.{key}", words
