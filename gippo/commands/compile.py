"""`gippo compile`."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import MISSING

from gippo.configuration.compose import choices, configure
from gippo.environment import make_env
from gippo.errors import UserError
from gippo.terminal.help_text import describe_keys, listed
from gippo.terminal.progress import make_console

HELP = """\
gippo compile: build an environment's kernels for a GPU that is not here.

The first run on a GPU builds its kernels, which takes from seconds (Cartpole) to minutes (a robot's
plain kernels). This builds them beforehand, on any machine, into a folder that travels:

    gippo compile env=ant arch=sm_90 out=kernels
    WARP_CACHE_PATH=kernels gippo train env=ant device=cuda        on the other machine

Kernels belong to the code, the environment's options and the version of Warp they were built with:
both machines must have the same. What does not fit is built there, as without this folder.

Usage: gippo compile [env=NAME] arch=ARCH [key=value ...]

{env}

Keys:
{keys}

Examples:
  gippo compile env=ant arch=sm_90 out=kernels
  gippo compile env=robot env.asset=dog.usda arch=[sm_80,sm_90,sm_100] out=kernels"""


@dataclass
class CompileConfig:
    """What to build."""

    env: dict[str, Any] = MISSING
    """From configs/env/; its num_envs does not matter."""
    arch: Any = MISSING
    """The GPU's architecture, or a list of them: sm_80 (A100), sm_90 (H100), sm_100 (B200)."""
    out: str = "kernels"
    """The folder to fill; what it holds stays."""
    double: bool = False
    """In double precision, as check-gradients has it."""


def help_text() -> str:
    """What `gippo compile --help` prints."""
    return HELP.format(
        env=listed("env", choices("env")), keys=describe_keys(CompileConfig, skip=("env",))
    )


def run(arguments: Sequence[str]) -> int:
    """Build as the arguments say."""
    config = configure("compile", CompileConfig, arguments)
    import torch

    from warp_envs.bridge.ahead import building_ahead, check_arch

    given = [config.arch] if isinstance(config.arch, str | int) else config.arch
    archs = [check_arch("arch", arch) for arch in given]
    if not archs:
        raise UserError("arch: [] given; one architecture at least is needed")
    folder = Path(config.out)
    if folder.exists() and not folder.is_dir():
        raise UserError(f"out: {config.out!r} is a file; a folder is accepted")
    console = make_console()
    started = time.monotonic()

    def tell(name: str, arch: int, seconds: float) -> None:
        console.print(f"sm_{arch}  {seconds:6.1f} s  {name}")

    with building_ahead(archs, folder, tell):
        dtype = torch.float64 if config.double else torch.float32
        _use(make_env(config.env, num_envs=1, device="cpu", seed=0, dtype=dtype))
    files = list(folder.rglob("*.cubin"))
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    console.print(
        f"{len(files)} builds, {size / 1e6:.1f} MB, in {folder} after "
        f"{time.monotonic() - started:.0f} s; where they are used: WARP_CACHE_PATH={folder}"
    )
    return 0


def _use(env: Any) -> None:
    """Everything that training, and recording a rollout, launches."""
    import torch

    action = torch.zeros(env.num_envs, env.num_actions, dtype=env.dtype, requires_grad=True)
    obs, reward, *_ = env.step(action)
    torch.autograd.grad(obs.sum() + reward.sum(), action)
    env.detach()
    if hasattr(env, "body_poses"):
        env.body_poses()
