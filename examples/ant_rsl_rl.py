"""Train the Ant with rsl_rl's PPO: python examples/ant_rsl_rl.py LOG_DIR [ITERATIONS] [SEED].

64 environments, 32 steps an iteration: the same number of environment steps as an epoch of
`gippo train env=ant`, and the same networks. The learning rate adapts, as is usual with rsl_rl.
"""

import statistics
import sys

import torch
from rsl_rl.runners import OnPolicyRunner  # pyright: ignore[reportMissingImports]

import warp_envs
from warp_envs.adapters.rsl_rl import RslRlVecEnv

NETWORK = {"class_name": "MLPModel", "activation": "elu", "obs_normalization": True}
GAUSSIAN = {"class_name": "GaussianDistribution", "init_std": 1.0, "std_type": "scalar"}
CONFIG = {
    "num_steps_per_env": 32,
    "save_interval": 1000,
    "obs_groups": {"actor": ["policy"], "critic": ["policy"]},
    "actor": {**NETWORK, "hidden_dims": [128, 64, 32], "distribution_cfg": GAUSSIAN},
    "critic": {**NETWORK, "hidden_dims": [64, 64]},
    "algorithm": {
        "class_name": "PPO",
        "learning_rate": 5e-4,
        "schedule": "adaptive",
        "desired_kl": 0.01,
        "entropy_coef": 0.0,
    },
}


def train(log_dir: str, iterations: int = 100, seed: int = 0) -> list[float]:
    """Train, and tell the returns of the last 100 episodes."""
    torch.manual_seed(seed)
    env = warp_envs.make("ant", num_envs=64, seed=seed)
    runner = OnPolicyRunner(RslRlVecEnv(env), CONFIG, log_dir=log_dir, device="cpu")
    runner.learn(iterations)
    return list(runner.logger.rewbuffer)


if __name__ == "__main__":
    torch.set_num_threads(1)
    returns = train(sys.argv[1], *[int(argument) for argument in sys.argv[2:]])
    print(f"mean return of the last {len(returns)} episodes: {statistics.mean(returns):.1f}")
