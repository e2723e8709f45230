"""Robots with other constants, to hold those against whose constants vary."""

from dataclasses import replace

import numpy as np
import torch

from warp_envs.articulation.articulation import Articulation
from warp_envs.articulation.columns import GLOBAL


def everything(description, without=("log_cholesky",)):
    """Names that stand for every number of a robot that can vary, each once."""
    known = Articulation(description, 1).parameters()
    dotted = [name for name in known if "." in name and name.split(".")[1] not in without]
    return [name for name in GLOBAL if name in known] + dotted


def scattered(description, names, num_envs, seed):
    """Values of the named parameters about their defaults, and the rows of the kernels."""
    robot = Articulation(description, num_envs, dtype=torch.float64, parameters=names)
    rng = np.random.default_rng(seed)
    values = {}
    for name in names:
        item = robot.parameters()[name]
        factor = rng.uniform(0.8, 1.2, (num_envs, *item.shape))
        added = rng.uniform(0.01, 0.1, (num_envs, *item.shape))
        values[name] = torch.tensor(np.where(item.default == 0.0, added, item.default * factor))
    robot.set_parameters(values)
    return values, robot.varied.rows()


def changed(description, values, env):
    """The robot whose constants are one environment's values."""
    bodies = list(description.bodies)
    for name, rows in values.items():
        value = rows[env].numpy()
        owner, _, kind = name.rpartition(".")
        for i, body in enumerate(bodies):
            if kind == "inertia_scale" and body.name == owner:
                bodies[i] = replace(body, inertia=body.inertia * value)
            elif kind == "mass" and body.name == owner:
                inertia = body.inertia * float(value) / body.mass
                bodies[i] = replace(body, mass=value, inertia=inertia)
            elif kind == "com" and body.name == owner:
                bodies[i] = replace(body, com=value)
            elif owner and body.joint.name == owner:
                bodies[i] = replace(body, joint=replace(body.joint, **{kind: float(value)}))
    fields = {"friction": "mu", "contact_ke": "ke", "contact_kd": "kd", "contact_kf": "kf"}
    given = {field: float(values[name][env]) for name, field in fields.items() if name in values}
    contact = description.contact if not given else replace(description.contact, **given)
    gravity = values["gravity"][env].numpy() if "gravity" in values else description.gravity
    return replace(description, bodies=tuple(bodies), contact=contact, gravity=gravity)
