"""Options of traffic environments, checked by numbers alone: neither torch nor Warp is imported.

The environments call these when they are made, `warp_envs.registry.check_options` before that.
"""

from __future__ import annotations

from typing import Any

from warp_envs.checks import (
    ArgumentError,
    check_choice,
    check_flag,
    check_integer,
    check_number,
    check_positive,
)

CAR_LENGTH = 5.0
"""Of every car on a ring [m]."""
BUNCHING = 50.0
"""The hole in the row of cars that a ring starts with [m]."""
RING_STEPS = 3000
"""Simulation steps of an episode on a ring."""
NETWORK_STEPS = 1500
"""Simulation steps of an episode on a network."""


def check_pace_car(*, num_lanes: Any, num_vehicles: Any, realistic: Any, reward_clip: Any) -> None:
    """Raise ArgumentError naming an option of `PaceCarEnv` out of range."""
    check_integer("num_lanes", num_lanes, 1)
    check_integer("num_vehicles", num_vehicles, 1)
    check_flag("realistic", realistic)
    check_choice("reward_clip", reward_clip, ("each", "mean"))


def check_ring(
    *,
    num_vehicles: Any,
    min_ring_length: Any,
    max_ring_length: Any,
    noise: Any,
    warm_up_steps: Any,
    max_acceleration: Any,
    action_weight: Any,
    sims_per_step: Any,
    fail_safe: Any,
    autonomous: Any,
) -> None:
    """Raise ArgumentError naming an option of `RingEnv` out of range."""
    check_integer("num_vehicles", num_vehicles, 1)
    check_integer("warm_up_steps", warm_up_steps, 0)
    check_integer("sims_per_step", sims_per_step, 1, RING_STEPS)
    least = BUNCHING + (num_vehicles + 1) * (CAR_LENGTH + 0.5)
    check_number("min_ring_length", min_ring_length, least)
    check_number("max_ring_length", max_ring_length, min_ring_length)
    check_number("noise", noise)
    check_positive("max_acceleration", max_acceleration)
    check_number("action_weight", action_weight)
    check_flag("fail_safe", fail_safe)
    check_flag("autonomous", autonomous)


def check_network(
    *,
    flow_rate: Any,
    share: Any,
    max_acceleration: Any,
    num_vehicles: Any,
    sims_per_step: Any,
    autonomous: Any,
) -> None:
    """Raise ArgumentError naming an option of `NetworkEnv` out of range."""
    check_number("flow_rate", flow_rate)
    check_number("share", share, 0.0, 1.0)
    check_positive("max_acceleration", max_acceleration)
    check_integer("num_vehicles", num_vehicles, 1)
    check_integer("sims_per_step", sims_per_step, 1, NETWORK_STEPS)
    check_flag("autonomous", autonomous)
    if autonomous and share == 0.0:
        raise ArgumentError("share", repr(share), "more than 0, or autonomous=false with it")


def check_merge(
    *,
    ramp_rate: Any,
    num_controlled: Any,
    main_length: Any,
    target_speed: Any,
    num_vehicles: Any,
) -> None:
    """Raise ArgumentError naming an option of `MergeEnv` out of range, beside those of networks."""
    check_number("ramp_rate", ramp_rate)
    check_integer("num_controlled", num_controlled, 1)
    check_positive("main_length", main_length)
    check_positive("target_speed", target_speed)
    check_integer("num_vehicles", num_vehicles, 1)
    if num_vehicles < num_controlled:
        accepted = f"at least num_controlled ({num_controlled})"
        raise ArgumentError("num_vehicles", str(num_vehicles), accepted)


def check_bottleneck(*, command: Any, min_headway: Any, max_headway: Any) -> None:
    """Raise ArgumentError naming an option of `BottleneckEnv` alone that is out of range."""
    check_choice("command", command, ("speed", "headway"))
    check_positive("min_headway", min_headway)
    check_positive("max_headway", max_headway)
    if max_headway < min_headway:
        accepted = f"at least min_headway ({min_headway})"
        raise ArgumentError("max_headway", str(max_headway), accepted)
