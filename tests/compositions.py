"""Hydra's compositions, each made once a process: most tests choose the same files.

A composition is told by all that goes into it - the overrides, the files and what the store holds -
and is made anew where any of that differs.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import hydra
import pytest
from hydra.core.config_store import ConfigNode, ConfigStore

from gippo.configuration import compose


def remember(patch: pytest.MonkeyPatch) -> None:
    """Let `configure` take a copy of what was composed before from the same."""
    made: dict[Any, Any] = {}
    nodes: dict[Any, ConfigNode] = {}
    store = ConfigStore.store

    def stored(self: ConfigStore, name: str, node: Any, group: str | None = None, **more) -> None:
        folder = self.repo
        for part in group.split("/") if group else ():
            folder = folder.setdefault(part, {})
        told = node if isinstance(node, type) else repr(node)
        key, file = (name, group, *more.items(), told), f"{name.removesuffix('.yaml')}.yaml"
        if key not in nodes:
            store(self, name, node, group, **more)
            nodes[key] = folder[file]
        folder[file] = nodes[key]

    def composed(command: str, chosen: list[str]) -> Any:
        files, entries = _files(compose.config_dir()), _entries(ConfigStore.instance().repo)
        key = (command, *chosen, *files, *entries)
        if key not in made:
            made[key] = hydra.compose(command, chosen)
        return made[key].copy()

    patch.setattr(ConfigStore, "store", stored)
    patch.setattr(compose, "compose", composed)


def _entries(folder: dict, path: str = "") -> Iterator[Any]:
    """Where the store holds what; an entry of the same content is the same object, see `stored`."""
    for name, entry in folder.items():
        if isinstance(entry, ConfigNode):
            yield path, name, id(entry)
        else:
            yield from _entries(entry, f"{path}/{name}")


def _files(folder: Path) -> Iterator[Any]:
    for path in sorted(folder.rglob("*.yaml")):
        state = path.stat()
        yield path, state.st_mtime_ns, state.st_size
