"""Environments for other libraries' learners, one module each.

| module | for | what time-outs are worth there |
|---|---|---|
| `rsl_rl` | rsl_rl's runners | the value of the state before the last step |
| `skrl` | skrl's trainers | nothing, or with its `time_limit_bootstrap` that of the next start |
| `stable_baselines3` | Stable-Baselines3, in numpy | the value of the last state itself |
| `torchrl` | torchrl's collectors and losses | the same |

Their learners use no gradient of the simulator, so none is recorded: every adapter steps its
environment under ``torch.no_grad()``. A module imports its library, so import it only where that
library is installed: ``pip install '.[adapters]'`` brings all four.
"""
