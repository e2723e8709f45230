"""Let a policy act, count its returns, and record the motion as USD."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from gippo.runs.acting import MakeActing, begin_anew
from warp_envs.recording.recorder import DETAILED, RobotSource, RolloutRecorder, TrafficSource
from warp_envs.usd.stage import stage_files


@dataclass(frozen=True)
class Played:
    """What a policy did, per environment."""

    returns: list[list[float]]
    """Undiscounted returns of the episodes that ended."""
    lengths: list[list[int]]
    """Their steps."""
    unfinished: list[float]
    """The return so far of the episode under way."""
    recorded: bool
    """Whether a USD file was written; some environments have nothing to show."""


def files_beside(recording: Path) -> list[Path]:
    """What a recording needs beside itself: the textures of its robot, which .usdz alone packs."""
    if recording.suffix == ".usdz":
        return []
    itself, *others = stage_files(recording.absolute())
    return [file for file in others if not file.samefile(itself)]


def note_of(num_envs: int) -> list[str]:
    """A line if a recording of so many environments has not all there is to tell of them."""
    if num_envs <= DETAILED:
        return []
    return [
        f"of more than {DETAILED} environments the reward's terms and the ground's forces are not "
        "recorded"
    ]


def warning_of(recording: Path) -> list[str]:
    """A line if a recording cannot be taken elsewhere by itself."""
    files = files_beside(recording)
    if not files:
        return []
    names = ", ".join(file.name for file in files[:3]) + (", ..." if len(files) > 3 else "")
    textures = f"{len(files)} texture{'s' * (len(files) > 1)}"
    return [
        f"{recording.name} refers to {textures} where the robot's file has them ({names}); "
        "a .usdz file takes them along"
    ]


def has_motion(env: Any) -> bool:
    """Whether an environment has something to record."""
    return isinstance(env, (RobotSource, TrafficSource))


@torch.no_grad()
def play_policy(
    env: Any,
    acting: MakeActing,
    *,
    num_steps: int,
    out: Path | None,
    seed: int = 0,
    deterministic: bool = True,
) -> Played:
    """Let a policy act.

    Args:
        env: a vector environment.
        acting: who acts there.
        num_steps: control steps.
        out: USD file to write; None for none.
        seed: of initial states.
        deterministic: act by the policy's mean instead of sampling.

    Raises:
        UserError: the policy does not fit the environment.
    """
    num_envs = env.num_envs
    obs, _ = env.reset(seed=seed)
    policy = acting(env)
    returns: list[list[float]] = [[] for _ in range(num_envs)]
    lengths: list[list[int]] = [[] for _ in range(num_envs)]
    total = torch.zeros(num_envs, dtype=torch.float64)
    length = torch.zeros(num_envs, dtype=torch.int64)
    recording = RolloutRecorder(env, out) if out is not None and has_motion(env) else None
    with recording or nullcontext(env) as stepped:
        for _ in range(num_steps):
            obs, reward, terminated, truncated, _ = stepped.step(policy(obs, deterministic))
            total += reward.double().cpu()
            length += 1
            for i in (terminated | truncated).cpu().nonzero().flatten().tolist():
                returns[i].append(total[i].item())
                lengths[i].append(int(length[i]))
                total[i], length[i] = 0.0, 0
            begin_anew(policy, terminated | truncated)
    return Played(returns, lengths, total.tolist(), recording is not None)
