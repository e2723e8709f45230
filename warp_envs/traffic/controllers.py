"""Hand-made controllers of an autonomous car, as policies: what learning is held against.

A policy is called as ``policy(obs, deterministic) -> actions``; `reset` tells it which episodes
have ended. These read an environment's observation through its ``read_leader``.
"""

from __future__ import annotations

from typing import Any, Protocol, cast, runtime_checkable

import torch

from warp_envs.checks import ArgumentError, check_number, check_positive
from warp_envs.traffic.car_following import acceleration


@runtime_checkable
class FollowingEnv(Protocol):
    """An environment whose policy accelerates cars behind others, an action each.

    Attributes:
        num_envs: copies.
        num_actions: cars.
        control_step: [s].
        max_acceleration: what an action of 1 asks for [m/s^2].
        human_driver: numbers of the IDM of the humans around.
    """

    num_envs: int
    num_actions: int
    max_acceleration: float
    human_driver: dict[str, float]

    @property
    def control_step(self) -> float: ...  # noqa: D102

    def read_leader(self, obs: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Own speed, the leader's [m/s] and the gap [m], (n, num_actions), of observations."""
        ...


class Controller:
    """A policy by one rule for the acceleration."""

    def __init__(self, env: Any) -> None:
        """Control the cars of `env`.

        Raises:
            ArgumentError: it is no `FollowingEnv`.
        """
        if not isinstance(env, FollowingEnv):
            name = getattr(env, "name", type(env).__name__)
            given = f"{type(self).__name__} for env={name}"
            raise ArgumentError("policy", given, "an environment whose cars follow (ring, merge)")
        self.env = env

    def __call__(self, obs: torch.Tensor, deterministic: bool = True) -> torch.Tensor:
        """Actions (n, num_actions) for observations (n, num_obs); nothing is random."""
        speed, leader_speed, gap = self.env.read_leader(obs)
        wanted = self.acceleration(speed, leader_speed, gap)
        return (wanted / self.env.max_acceleration).clamp(-1.0, 1.0).to(obs.dtype)

    def reset(self, ended: torch.Tensor | None = None) -> None:
        """Begin anew where `ended` (num_envs,), bool, is True; everywhere if None."""

    def acceleration(
        self, speed: torch.Tensor, leader_speed: torch.Tensor, gap: torch.Tensor
    ) -> torch.Tensor:
        """What is asked for [m/s^2], (n, num_actions)."""
        raise NotImplementedError


class HumanDriver(Controller):
    """The IDM of the humans around, without their noise."""

    def acceleration(
        self, speed: torch.Tensor, leader_speed: torch.Tensor, gap: torch.Tensor
    ) -> torch.Tensor:
        """Treiber, Hennecke and Helbing (2000)."""
        named = ("v0", "T", "a", "b", "s0", "delta")
        numbers = {name: self.env.human_driver[name] for name in named}
        return acceleration("idm", speed, gap, speed - leader_speed, **numbers)


class FollowerStopper(Controller):
    """FollowerStopper (Stern et al. 2018, Transp. Res. C 89, 205): a desired speed, if safe.

    With dv = min(v_leader - v, 0) and v_in = min(max(v_leader, 0), U) the commanded speed is

        0                                        gap <= x_1
        v_in (gap - x_1) / (x_2 - x_1)           x_1 < gap <= x_2
        v_in + (U - v_in) (gap - x_2) / (x_3 - x_2)    x_2 < gap <= x_3
        U                                        x_3 < gap

    x_k = x_k0 + dv^2 / (2 d_k), x_k0 = 4.5, 5.25, 6 m, d_k = 1.5, 1, 0.5 m/s^2.
    """

    OFFSETS = (4.5, 5.25, 6.0)
    DECELERATIONS = (1.5, 1.0, 0.5)

    def __init__(
        self, env: Any, *, desired_speed: float | None = None, equilibrium_share: float = 0.86
    ) -> None:
        """Control the cars of `env`.

        Args:
            env: a `FollowingEnv`.
            desired_speed: U [m/s]; None: `equilibrium_share` of each copy's equilibrium speed,
                which somebody who sees the whole road must tell the car, as in the experiments; an
                environment without an ``equilibrium_speed()`` needs the number.
            equilibrium_share: asked for more, it loses the densest rings.

        Raises:
            ArgumentError: no such environment, or a number out of range.
        """
        super().__init__(env)
        if desired_speed is not None:
            check_positive("policy.desired_speed", desired_speed)
        elif not hasattr(env, "equilibrium_speed"):
            accepted = (
                f"a speed [m/s]: {getattr(env, 'name', 'the environment')} has no equilibrium"
            )
            raise ArgumentError("policy.desired_speed", "nothing", accepted)
        check_positive("policy.equilibrium_share", equilibrium_share)
        self.given_speed, self.share = desired_speed, equilibrium_share
        self.reset()

    def reset(self, ended: torch.Tensor | None = None) -> None:
        """Ask for the equilibrium speeds of new episodes."""
        if ended is None or (self.given_speed is None and bool(ended.any())):
            given = self.given_speed
            if given is not None:
                self._desired = torch.full((self.env.num_envs, 1), given, dtype=torch.float64)
            else:
                self._desired = self.share * cast("Any", self.env).equilibrium_speed()[:, None]

    def acceleration(
        self, speed: torch.Tensor, leader_speed: torch.Tensor, gap: torch.Tensor
    ) -> torch.Tensor:
        """To reach the commanded speed within a step."""
        desired = self._desired.to(speed)
        closing = (leader_speed - speed).clamp(max=0.0)
        x = [
            at + closing.square() / (2.0 * braking)
            for at, braking in zip(self.OFFSETS, self.DECELERATIONS, strict=True)
        ]
        follow = torch.minimum(leader_speed.clamp(min=0.0), desired)
        slower = follow * (gap - x[0]) / (x[1] - x[0])
        faster = follow + (desired - follow) * (gap - x[1]) / (x[2] - x[1])
        command = torch.where(gap <= x[2], faster, desired)
        command = torch.where(gap <= x[1], slower, command)
        command = torch.where(gap <= x[0], torch.zeros_like(command), command)
        return (command - speed) / self.env.control_step


class PISaturation(Controller):
    """PI with saturation (Stern et al. 2018): the mean of the own speed, and the gap closed.

    With U the mean own speed of the last 38 s, dv = v_leader - v and x_s = max(2 s dv, 4 m):

        v_target = U + 1 m/s min(max((gap - 7 m) / (30 m - 7 m), 0), 1)
        alpha = min(max((gap - x_s) / 2 m, 0), 1),    beta = 1 - alpha / 2
        v_cmd' = beta (alpha v_target + (1 - alpha) v_leader) + (1 - beta) v_cmd

    v_cmd is the own speed at first.
    """

    MEMORY = 38.0  # [s]
    CATCH_UP = 1.0  # [m/s]
    LOWER_GAP, UPPER_GAP = 7.0, 30.0  # [m]
    TIME, SAFE_GAP, BAND = 2.0, 4.0, 2.0  # [s], [m], [m]

    def __init__(self, env: Any) -> None:
        """Control the cars of `env`.

        Raises:
            ArgumentError: no `FollowingEnv`, or one of several cars, which change places in its
                observations and so have no memory.
        """
        super().__init__(env)
        if env.num_actions != 1:
            raise ArgumentError("policy", f"PISaturation of {env.num_actions} cars", "one car")
        self._length = max(1, round(self.MEMORY / env.control_step))
        self.reset()

    def reset(self, ended: torch.Tensor | None = None) -> None:
        """Forget the speeds of episodes that ended."""
        if ended is None:
            shape = (self._length, self.env.num_envs, 1)
            self._speeds = torch.full(shape, torch.nan, dtype=torch.float64)
            self._command = self._speeds[0].clone()
            self._at = 0
        else:
            self._speeds[:, ended] = torch.nan
            self._command[ended] = torch.nan

    def acceleration(
        self, speed: torch.Tensor, leader_speed: torch.Tensor, gap: torch.Tensor
    ) -> torch.Tensor:
        """To reach the commanded speed within a step."""
        speed, leader_speed, gap = (value.double() for value in (speed, leader_speed, gap))
        self._speeds, self._command = self._speeds.to(speed.device), self._command.to(speed.device)
        self._speeds[self._at] = speed
        self._at = (self._at + 1) % self._length
        last = torch.where(self._command.isnan(), speed, self._command)
        closing = ((gap - self.LOWER_GAP) / (self.UPPER_GAP - self.LOWER_GAP)).clamp(0.0, 1.0)
        target = self._speeds.nanmean(dim=0) + self.CATCH_UP * closing
        safe = (self.TIME * (leader_speed - speed)).clamp(min=self.SAFE_GAP)
        alpha = ((gap - safe) / self.BAND).clamp(0.0, 1.0)
        beta = 1.0 - 0.5 * alpha
        wanted = alpha * target + (1.0 - alpha) * leader_speed
        self._command = beta * wanted + (1.0 - beta) * last
        return (self._command - speed) / self.env.control_step


class SpeedLimit:
    """One speed for everybody: a constant variable speed limit, of an environment that has one."""

    def __init__(self, env: Any, *, desired_speed: float | None = None) -> None:
        """Command the cars of `env`.

        Args:
            env: it, with ``speed_limit`` [m/s] and ``speed_actions(speed)``.
            desired_speed: [m/s], up to the limit of the road; None: that limit.

        Raises:
            ArgumentError: no such environment, or a speed out of range.
        """
        if not hasattr(env, "speed_actions"):
            name = getattr(env, "name", type(env).__name__)
            given, accepted = f"SpeedLimit for env={name}", "one that commands speeds (bottleneck)"
            raise ArgumentError("policy", given, accepted)
        speed = env.speed_limit if desired_speed is None else desired_speed
        check_number("policy.desired_speed", speed, 0.0, env.speed_limit)
        self._actions = env.speed_actions(speed)

    def __call__(self, obs: torch.Tensor, deterministic: bool = True) -> torch.Tensor:
        """The same actions (n, num_actions) at any time."""
        return self._actions
