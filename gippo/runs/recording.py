"""Let a trained policy act, count its returns, and record the motion as USD."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

import torch

from gippo.configuration.run_config import TrainConfig
from gippo.environment import make_env
from gippo.runs.checkpoint import read
from gippo.runs.policy import Policy
from warp_envs.recording.recorder import RobotSource, RolloutRecorder, TrafficSource
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
    return [file for file in stage_files(recording.absolute()) if file != recording.absolute()]


def warning_of(recording: Path) -> list[str]:
    """A line if a recording cannot be taken elsewhere by itself."""
    files = files_beside(recording)
    if not files:
        return []
    names = ", ".join(file.name for file in files[:3]) + (", ..." if len(files) > 3 else "")
    return [
        f"{recording.name} refers to {len(files)} texture{'s' * (len(files) > 1)} where the robot's "
        f"file has them ({names}); a .usdz file takes them along"
    ]


@torch.no_grad()
def play_policy(
    config: TrainConfig,
    checkpoint: Path,
    *,
    num_envs: int,
    num_steps: int,
    out: Path | None,
    seed: int = 0,
    device: str | None = None,
    deterministic: bool = True,
) -> Played:
    """Let the policy of a checkpoint act.

    Args:
        config: the run's.
        checkpoint: file of a learner's state.
        num_envs: copies of the environment.
        num_steps: control steps.
        out: USD file to write; None for none.
        seed: of initial states and, if asked for, exploration.
        device: instead of the run's.
        deterministic: act by the policy's mean instead of sampling.

    Raises:
        UserError: the checkpoint cannot be read or does not fit.
    """
    state = read(checkpoint)["learner"]
    env = make_env(config.env, num_envs=num_envs, device=device or config.device, seed=seed)
    policy = Policy(config.learner_config, state, device=env.device, seed=seed)
    policy.check_fits(env)
    returns: list[list[float]] = [[] for _ in range(num_envs)]
    lengths: list[list[int]] = [[] for _ in range(num_envs)]
    total = torch.zeros(num_envs, dtype=torch.float64)
    length = torch.zeros(num_envs, dtype=torch.int64)
    obs, _ = env.reset(seed=seed)
    shown = isinstance(env, (RobotSource, TrafficSource))
    recording = RolloutRecorder(env, out) if out is not None and shown else None
    with recording or nullcontext(env) as stepped:
        for _ in range(num_steps):
            obs, reward, terminated, truncated, _ = stepped.step(policy(obs, deterministic))
            total += reward.double().cpu()
            length += 1
            for i in (terminated | truncated).cpu().nonzero().flatten().tolist():
                returns[i].append(total[i].item())
                lengths[i].append(int(length[i]))
                total[i], length[i] = 0.0, 0
    return Played(returns, lengths, total.tolist(), recording is not None)
