"""`gippo compile`."""

import subprocess
import sys

import pytest
import warp as wp

from gippo.cli import main
from warp_envs.bridge.start import start_warp

# What a command's process builds or, on a GPU, looks for in the cache: modules with the kernels
# that are in use by then, which is why neither shares this process.
MODULES = """
import sys
import warp as wp
from gippo.cli import main
from warp_envs.bridge import slots
from warp_envs.bridge.start import BLOCK_DIM

found, load = set(), slots.load_kernels

def loaded(named, device):
    found.update(kernel.module.get_module_identifier(block_dim=BLOCK_DIM) for kernel, _ in named)
    return load(named, device)

def built(module, **options):
    found.add(module.get_module_identifier())

if sys.argv[1] == "compile":
    wp.compile_aot_module = built
else:
    slots.load_kernels = loaded
assert main(sys.argv[1:]) == 0
print("modules", *sorted(found))
"""


def modules_of(*arguments):
    command = [sys.executable, "-c", MODULES, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()[-1].split()[1:]


@pytest.mark.slow
@pytest.mark.parametrize(
    "env", [["env=cartpole"], ["env=ring", "env.warm_up_steps=2", "env.randomize={T:[0.8,1.6]}"]]
)
def test_what_is_built_is_what_a_training_looks_for(env, tmp_path):
    built = modules_of("compile", *env, "arch=90", f"out={tmp_path / 'kernels'}")
    settings = ["env.num_envs=4", "num_epochs=2", "logger=[]", f"run_dir={tmp_path / 'run'}"]
    wanted = modules_of("train", *env, *settings)
    assert len(wanted) >= 2 and set(wanted) <= set(built)


def test_a_driver_as_new_as_the_compiler_does_not_change_what_is_looked_for():
    """Warp would look for PTX then, where `gippo compile` has built a GPU's own code."""
    start_warp()
    assert wp.config.cuda_output == "cubin"


def test_kernels_are_built_where_a_gpus_process_looks_for_them(tmp_path, capsys):
    folder = tmp_path / "kernels"
    assert main(["compile", "env=dejong", "env.dim=3", "arch=[sm_80,90]", f"out={folder}"]) == 0
    said = capsys.readouterr().out
    assert "WARP_CACHE_PATH" in said and "kernels.episode" in said
    modules = [path for path in folder.iterdir() if path.name.startswith("wp_")]
    assert len(modules) >= 3
    for module in modules:
        for suffix in (".sm80.cubin", ".sm90.cubin", ".meta"):
            assert (module / f"{module.name}{suffix}").stat().st_size > 0
    assert main(["compile", "env=dejong", "env.dim=3", "arch=80", f"out={folder}"]) == 0
    assert {path.name for path in folder.iterdir()} == {path.name for path in modules}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "arch: no value given"),
        (["arch=fast"], "arch: 'fast' given, sm_75"),
        (["arch=[]"], "arch: [] given"),
        (["arch=30"], "arch: 30 given"),
        (["arch=90", "out=file"], "out: 'file' is a file"),
    ],
)
def test_mistakes_are_told_before_anything_is_built(
    arguments, message, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("")
    assert main(["compile", "env=dejong", *arguments]) == 2
    assert message in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
