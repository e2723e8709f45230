"""A pushed particle in plain torch: a differentiable vector environment whose ends are chosen."""

from types import SimpleNamespace

import torch


class Particle:
    """Position and velocity pushed by the action against a cubic spring; observes both.

    `ends`: (step, env) -> "terminated" or "truncated", steps counted from the last `reset`;
    otherwise an episode of an environment is truncated after `limit` steps of its own.
    """

    def __init__(self, num_envs, dtype=torch.float64, ends=None, limit=10**6, num_actions=1):
        self.num_envs = num_envs
        self.num_actions = num_actions
        self.dtype = dtype
        self.device = "cpu"
        self.ends = ends or {}
        self.limit = self.max_episode_steps = limit
        self.seed = 0
        self.single_observation_space = SimpleNamespace(shape=(2,))
        self.single_action_space = SimpleNamespace(shape=(num_actions,))
        self.step_calls = 0
        self.reset(seed=0)

    def reset(self, *, seed=None):
        if seed is not None:
            self.seed = seed
            self.clock = 0
            self.resets = torch.zeros(self.num_envs, dtype=torch.int64)
        self.age = torch.zeros(self.num_envs, dtype=torch.int64)
        self.state = self._start()
        return self.state, {}

    def _start(self):
        """A start that depends on seed, environment and reset count alone."""
        generator = torch.Generator()
        rows = []
        for env in range(self.num_envs):
            generator.manual_seed(self.seed * 10_007 + env * 101 + int(self.resets[env]))
            rows.append(torch.randn(2, dtype=torch.float64, generator=generator))
        return torch.stack(rows).to(self.dtype)

    def step(self, actions):
        assert actions.shape == (self.num_envs, self.num_actions)
        assert bool((actions.abs() <= 1).all())
        self.step_calls += 1
        x, v = self.state.unbind(1)
        v = v + 0.1 * (actions.sum(1) - x**3)
        x = x + 0.1 * v
        final_obs = torch.stack([x, v], 1)
        reward = -(x * x) - 0.1 * (actions * actions).sum(1) + 0.05 * torch.sin(v)
        self.age = self.age + 1
        terminated = torch.zeros(self.num_envs, dtype=torch.bool)
        truncated = self.age >= self.limit
        for (step, env), how in self.ends.items():
            if step == self.clock:
                (terminated if how == "terminated" else truncated)[env] = True
        done = terminated | truncated
        self.clock += 1
        self.resets = self.resets + done
        obs = torch.where(done.unsqueeze(1), self._start(), final_obs)
        self.age = torch.where(done, 0, self.age)
        self.state = obs
        diverged = torch.zeros_like(done)
        info = {"final_obs": final_obs, "diverged": diverged, "reward_terms": {}}
        return obs, reward, terminated, truncated, info

    def detach(self):
        self.state = self.state.detach()

    def get_state(self):
        return {
            "state": self.state.detach().clone(),
            "age": self.age.clone(),
            "resets": self.resets.clone(),
            "clock": torch.tensor([self.clock]),
            "seed": torch.tensor([self.seed]),
        }

    def set_state(self, state):
        self.state = state["state"].clone()
        self.age = state["age"].clone()
        self.resets = state["resets"].clone()
        self.clock = int(state["clock"])
        self.seed = int(state["seed"])
