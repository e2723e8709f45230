"""What a user installs: the wheel away from the checkout, and no other package's kernels."""

import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
VIEWER = (
    "page.html",
    "page.css",
    "view.js",
    "charts.js",
    "video.js",
    "page.js",
    "three.module.js",
    "three.LICENSE.txt",
)


def python(*arguments: str, path: list[Path], cwd: Path) -> subprocess.CompletedProcess:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, path))}
    return subprocess.run(
        [sys.executable, *arguments], capture_output=True, text=True, env=environment, cwd=cwd
    )


def test_anothers_kernels_are_refused_by_path(tmp_path):
    foreign = tmp_path / "kernels"
    foreign.mkdir()
    (foreign / "__init__.py").write_text("__version__ = '0.1'\n")
    result = python("-c", "import warp_envs", path=[tmp_path, ROOT], cwd=tmp_path)
    assert result.returncode != 0
    last = result.stderr.strip().splitlines()[-1]
    assert last.startswith("ImportError: ")
    assert str(foreign) in last


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    result = python("-m", "hatchling", "build", "-t", "wheel", "-d", str(folder), path=[], cwd=ROOT)
    assert result.returncode == 0, result.stderr
    (built,) = folder.glob("*.whl")
    return built


def test_the_wheel_holds_code_configurations_and_assets_and_nothing_else(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    tops = {name.partition("/")[0] for name in names}
    assert tops == {"kernels", "warp_envs", "gippo", f"gippo-{version()}.dist-info"}
    packed = {name for name in names if not name.endswith(".py")}
    sources = {
        "configs": "gippo/configs",
        "assets": "warp_envs/assets",
        "results/policies": "gippo/policies",
    }
    for source, target in sources.items():
        files = (ROOT / source).rglob("*")
        wanted = {f"{target}/{f.relative_to(ROOT / source)}" for f in files if f.is_file()}
        assert wanted
        assert wanted <= packed
    assert {f"warp_envs/viewing/web/{name}" for name in VIEWER} <= packed


def test_the_wheel_works_away_from_the_checkout(wheel, tmp_path):
    site = tmp_path / "site"
    zipfile.ZipFile(wheel).extractall(site)
    arguments = ["train", "env=cartpole", "num_epochs=1", "env.num_envs=2", "run_dir=run"]
    result = python("-m", "gippo", *arguments, "rollout.num_steps=3", path=[site], cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert (tmp_path / "run" / "curve.png").exists()
    code = "import gippo, gippo.cli; print(gippo.__file__); gippo.cli.main(['list', 'policies'])"
    told = python("-c", code, path=[site], cwd=tmp_path).stdout
    assert told.startswith(str(site))
    assert f"(in {site / 'gippo' / 'policies'})" in told


def version() -> str:
    found = re.search(r'__version__ = "(.+)"', (ROOT / "gippo" / "__init__.py").read_text())
    assert found is not None
    return found.group(1)


def test_the_version_is_the_same_everywhere():
    assert f"version: {version()}" in (ROOT / "CITATION.cff").read_text()
