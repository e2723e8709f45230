"""Gradient-informed PPO, and its baselines, on the differentiable environments of `warp_envs`.

run = gippo.train(env="cartpole", num_epochs=100)
policy = gippo.load_policy(run.run_dir)
print(gippo.evaluate(run.run_dir).mean)
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gippo.api import train
    from gippo.runs.evaluation import evaluate
    from gippo.runs.policy import load_policy

__version__ = "0.1.0"

__all__ = ["__version__", "evaluate", "load_policy", "train"]

_PUBLIC = {
    "evaluate": "gippo.runs.evaluation",
    "load_policy": "gippo.runs.policy",
    "train": "gippo.api",
}
"""Where each name lives; it is imported when it is asked for, so that commands start at once."""


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_PUBLIC[name]), name)
