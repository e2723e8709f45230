"""`gippo export`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from gippo.configuration.compose import configure
from gippo.configuration.policies import trained_policies
from gippo.configuration.run_config import load_config
from gippo.errors import UserError
from gippo.terminal.help_text import describe_keys
from gippo.terminal.progress import make_console
from warp_envs.checks import ArgumentError, check_choice

FORMATS = (".onnx", ".pt")

HELP = """\
gippo export: write a trained policy as a file that needs no gippo, ONNX or TorchScript.

Usage: gippo export RUN policy.onnx [key=value ...]
       gippo export RUN policy.pt [key=value ...]
       gippo export policy=NAME policy.onnx [key=value ...]

RUN is a run's folder, NAME a trained policy's that comes along (gippo list policies). The file
takes observations as the environment gives them, "obs" (n, num_obs), and gives actions in [-1, 1],
"action" (n, num_actions): the observation normaliser is inside. It carries the names and units of
both, the control step, and where it comes from. Once written it is run on 1,000 observations, by
onnxruntime or torch, and must act as the policy does.

Keys:
{keys}

An .onnx file takes pip install '.[export]' in the checkout. docs/export.md shows how to run either.

Examples:
  gippo export runs/first first.onnx
  gippo export runs/first first.pt deterministic=false checkpoint=newest
  gippo export policy=ant ant.onnx"""


@dataclass
class ExportConfig:
    """What to write."""

    deterministic: bool = True
    """Act by the policy's mean; false: the file takes "noise" (n, num_actions), standard normal
    numbers, as its second input, and explores as in training."""
    checkpoint: str = "best"
    """best, newest, or the path of a checkpoint."""


def help_text() -> str:
    """What `gippo export --help` prints."""
    return HELP.format(keys=describe_keys(ExportConfig))


def run(arguments: Sequence[str]) -> int:
    """Export as the arguments say."""
    named = [text for text in arguments if "=" not in text or Path(text).exists()]
    keys = [text for text in arguments if text not in named]
    trained = trained_policies()
    for text in [text for text in keys if text.startswith("policy=")]:
        name = text.removeprefix("policy=")
        check_choice("policy", name, list(trained))
        keys.remove(text)
        named.insert(0, str(trained[name]))
    settings = configure("export", ExportConfig, keys)
    if len(named) != 2:
        given = " ".join(named) or "nothing"
        raise UserError(f"{given} given; a run and a file expected: gippo export RUN policy.onnx")
    run_dir, out = map(Path, named)
    if out.suffix not in FORMATS:
        raise ArgumentError("policy", repr(str(out)), f"a file ending in one of {list(FORMATS)}")
    load_config(run_dir)
    from gippo.runs.export import NUM_CHECKED, export_policy  # torch, now that all is checked

    exported = export_policy(
        run_dir, out, checkpoint=settings.checkpoint, deterministic=settings.deterministic
    )
    told = exported.metadata
    console = make_console()
    console.print(
        f"{out}: {told['num_obs']} observations to {told['num_actions']} actions, "
        f"{told['method']} on {told['environment']}, epoch {told['epoch']}"
    )
    if exported.difference is None:
        console.print("not checked: onnxruntime is not installed here")
    else:
        console.print(
            f"checked on {NUM_CHECKED} observations: the same actions to {exported.difference:.1g}"
        )
    return 0
