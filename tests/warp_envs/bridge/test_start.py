"""Warp's cache: where it cannot be written, and where what lies in it is damaged."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import warp as wp

from warp_envs.bridge.start import load_module

CODE = """
import os, warp_envs.bridge, warp as wp
assert os.access(wp.config.kernel_cache_dir, os.W_OK)
print(wp.config.kernel_cache_dir)
"""


def test_a_cache_that_cannot_be_written_is_replaced_and_told_of():
    environment = {name: v for name, v in os.environ.items() if name != "WARP_CACHE_PATH"}
    environment.update(WARP_CACHE_PATH="/dev/null/cache", PYTHONPATH=str(Path(__file__).parents[3]))
    done = subprocess.run(
        [sys.executable, "-c", CODE], capture_output=True, text=True, check=False, env=environment
    )
    assert done.returncode == 0, done.stderr
    assert "/dev/null/cache" in done.stderr and "set WARP_CACHE_PATH" in done.stderr
    assert not Path(done.stdout.strip()).exists(), "gone with the process"


@wp.kernel(enable_backward=False, module="unique")
def count_up(x: wp.array(dtype=wp.int32)):
    x[wp.tid()] += 1


@pytest.mark.parametrize("suffix", [".o", ".meta"])
def test_a_truncated_entry_of_the_cache_is_built_again(suffix, monkeypatch, tmp_path):
    # One's own: in the shared one another process may be building the same kernel.
    monkeypatch.setattr(wp.config, "kernel_cache_dir", str(tmp_path))
    module, x = count_up.module, wp.zeros(1, dtype=wp.int32, device="cpu")
    module.unload()
    load_module(module, x.device)
    (entry,) = tmp_path.glob(f"wp_{module.name}_*")
    for path in entry.glob(f"*{suffix}"):
        os.truncate(path, 60)
    module.unload()
    load_module(module, x.device)
    wp.launch(count_up, 1, inputs=[x], device="cpu")
    assert x.numpy().tolist() == [1]
