"""Gradient-informed PPO, and its baselines, on the differentiable environments of `warp_envs`.

run = gippo.train(env="cartpole", algo="gippo", num_epochs=100)
policy = gippo.load_policy(run.run_dir)
print(gippo.evaluate(run.run_dir).mean)

A name below is imported when it is first used.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gippo.api import Trained, train
    from gippo.learner import Learner, LearnerConfig
    from gippo.methods import register_method
    from gippo.methods.base import Method
    from gippo.runs.evaluation import Evaluation, evaluate
    from gippo.runs.policy import Policy, load_policy
    from gippo.updates.window import Context, Samples, UpdateReport, Window

__version__ = "0.1.0"

__all__ = [
    "Context",
    "Evaluation",
    "Learner",
    "LearnerConfig",
    "Method",
    "Policy",
    "Samples",
    "Trained",
    "UpdateReport",
    "Window",
    "evaluate",
    "load_policy",
    "register_method",
    "train",
]

_MODULES = {
    "Context": "updates.window",
    "Evaluation": "runs.evaluation",
    "Learner": "learner",
    "LearnerConfig": "learner",
    "Method": "methods.base",
    "Policy": "runs.policy",
    "Samples": "updates.window",
    "Trained": "api",
    "UpdateReport": "updates.window",
    "Window": "updates.window",
    "evaluate": "runs.evaluation",
    "load_policy": "runs.policy",
    "register_method": "methods",
    "train": "api",
}


def __getattr__(name: str) -> Any:
    """Import what is asked for (PEP 562)."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
