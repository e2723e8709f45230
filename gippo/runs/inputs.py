"""Files outside a run's folder that the run is made of: kept in it, told by their checksums.

What the environment's options name by path (a robot's USD with all that it refers to, a YAML file,
data) is copied to ``inputs/KEY/``, and the configuration names the copy, relative to the run's
folder: the run is whole wherever it is taken. Of a robot in MJCF or URDF it is the USD file that is
made of it. Modules of one's own (``env=module:Class``) are code:
they are not copied, but their source is held against the one that the run was begun with.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from gippo.configuration.run_config import INPUTS, TrainConfig, own_inputs
from gippo.errors import UserError
from gippo.files import write_whole
from warp_envs.checks import ArgumentError
from warp_envs.registry import is_reference

RECORD = "inputs.json"
"""In `INPUTS`: key -> where it came from, and path -> SHA-256 of each file."""

_USD = (".usd", ".usda", ".usdc")


ORIGIN = "from_run"
"""Folder in `INPUTS` of the checkpoint that the run starts with, and its key in `RECORD`."""


def kept_origin(run_dir: Path) -> Path:
    """Where a run keeps the checkpoint that it starts with."""
    return run_dir / INPUTS / ORIGIN / "checkpoint.pt"


def keep_inputs(config: TrainConfig, run_dir: Path, origin: Path | None = None) -> None:
    """Copy a new run's input files into its folder, and have the configuration name the copies.

    Args:
        config: the run's.
        run_dir: its folder.
        origin: the checkpoint that it starts with.

    Raises:
        OSError: they cannot be read or written.
    """
    record: dict[str, Any] = {}
    for key, path in _named_files(config).items():
        files = _with_dependencies(path)
        top, folder = _top(files), run_dir / INPUTS / key
        for file in files:
            copy = folder / file.relative_to(top)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, copy)
        record[f"env.{key}"] = {"from": str(path), "files": _sums(files, top)}
        config.env[key] = str(folder / path.relative_to(top))
    for key, source in _modules(config).items():
        record[key] = {"from": str(source), "files": _sums([source], source.parent)}
    if origin is not None:
        copy = kept_origin(run_dir)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(origin, copy)
        record[ORIGIN] = {"from": str(origin.absolute()), "files": _sums([copy], copy.parent)}
    if record:
        (run_dir / INPUTS).mkdir(exist_ok=True)
        text = json.dumps(record, indent=2) + "\n"
        write_whole(run_dir / INPUTS / RECORD, text.encode())


def check_inputs(config: TrainConfig, run_dir: Path, given: TrainConfig | None = None) -> None:
    """Hold a run's inputs against what it was begun with.

    Args:
        config: the run's own.
        run_dir: its folder.
        given: what was asked for; a file that it names again must be the run's.

    Raises:
        UserError: one is missing or another.
    """
    for key, entry in _record(run_dir).items():
        folder = run_dir / INPUTS / key.removeprefix("env.")
        sources = _modules(config)
        if key in sources:
            folder = sources[key].parent
        changed = _first_change(folder, entry["files"])
        if changed is not None:
            raise UserError(
                f"{key}: {changed} is not what the run in {str(run_dir)!r} was begun with "
                f"({entry['from']}); put it back, or start a new run"
            )
    for key in own_inputs(config, run_dir):
        again = None if given is None else given.env.get(key)
        entry = _record(run_dir).get(f"env.{key}")
        if entry is None or not isinstance(again, str):
            continue
        path = _file_of(key, again).absolute()
        if not path.is_file():
            raise ArgumentError(f"env.{key}", repr(again), "an existing file")
        files = _with_dependencies(path)
        if _sums(files, _top(files)) != entry["files"]:
            raise UserError(
                f"env.{key}: {again} given, but the run in {str(run_dir)!r} was begun with another "
                f"content ({entry['from']}); leave it out, or start a new run"
            )


def checksum(run_dir: Path, key: str) -> str | None:
    """A short name of an input's content, by which runs of the same one know each other."""
    entry = _record(run_dir).get(key)
    if entry is None:
        return None
    return hashlib.sha256(json.dumps(entry["files"], sort_keys=True).encode()).hexdigest()[:8]


def _record(run_dir: Path) -> dict[str, Any]:
    path = run_dir / INPUTS / RECORD
    try:
        found = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
        whole = all({"from", "files"} <= set(entry) for entry in found.values())
    except (ValueError, AttributeError, TypeError, RecursionError):
        whole, found = False, {}
    if not whole:
        raise UserError(f"run_dir: {path} is damaged")
    return found


def _named_files(config: TrainConfig) -> dict[str, Path]:
    """Option -> absolute path, of those that name an existing file."""
    given = {key: v for key, v in config.env_options.items() if isinstance(v, str) and v}
    named = {key: _file_of(key, value) for key, value in given.items()}
    return {key: path.absolute() for key, path in named.items() if path.is_file()}


def _file_of(key: str, value: str) -> Path:
    """The file that an option names; a robot in another form than USD is converted."""
    if key != "asset":
        return Path(value)
    from warp_envs.robots.assets import usd_file

    try:
        return usd_file(value)[0]
    except ArgumentError as error:
        raise error.renamed("env.asset") if error.key == "asset" else error from None


def _with_dependencies(path: Path) -> list[Path]:
    """A file and, of a USD one, all that it refers to."""
    if path.suffix.lower() not in _USD:
        return [path]
    from warp_envs.usd.stage import stage_files  # OpenUSD, which takes its time

    return stage_files(path)


def _top(files: list[Path]) -> Path:
    """The folder that holds all of them."""
    return Path(os.path.commonpath([file.parent for file in files]))


def _modules(config: TrainConfig) -> dict[str, Path]:
    """Key -> source of the modules that the configuration names as ``module:Class``."""
    found: dict[str, Path] = {}
    for key, name in (("env.id", config.env.get("id")), ("algo.name", config.algo.name)):
        if isinstance(name, str) and is_reference(name):
            try:
                spec = find_spec(name.partition(":")[0])
            except ImportError:
                spec = None  # whoever imports it says so
            if spec is not None and spec.origin and Path(spec.origin).is_file():
                found[key] = Path(spec.origin)
    return found


def _sums(files: list[Path], top: Path) -> dict[str, str]:
    return {file.relative_to(top).as_posix(): _sum(file) for file in sorted(files)}


def _sum(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def _first_change(folder: Path, files: dict[str, str]) -> Path | None:
    """The first file that is not there or has another content."""
    for name, wanted in files.items():
        if not (folder / name).is_file() or _sum(folder / name) != wanted:
            return folder / name
    return None
