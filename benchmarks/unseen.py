"""Methods on rewards that have no derivative: `python benchmarks/unseen.py [SEED ...]`.

button  one step: 1 for an action above 0.5, else 0
tilted  one step: 5 for an action above 0.5, less a tenth of it, which is all that its slope says
goal    50 steps along a line: 1 within 0.1 of a place, else 0
stairs  50 steps in a plane: the distance from its middle, rounded down to quarters, is lost

Each by 64 copies for 150 epochs, in windows of 4 steps, of 16 where episodes have 50.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import torch

from gippo import Learner, LearnerConfig
from gippo.experience.critic import CriticConfig
from gippo.methods.gippo import GIPPOConfig
from gippo.methods.gippo_adaptive import GIPPOAdaptiveConfig
from gippo.methods.rp import RPConfig
from gippo.updates.surrogate import PPOConfig

COPIES, EPOCHS = 64, 150
METHODS = {
    "gippo_adaptive": GIPPOAdaptiveConfig,
    "gippo": GIPPOConfig,
    "ppo": PPOConfig,
    "rp": RPConfig,
}


@dataclass(frozen=True)
class Task:
    """A point x in some dimensions, moved by a tenth of the action."""

    dim: int
    steps: int
    reward: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
    """Of x after the step and the action, (num_envs, dim) each."""


TASKS = {
    "button": Task(1, 1, lambda x, a: (a[:, 0] > 0.5).float()),
    "tilted": Task(1, 1, lambda x, a: 5.0 * (a[:, 0] > 0.5).float() - 0.1 * a[:, 0]),
    "goal": Task(1, 50, lambda x, a: ((x[:, 0] - 0.7).abs() < 0.1).float()),
    "stairs": Task(2, 50, lambda x, a: -torch.floor(4.0 * x.norm(dim=1)).detach()),
}


class Point:
    """A task's copies, as the learner takes an environment; starts are anywhere in [-1, 1]."""

    device, dtype, seed = "cpu", torch.float32, 0

    def __init__(self, task: Task) -> None:
        self._task, self.num_envs, self.max_episode_steps = task, COPIES, task.steps
        self.single_observation_space = self.single_action_space = SimpleNamespace(
            shape=(task.dim,)
        )
        self._generator = torch.Generator()

    def _start(self) -> torch.Tensor:
        return 2.0 * torch.rand((COPIES, self._task.dim), generator=self._generator) - 1.0

    def reset(self, *, seed: int) -> tuple[torch.Tensor, dict[str, Any]]:
        """Begin all copies anew."""
        self._generator.manual_seed(seed)
        self._x, self._age = self._start(), torch.zeros(COPIES, dtype=torch.int32)
        return self._x, {}

    def step(self, action: torch.Tensor) -> tuple[Any, ...]:
        """Move, and begin anew where an episode is over."""
        x = self._x + 0.1 * action
        nothing = 0.0 * action.sum(1)  # a reward has a derivative, if only 0
        reward = self._task.reward(x, action) + nothing
        self._age = self._age + 1
        over = self._age >= self._task.steps
        self._x = torch.where(over.unsqueeze(1), self._start(), x)
        self._age = torch.where(over, 0, self._age).int()
        never = torch.zeros_like(over)
        info = {"final_obs": x, "diverged": never, "reward_terms": {}}
        return self._x + nothing.unsqueeze(1), reward, never, over, info

    def detach(self) -> None:
        """Cut the graph."""
        self._x = self._x.detach()

    def get_state(self) -> dict[str, torch.Tensor]:
        """Positions and ages; the same ones may start otherwise from here."""
        return {"x": self._x.detach().clone(), "step_count": self._age.clone()}

    def set_state(self, state: dict[str, torch.Tensor]) -> None:
        """Go on from what is given of a state."""
        self._x = state.get("x", self._x).clone()
        self._age = state.get("step_count", self._age).clone()


def score(task: Task, method: str, seed: int) -> tuple[float, float]:
    """Best and last mean return of about 100 episodes."""
    adaptive = method == "gippo_adaptive"  # as its configuration file has it
    config = LearnerConfig(
        horizon=4 if task.steps == 1 else 16,
        staggered=adaptive,
        critic=CriticConfig(terminal_share=0.015 if adaptive else 0.0),
    )
    learner = Learner(Point(task), config, METHODS[method](), num_epochs=EPOCHS, seed=seed)
    for _ in range(EPOCHS):
        told = learner.train_epoch()
    return told["best_return"], told["episode_return"]


def main() -> None:
    """Train all and print a line each."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("seed", type=int, nargs="*", default=[0, 1, 2])
    seeds = parser.parse_args().seed
    torch.set_num_threads(1)
    for name, task in TASKS.items():
        for method in METHODS:
            runs = [score(task, method, seed) for seed in seeds]
            told = ", ".join(f"{best:.4g} ({last:.4g})" for best, last in runs)
            print(f"{name:7} {method:14} best (last): {told}", flush=True)


if __name__ == "__main__":
    main()
