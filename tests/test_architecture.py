"""Arrows run one way: gippo -> warp_envs -> kernels, and down the floors inside each of them."""

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FORBIDDEN = {
    "kernels": {"warp_envs", "gippo", "torch", "pxr", "gymnasium"},
    "warp_envs": {"gippo", "hydra", "omegaconf"},
    "gippo": {"kernels", "pxr", "warp"},
}
MAY = {
    "gippo/networks/native.py": {"kernels", "warp"},
    "gippo/networks/native_function.py": {"kernels"},
}
"""The native passes of networks are kernels of the learner's own."""

FLOORS = {
    "gippo": [
        ["__main__"],
        ["cli", "api"],
        ["commands"],
        ["studies"],
        ["runs"],
        ["configuration"],
        ["learner"],
        ["methods"],
        ["updates"],
        ["experience"],
        ["networks"],
        ["environment", "distributed", "seeding", "terminal"],
        ["schema"],
        ["files"],
        ["errors"],
        [""],
    ],
    "warp_envs": [
        ["viewing", "adapters"],
        ["registry"],
        ["robots", "traffic", "landscapes"],
        ["recording"],
        ["vector_env"],
        ["declarations"],
        ["articulation"],
        ["options"],
        ["usd"],
        ["bridge"],
        ["references"],
        ["checks"],
    ],
    "kernels": [
        ["robots", "traffic", "landscapes", "perceptron"],
        ["compiled"],
        ["articulation", "episode", "randomization"],
        ["precision", "vector_width"],
    ],
}
"""Rooms of each package from the top floor down; a room imports itself and floors below its own.

The package itself, "", is what others import by the package's name: its own imports are free, as it
only gathers what is public.
"""


@cache
def modules(package: str) -> list[tuple[Path, ast.Module]]:
    paths = sorted((ROOT / package).rglob("*.py"))
    return [(path, ast.parse(path.read_text(encoding="utf-8"))) for path in paths]


def imported(tree: ast.Module) -> Iterator[str]:
    """The dotted names that a module imports, inside functions too."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            assert node.level == 0, "absolute imports say which room they go to"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def room_of(name: str, package: str) -> str:
    """The room that a dotted name lies in: a folder or a file right below the package."""
    room = name.removeprefix(package).lstrip(".").split(".")[0]
    here = ROOT / package / room
    return room if room and (here.is_dir() or here.with_suffix(".py").exists()) else ""


@pytest.mark.parametrize("package", FORBIDDEN)
def test_no_package_imports_one_above_it(package):
    seen = 0
    for path, tree in modules(package):
        allowed = MAY.get(path.relative_to(ROOT).as_posix(), set())
        tops = {name.partition(".")[0] for name in imported(tree)}
        assert not tops & (FORBIDDEN[package] - allowed), path
        seen += 1
    assert seen


@pytest.mark.parametrize("package", FLOORS)
def test_no_room_imports_one_above_it(package):
    floors = {room: level for level, rooms in enumerate(FLOORS[package]) for room in rooms}
    arrows = set()
    for path, tree in modules(package):
        room = room_of(".".join(path.relative_to(ROOT).with_suffix("").parts), package)
        if path.parent == ROOT / package and path.name == "__init__.py":
            continue
        assert room in floors, f"{path} lies in no room that FLOORS names"
        for name in imported(tree):
            if name.split(".")[0] == package:
                other = room_of(name, package)
                if other != room:
                    arrows.add((room, other, path.relative_to(ROOT).as_posix()))
    up = [arrow for arrow in sorted(arrows) if floors.get(arrow[1], -1) <= floors[arrow[0]]]
    assert not up
    assert arrows


@pytest.mark.parametrize("package", FORBIDDEN)
def test_every_folder_says_what_it_holds(package):
    for folder in sorted({path.parent for path, _ in modules(package)}):
        tree = ast.parse((folder / "__init__.py").read_text(encoding="utf-8"))
        assert ast.get_docstring(tree), folder
