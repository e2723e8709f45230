"""The USD file of what `env.asset` names: USD, MJCF or URDF, on disk or in a package."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from warp_envs.options.robots import asset_file


def usd_file(asset: str | os.PathLike[str]) -> tuple[Path, list[str]]:
    """The USD file of an asset, and what was left out on the way to it, one line each.

    MJCF and URDF are converted anew each time, into the user's cache.

    Args:
        asset: a file, or ``package:path`` of one in an installed Python package.

    Raises:
        ValueError: no such package or file, or a robot that `convert_robot` refuses.
    """
    from warp_envs.usd.conversion.convert import convert_robot  # USD only where a file is read
    from warp_envs.usd.conversion.source import SOURCES

    path = asset_file(asset)
    if path.suffix.lower() not in SOURCES:
        return path, []
    mark = hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:12]
    target = _cache() / f"{path.stem}-{mark}.usda"
    target.parent.mkdir(parents=True, exist_ok=True)
    return target, convert_robot(path, target)


def _cache() -> Path:
    """Where what is made from other files lies."""
    base = os.environ.get("XDG_CACHE_HOME") or os.path.join(Path.home(), ".cache")
    return Path(base) / "gippo" / "assets"
