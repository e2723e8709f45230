"""A task in torch, as a user writes one, and the same in terms of the library."""

import torch

from warp_envs import RobotState

TERMS = {
    "reward": {
        "progress": {"term": "joint_rate", "joint": "root_x", "weight": 1.0},
        "upright": 0.1,
        "action_rate": -0.01,
        "foot": {"term": "body_height", "body": "torso", "weight": 0.3},
    },
    "terminate": {"height_below": 1.175},
    "observe": ["up", "joint_q", "joint_qd", "action"],
}


class Gallop:
    """Forward, upright, smoothly."""

    def observe(self, robot: RobotState) -> torch.Tensor:
        """The vertical in the base's axes, joint state, action."""
        up = torch.stack([robot.axis(k)[:, 2] for k in range(3)], 1)
        return torch.cat([up, robot.joint_q, robot.joint_qd, robot.action], 1)

    def reward(self, robot: RobotState) -> dict[str, torch.Tensor]:
        """Speed along x, uprightness, smoothness, height of the torso's centre of mass."""
        _, slide = robot.joints["root_x"]
        return {
            "progress": robot.joint_qd[:, slide],
            "upright": 0.1 * robot.axis(2)[:, 2],
            "action_rate": -0.01 * (robot.action - robot.last_action).square().sum(1),
            "foot": 0.3 * robot.body_q[:, robot.bodies["torso"], 2],
        }

    def terminated(self, robot: RobotState) -> torch.Tensor:
        """The base is low."""
        return robot.position[:, 2] < 1.175


class Wrong:
    """A task that can be made wrong in one place."""

    def observe(self, robot):
        """As `Gallop`."""
        return Gallop().observe(robot)

    def reward(self, robot):
        """Speed."""
        return robot.velocity[:, 0]
