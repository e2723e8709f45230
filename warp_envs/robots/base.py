"""The base of robot environments: an articulation from a USD file, driven by its joints."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
import warp as wp

from kernels.robots import shared as robot
from warp_envs.articulation.articulation import Articulation
from warp_envs.bridge.program import Program
from warp_envs.checks import LARGEST, ArgumentError, check_integer, check_number
from warp_envs.vector_env import Arrays, DifferentiableVectorEnv

CONTROL_STEP = 1.0 / 60.0  # s

_ROWS = 128  # posed at once, see `ArticulatedEnv.body_poses_at`


def asset_path(name: str) -> Path:
    """The USD file of a robot that comes with this package.

    Assets lie beside the packages in a checkout and inside this package in a wheel.
    """
    package = Path(__file__).resolve().parents[1]
    inside = package / "assets" / name
    return inside if inside.exists() else package.parent / "assets" / name


class ArticulatedEnv(DifferentiableVectorEnv):
    """A robot whose joints are driven by actions; what it observes and earns, a subclass says.

    State: ``joint_q`` (nq) and ``joint_qd`` (nv), in the coordinates of `Articulation`, and what
    the subclass adds.
    """

    control_step = CONTROL_STEP

    def __init__(
        self,
        env_id: str,
        *,
        asset: str | os.PathLike[str],
        num_envs: int,
        gear: float,
        actuated: Sequence[str] | None,
        substeps: int,
        reward_terms: tuple[str, ...],
        num_obs: int | None = None,
        max_episode_steps: int = 1000,
        extra_state: Mapping[str, int] | None = None,
        inertia: Mapping[str, np.ndarray] | None = None,
        compiled: bool | None = None,
        device: str = "cpu",
        dtype: torch.dtype = torch.float32,
        seed: int = 0,
    ) -> None:
        """Load the robot and make `num_envs` copies.

        Args:
            env_id: the environment's name.
            asset: path of a USD file with one UsdPhysics articulation.
            num_envs: copies stepped together.
            gear: force or torque at full action on every driven joint [N or N m].
            actuated: names of the driven joints; None drives every hinge and slide.
            substeps: integration steps per control step of 1/60 s.
            reward_terms: names of the terms whose sum is the reward.
            num_obs: numbers observed; None for all joint coordinates and velocities.
            max_episode_steps: time limit of an episode.
            extra_state: further state, name -> numbers per environment.
            inertia: body name -> inertia (3, 3) about its centre of mass, in place of the asset's.
            compiled: True for a kernel compiled for the robot, False for the plain ones, None for
                the faster (see `Articulation.record_step`).
            device: "cpu" or "cuda:0".
            dtype: torch.float32 or torch.float64.
            seed: of the random initial states.

        Raises:
            ValueError: an unsupported asset (naming the prim and the reason), an unknown joint
                name, or a value out of range.
        """
        check_integer("substeps", substeps, 1)
        check_number("gear", gear, -LARGEST)
        if compiled not in (True, False, None):
            raise ArgumentError("compiled", repr(compiled), "True, False or None")
        if not isinstance(asset, (str, os.PathLike)):
            raise ArgumentError("asset", repr(asset), "the path of a USD file")
        self.substeps = substeps
        self.compiled = compiled
        self.gear = float(gear)
        self.asset_path = Path(asset)
        self.articulation = Articulation.from_usd(
            asset, num_envs, device=device, dtype=dtype, inertia=inertia
        )
        self._driven = _driven_dofs(self.articulation, actuated)
        nq, nv = self.articulation.nq, self.articulation.nv
        super().__init__(
            env_id,
            num_envs=num_envs,
            num_obs=nq + nv if num_obs is None else num_obs,
            num_actions=len(self._driven),
            max_episode_steps=max_episode_steps,
            state_layout={"joint_q": nq, "joint_qd": nv, **(extra_state or {})},
            reward_terms=reward_terms,
            device=device,
            dtype=dtype,
            seed=seed,
            # The dynamics take some 10 ns for each degree of freedom and substep, the rest 0.4 us.
            rows_per_block=math.ceil(50.0 / (0.4 + 0.01 * nv * substeps)),
        )

    def record_step(
        self, program: Program, state: Arrays, action: wp.array, next_state: Arrays
    ) -> None:
        """Hold the joint forces gear * action over `substeps` substeps."""
        nv = self.articulation.nv
        actuator = np.full(nv, -1, dtype=np.int32)
        actuator[self._driven] = np.arange(len(self._driven))
        joint_f = program.array((self.num_envs, nv), self.scalar)
        inputs = [
            wp.array(actuator, dtype=wp.int32, device=program.device),
            wp.array(np.full(nv, self.gear), dtype=self.scalar, device=program.device),
            action,
            joint_f,
        ]
        program.launch(robot.drive_joints, joint_f.shape, inputs)
        self.articulation.record_step(
            program,
            state["joint_q"],
            state["joint_qd"],
            joint_f,
            next_state["joint_q"],
            next_state["joint_qd"],
            dt=CONTROL_STEP,
            substeps=self.substeps,
            compiled=self.compiled,
        )

    def scatter(
        self,
        program: Program,
        stream: int,
        rest: np.ndarray,
        spread: np.ndarray,
        rng: wp.array,
        rows: wp.array,
    ) -> None:
        """Append the draw of `rows` (num_envs, n) from rest ± spread, uniformly."""
        model = [
            wp.array(np.asarray(values), dtype=self.scalar, device=program.device)
            for values in (rest, spread)
        ]
        inputs = [*model, stream, rng, rows]
        program.launch(robot.scatter_coordinates, self.num_envs, inputs)

    # What a recorder reads ----------------------------------------------------------------------

    @property
    def body_paths(self) -> tuple[str, ...]:
        """Prim paths of the bodies in the asset, in the order of `body_poses`."""
        return tuple(body.path for body in self.articulation.description.bodies)

    def body_poses(self) -> torch.Tensor:
        """World poses (num_envs, bodies, 7): position [m] and quaternion (x, y, z, w)."""
        return self.articulation.body_poses(self._split_state()["joint_q"].detach())

    def joint_positions(self) -> torch.Tensor:
        """A copy (num_envs, nq), in the coordinates of `Articulation`."""
        return self._state[:, self._columns["joint_q"]].detach().clone()

    def body_poses_at(self, joint_positions: torch.Tensor) -> torch.Tensor:
        """World poses (rows, bodies, 7) of any number of joint positions (rows, nq)."""
        count = len(joint_positions)
        missing = -count % self._posed.num_envs
        rows = torch.cat([joint_positions, joint_positions[:1].expand(missing, -1)])
        poses = [self._posed.body_poses(part) for part in rows.split(self._posed.num_envs)]
        return torch.cat(poses)[:count]

    @cached_property
    def _posed(self) -> Articulation:
        """The same robot in a number of its own."""
        robot = self.articulation
        device = wp.device_to_torch(robot.device)
        return Articulation.from_description(robot.description, _ROWS, device, robot.dtype)


def _driven_dofs(articulation: Articulation, actuated: Sequence[str] | None) -> list[int]:
    """The degrees of freedom of the named joints, in the order of the names."""
    single = {
        body.joint.name: articulation.qd_start[index]
        for index, body in enumerate(articulation.description.bodies)
        if body.joint.kind in ("revolute", "prismatic")
    }
    if actuated is None:
        return list(single.values())
    for name in actuated:
        if name not in single:
            raise ArgumentError("actuated", repr(name), f"hinges and slides {list(single)}")
    return [single[name] for name in actuated]
