"""Tasks in torch: a class of one's own says what a robot observes, earns and when it ends.

    class Gallop:
        def observe(self, robot: RobotState) -> torch.Tensor: ...      # (num_envs, anything)
        def reward(self, robot: RobotState) -> torch.Tensor: ...       # (num_envs,), or name -> it
        def terminated(self, robot: RobotState) -> torch.Tensor: ...   # bool (num_envs,), optional

Physics are one Warp program; the task runs on what it gives, in torch's graph, so that gradients
pass through both. What every environment's step shares - divergence, episode ends, reset - is done
here in torch as `kernels.episode` does it in kernels.
"""

from __future__ import annotations

import logging
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import warp as wp

from warp_envs.articulation.articulation import Articulation
from warp_envs.bridge.function import TorchFunction
from warp_envs.checks import ArgumentError
from warp_envs.references import load_reference
from warp_envs.vector_env import DRAWS

if TYPE_CHECKING:
    from warp_envs.robots.any_robot import RobotEnv

_log = logging.getLogger("warp_envs")


@dataclass(frozen=True)
class RobotState:
    """A robot in all environments, as a task sees it: differentiable torch tensors, SI units.

    Attributes:
        joint_q: coordinates, (num_envs, nq), laid out as in `Articulation`.
        joint_qd: velocities, (num_envs, nv).
        body_q: position and quaternion (x, y, z, w) of each body's frame, (num_envs, bodies, 7).
        body_qd: velocity of each centre of mass, then angular velocity, in world axes, (num_envs,
            bodies, 6).
        contact: force of the ground on each body in world axes, (num_envs, bodies, 3) [N].
        action: the last action, clipped, (num_envs, num_actions); zero at an episode's start.
        last_action: the one before it, in `reward` and `terminated`; in `observe` the last, too.
        command: the command in force, (num_envs, 3); without `env.command` (num_envs, 0).
        base: index of the base among the bodies.
        control_step: time between two actions [s].
        joints: name of a hinge or slide -> its column in joint_q and in joint_qd.
        bodies: name of a body -> its index.
    """

    joint_q: torch.Tensor
    joint_qd: torch.Tensor
    body_q: torch.Tensor
    body_qd: torch.Tensor
    contact: torch.Tensor
    action: torch.Tensor
    last_action: torch.Tensor
    command: torch.Tensor
    base: int
    control_step: float
    joints: Mapping[str, tuple[int, int]]
    bodies: Mapping[str, int]

    @property
    def position(self) -> torch.Tensor:
        """The base's position in the world, (num_envs, 3) [m]."""
        return self.body_q[:, self.base, :3]

    @property
    def orientation(self) -> torch.Tensor:
        """The base's quaternion (x, y, z, w), (num_envs, 4)."""
        return self.body_q[:, self.base, 3:]

    @property
    def velocity(self) -> torch.Tensor:
        """Velocity of the base's centre of mass in world axes, (num_envs, 3) [m/s]."""
        return self.body_qd[:, self.base, :3]

    @property
    def angular_velocity(self) -> torch.Tensor:
        """The base's angular velocity in world axes, (num_envs, 3) [rad/s]."""
        return self.body_qd[:, self.base, 3:]

    def axis(self, k: int) -> torch.Tensor:
        """The base's own axis x, y or z (0, 1, 2) in the world, (num_envs, 3)."""
        x, y, z, w = self.orientation.unbind(1)
        columns = (
            (1 - 2 * (y * y + z * z), 2 * (x * y + z * w), 2 * (x * z - y * w)),
            (2 * (x * y - z * w), 1 - 2 * (x * x + z * z), 2 * (y * z + x * w)),
            (2 * (x * z + y * w), 2 * (y * z - x * w), 1 - 2 * (x * x + y * y)),
        )
        return torch.stack(columns[k], 1)


@dataclass(frozen=True)
class View:
    """What of a `RobotState` is the same in every step."""

    base: int
    control_step: float
    joints: Mapping[str, tuple[int, int]]
    bodies: Mapping[str, int]


class Task:
    """A user's task, called with checks: what it gives is of the right shape or refused by name."""

    def __init__(self, key: str, name: str, cls: Any) -> None:
        """Make an object of the class.

        Args:
            key: the argument that named it, for errors.
            name: of the class, for errors.
            cls: the class.

        Raises:
            ArgumentError: no class, one without `observe` and `reward`, or one that cannot be made
                without arguments.
        """
        self._key, self.name = key, name
        if not isinstance(cls, type):
            raise ArgumentError(key, f"{name}, which is no class", "a class")
        for method in ("observe", "reward"):
            if not callable(getattr(cls, method, None)):
                accepted = "a class with observe and reward"
                raise ArgumentError(key, f"{name} without a method {method!r}", accepted)
        self._object = self._guarded("__init__", cls)

    def observe(self, robot: RobotState) -> torch.Tensor:
        """The observation (num_envs, num_obs)."""
        obs = self._guarded("observe", self._object.observe, robot)
        self._check("observe", obs, robot, "(num_envs, numbers)", dimensions=2)
        return obs

    def reward(self, robot: RobotState) -> dict[str, torch.Tensor]:
        """The terms of the reward by name, (num_envs,) each; a single tensor is "reward"."""
        given = self._guarded("reward", self._object.reward, robot)
        terms = dict(given) if isinstance(given, Mapping) else {"reward": given}
        if not terms or not all(isinstance(name, str) for name in terms):
            self._refuse("reward", repr(list(terms)), "names of terms")
        for name, term in terms.items():
            self._check(f"reward[{name!r}]", term, robot, "(num_envs,)", dimensions=1)
        return terms

    def named_terms(self, robot: RobotState, names: Sequence[str]) -> list[torch.Tensor]:
        """The terms of the reward in the order of their names, which must not change."""
        terms = self.reward(robot)
        if set(terms) != set(names):
            self._refuse("reward", f"terms {list(terms)}", f"{list(names)}, as at first,")
        return [terms[name] for name in names]

    def terminated(self, robot: RobotState) -> torch.Tensor:
        """Whether episodes end, bool (num_envs,)."""
        count, device = len(robot.joint_q), robot.joint_q.device
        method = getattr(self._object, "terminated", None)
        if method is None:
            return torch.zeros(count, dtype=torch.bool, device=device)
        ends = self._guarded("terminated", method, robot)
        if not isinstance(ends, torch.Tensor) or ends.dtype != torch.bool or ends.shape != (count,):
            self._refuse("terminated", _described(ends), f"a bool tensor ({count},)")
        return ends

    def _check(
        self, what: str, value: Any, robot: RobotState, accepted: str, dimensions: int
    ) -> None:
        like = robot.joint_q
        good = isinstance(value, torch.Tensor) and value.ndim == dimensions
        good = good and len(value) == len(like) and value.dtype == like.dtype
        if not good or value.device != like.device:
            wanted = accepted.replace("num_envs", str(len(like)))
            accepted = f"a tensor {wanted}, {like.dtype} on {like.device}"
            self._refuse(what, _described(value), accepted)

    def _refuse(self, what: str, given: str, accepted: str) -> None:
        raise ArgumentError(f"{self._key}: {self.name}.{what}", given, accepted)

    def _guarded(self, method: str, function: Callable[..., Any], *arguments: Any) -> Any:
        """Call the user's code; what it raises is told with its line."""
        try:
            return function(*arguments)
        except Exception as error:
            place = traceback.extract_tb(error.__traceback__)[-1]
            said = " ".join(str(error).split())
            raise ArgumentError(
                f"{self._key}: {self.name}.{method}",
                f"{type(error).__name__}: {said} ({place.filename}, line {place.lineno})",
            ) from error


def _described(value: Any) -> str:
    if isinstance(value, torch.Tensor):
        return f"a tensor {tuple(value.shape)}, {value.dtype} on {value.device}"
    return f"a {type(value).__name__}"


class _Gate(torch.autograd.Function):
    """Pass rows on; pass their gradient back only where `shut`, known later, is not set."""

    @staticmethod
    def forward(ctx: Any, rows: torch.Tensor, shut: torch.Tensor) -> torch.Tensor:
        ctx.shut = shut
        return rows.view_as(rows)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, None]:
        (gradient,) = gradients
        return torch.where(ctx.shut[:, None], 0.0, gradient), None


class TorchStep:
    """The step of a robot with a task in torch: what the one program of the others is to them."""

    def __init__(
        self,
        env: RobotEnv,
        task: Task,
        view: View,
        physics: TorchFunction,
        kinematics: TorchFunction,
    ) -> None:
        """Put the step together.

        Args:
            env: the environment, for its state's layout, its memory and its starts.
            task: the user's.
            view: what a task is told beside the state.
            physics: the state's parts, the action and the parameters in force, if any vary -> the
                parts after the step.
            kinematics: joint_q, joint_qd and these parameters -> body_q, body_qd and contact.
        """
        self._env, self._task, self._view = env, task, view
        self._physics, self._kinematics = physics, kinematics

    def observe(self, *parts: torch.Tensor) -> tuple[torch.Tensor]:
        """The observation (num_envs, num_obs) of the state with these parts.

        After them come the parameters in force, if any vary.
        """
        count = len(self._widths)
        rows, varied = torch.cat(parts[:count], 1), parts[count:]
        return (self._task.observe(self._robot(rows, varied)),)

    def __call__(
        self, state: torch.Tensor, actions: torch.Tensor, *given: torch.Tensor
    ) -> tuple[torch.Tensor, ...]:
        """Step from `state` (num_envs, n) by `actions` (num_envs, num_actions).

        `given` are the parameters as they were set, if any vary.

        Returns:
            obs, reward, final_obs, terminated, truncated, diverged, reward terms (num_envs, terms)
            and the next state.
        """
        env, task, memory = self._env, self._task, self._env._memory
        shut = ~torch.isfinite(actions.detach()).all(1)
        before = _Gate.apply(state, shut)
        action = _Gate.apply(actions, shut).clamp(-1.0, 1.0)
        varied = [_Gate.apply(rows, shut) for rows in env.varying.in_force(memory.get(DRAWS))]
        parts = before.split(self._widths, 1)
        stepped = torch.cat(self._physics(*parts, action, *varied), 1)
        seen = self._robot(stepped, varied)
        earlier = self._parts(before)
        in_force = earlier.get("command", seen.command)
        robot = replace(seen, last_action=earlier["last_action"], command=in_force)
        terms = torch.stack(task.named_terms(robot, env.reward_terms), 1)
        raw_obs = task.observe(seen)
        for rows in (stepped, raw_obs, terms):
            shut |= ~torch.isfinite(rows.detach()).all(1)
        for name, bound in env.state_bounds.items():
            shut |= (self._parts(stepped)[name].detach().abs() > bound).any(1)
        diverged = shut.clone()
        reward = torch.where(diverged, memory["last_reward"].clone(), terms.sum(1))
        terminated = task.terminated(robot).detach() | diverged
        memory["step_count"] += 1
        memory["last_reward"].copy_(reward.detach())
        truncated = memory["step_count"] >= env.max_episode_steps
        final_obs = obs = raw_obs
        if bool((terminated | truncated).any()):
            done = terminated | truncated
            ends = (diverged, done)
            final_obs, obs, stepped = self._begin_anew(state, raw_obs, stepped, *ends, varied)
        return obs, reward, final_obs, terminated, truncated, diverged, terms, stepped

    def _begin_anew(
        self,
        state: torch.Tensor,
        raw_obs: torch.Tensor,
        stepped: torch.Tensor,
        diverged: torch.Tensor,
        done: torch.Tensor,
        varied: Sequence[torch.Tensor],
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Final observations, observations and states, where environments that ended start anew."""
        memory = self._env._memory
        with torch.no_grad():
            last_obs = self._task.observe(self._robot(state.detach(), varied))
            fresh, drawn = self._env._begin()
            if drawn is not None:
                memory[DRAWS].copy_(torch.where(done[:, None], drawn, memory[DRAWS]))
            renewed = self._env.varying.in_force(memory.get(DRAWS))
            fresh_obs = self._task.observe(self._robot(fresh, renewed))
        memory["step_count"].masked_fill_(done, 0)
        memory["reset_count"] += done.to(memory["reset_count"].dtype)
        return (
            torch.where(diverged[:, None], last_obs, raw_obs),
            torch.where(done[:, None], fresh_obs, raw_obs),
            torch.where(done[:, None], fresh, stepped),
        )

    @property
    def _widths(self) -> list[int]:
        return list(self._env.state_layout.values())

    def _parts(self, rows: torch.Tensor) -> dict[str, torch.Tensor]:
        return dict(zip(self._env.state_layout, rows.split(self._widths, 1), strict=True))

    def _robot(self, rows: torch.Tensor, varied: Sequence[torch.Tensor]) -> RobotState:
        parts = self._parts(rows)
        body_q, body_qd, contact = self._kinematics(parts["joint_q"], parts["joint_qd"], *varied)
        return RobotState(
            joint_q=parts["joint_q"],
            joint_qd=parts["joint_qd"],
            body_q=body_q,
            body_qd=body_qd,
            contact=contact,
            action=parts["last_action"],
            last_action=parts["last_action"],
            command=parts.get("command", rows[:, :0]),
            **vars(self._view),
        )


def load_task(given: str | type) -> Task:
    """The task of a class or ``module:Class``.

    Raises:
        ArgumentError: there is none, or it is no task.
    """
    if isinstance(given, str):
        return Task("task", given, load_reference("task", given))
    return Task("task", getattr(given, "__qualname__", repr(given)), given)


def try_task(
    task: Task,
    articulation: Articulation,
    rest: np.ndarray,
    num_actions: int,
    num_commands: int,
    view: View,
) -> tuple[int, tuple[str, ...]]:
    """Numbers observed and names of the reward's terms; a task without gradient is told of.

    Raises:
        ArgumentError: what the task gives is not accepted.
    """
    n, device = articulation.num_envs, wp.device_to_torch(articulation.device)

    def leaf(values: Any) -> torch.Tensor:
        rows = torch.as_tensor(np.broadcast_to(values, (n, len(values))).copy())
        return rows.to(device, articulation.dtype).requires_grad_()

    joint_q, joint_qd = leaf(rest), leaf(np.zeros(articulation.nv))
    action, command = leaf(np.zeros(num_actions)), leaf(np.zeros(num_commands))
    body_q = articulation.body_poses(joint_q)
    body_qd = leaf(np.zeros(6))[:, None].expand(n, len(articulation.body_names), 6)
    contact = body_qd[:, :, :3]  # as differentiable, and as many
    parts = (joint_q, joint_qd, body_q, body_qd, contact, action, action, command)
    robot = RobotState(*parts, **vars(view))
    obs, terms = task.observe(robot), task.reward(robot)
    task.terminated(robot)
    for what, parts in (("observation", [obs]), ("reward", terms.values())):
        if not any(part.requires_grad for part in parts):
            _log.warning("%s: its %s does not depend differentiably on the state", task.name, what)
    return obs.shape[1], tuple(terms)
