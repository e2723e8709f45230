"""How many robot files convert, why the rest do not, and how far they are from MuJoCo.

    python benchmarks/robot_files.py robots.csv \
        gymnasium=.venv/lib/python3.11/site-packages/gymnasium dm_control=models/dm_control

From a checkout, with the extra `convert` and the tests' packages installed. Each argument after
the first names a folder with files: every MJCF (.xml) and URDF file below it is tried, as
`gippo convert FILE` does it, strictly. A file is *no robot* if it is another kind of XML, a part
that others include, or has nothing that moves. What converts is compared with MuJoCo's reading of
the same file, without contact, limits, equalities and actuators on both sides: mass matrix, and
accelerations with all passive forces (springs, dampers, tendons, fluid, gravity), in 20 random
states, as the largest error over the largest entry. Written is a line for each file; printed is a
table, the reasons of refusals, and whatever is off by more than 1e-6 and 1e-5.
"""

from __future__ import annotations

import csv
import sys
import tempfile
import xml.etree.ElementTree as ET
from collections import Counter
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tests.kernels.articulation.control_steps import CONTROL_STEP, program
from tests.kernels.articulation.mujoco_reference import MujocoReference
from warp_envs.articulation.articulation import Articulation
from warp_envs.usd.conversion.convert import convert_robot
from warp_envs.usd.conversion.mujoco_model import import_mujoco
from warp_envs.usd.conversion.source import read_source
from warp_envs.usd.description import RobotDescription
from warp_envs.usd.loader import load_robot

MUJOCO = import_mujoco()
STATES = 20
MASS, ACCELERATION = 1e-6, 1e-5
NO_ROBOT = ("no body that moves", "at its top", "not a readable XML file")
UNREADABLE = "MuJoCo cannot read it"


@dataclass
class Row:
    """What became of a file; of what converts, degrees of freedom, and errors."""

    package: str
    path: str
    outcome: str
    said: str = ""
    nv: int = 0
    mass_error: float = 0.0
    acceleration_error: float = 0.0


def robot_files(folder: Path) -> list[Path]:
    """Every URDF, and every XML that says at its top that it is MuJoCo's."""
    found = [path for path in folder.rglob("*.xml") if _is_mujoco(path)]
    return sorted([*found, *folder.rglob("*.urdf")])


def _is_mujoco(path: Path) -> bool:
    try:
        return ET.parse(path).getroot().tag == "mujoco"
    except ET.ParseError:
        return "<mujoco" in path.read_text(errors="replace")


def examined(package: str, folder: Path, path: Path) -> Row:
    """Convert a file and compare it."""
    row = Row(package, str(path.relative_to(folder)), "converts")
    with tempfile.TemporaryDirectory() as work:
        usd = Path(work) / "robot.usda"
        try:
            convert_robot(path, usd)
        except ValueError as error:
            row.said = " ".join(str(error).split())
            row.outcome = "refused"
            if any(words in row.said for words in NO_ROBOT):
                row.outcome = "no robot"
            elif UNREADABLE in row.said:
                row.outcome = "unreadable"
            return row
        robot = load_robot(usd)
    row.nv = robot.nv
    row.mass_error, row.acceleration_error = errors(robot, read_source(path, floating=False).model)
    if row.mass_error > MASS or row.acceleration_error > ACCELERATION:
        row.outcome = "differs"
    return row


def errors(robot: RobotDescription, model: Any) -> tuple[float, float]:
    """Largest relative errors of the mass matrix and of the acceleration against MuJoCo's."""
    reference = MujocoReference.__new__(MujocoReference)
    flags = MUJOCO.mjtDisableBit
    model.opt.disableflags |= int(flags.mjDSBL_CONSTRAINT) | int(flags.mjDSBL_ACTUATION)
    assert (model.nq, model.nv) == (robot.nq, robot.nv)
    reference.description, reference.nv = robot, robot.nv
    reference.model, reference.data = model, MUJOCO.MjData(model)
    q, qd, force = _states(robot)
    robot = _unconstrained(robot, model)
    _, after = program(robot, STATES, torch.float64, 1, plain=True)(
        *map(torch.tensor, (q, qd, force))
    )
    accelerations = (after.numpy() - qd) / CONTROL_STEP
    masses = Articulation(robot, STATES, dtype=torch.float64).mass_matrix(torch.tensor(q)).numpy()
    worst = np.zeros(2)
    for k in range(STATES):
        reference.set_state(q[k], qd[k])
        passive = np.linalg.solve(reference.T.T, reference.data.qfrc_passive)
        wanted = reference.mass_matrix(), reference.acceleration(force[k] + passive)
        for i, (got, want) in enumerate(zip((masses[k], accelerations[k]), wanted, strict=True)):
            worst[i] = max(worst[i], np.abs(got - want).max() / np.abs(want).max())
    return float(worst[0]), float(worst[1])


def _states(robot: RobotDescription) -> list[np.ndarray]:
    """Coordinates, velocities and forces, random."""
    rng = np.random.default_rng(0)
    q, qd, force = (rng.normal(size=(STATES, n)) * s for n, s in
                    ((robot.nq, 0.5), (robot.nv, 1.0), (robot.nv, 5.0)))  # fmt: skip
    at = 0
    for body in robot.bodies:
        at += body.joint.nq
        if body.joint.kind in ("free", "spherical"):
            q[:, at - 4 : at] /= np.linalg.norm(q[:, at - 4 : at], axis=1, keepdims=True)
    return [q, qd, force]


def _unconstrained(robot: RobotDescription, model: Any) -> RobotDescription:
    """A robot without contact, limits and ties, which MuJoCo has as constraints."""
    ties = {MUJOCO.mj_id2name(model, MUJOCO.mjtObj.mjOBJ_EQUALITY, i) or f"equality_{i}"
            for i in range(model.neq)}  # fmt: skip
    bodies = tuple(
        replace(body, joint=replace(body.joint, lower=-np.inf, upper=np.inf))
        for body in robot.bodies
    )
    couplings, cords = (
        tuple(p for p in pulls if p.name not in ties and not p.name.endswith("_limit"))
        for pulls in (robot.couplings, robot.cords)
    )
    return replace(robot, bodies=bodies, couplings=couplings, cords=cords, contact=None)


def report(rows: list[Row]) -> None:
    """Print the table, reasons, and what differs."""
    console = Console(width=160)
    outcomes = ("converts", "differs", "refused", "unreadable", "no robot")
    table = Table("package", "files", *outcomes, "mass matrix", "acceleration")
    for package in dict.fromkeys(row.package for row in rows):
        own = [row for row in rows if row.package == package]
        counts = Counter(row.outcome for row in own)
        worst = [max((getattr(row, name) for row in own), default=0.0)
                 for name in ("mass_error", "acceleration_error")]  # fmt: skip
        table.add_row(package, str(len(own)), *(str(counts[o]) for o in outcomes),
                      *(f"{x:.0e}" for x in worst))  # fmt: skip
    console.print(table)
    for row in rows:
        if row.outcome == "differs":
            errors = f"{row.mass_error:.1e}, {row.acceleration_error:.1e}"
            console.print(f"DIFFERS {row.package} {row.path}: {errors}", soft_wrap=True)
        if row.outcome in ("refused", "unreadable"):
            console.print(f"{row.outcome} {row.package} {row.path}: {row.said}", soft_wrap=True)


def main(out: str, *folders: str) -> None:
    """Try all files of `folders`, each NAME=FOLDER."""
    named = [(package, Path(folder)) for package, _, folder in (f.partition("=") for f in folders)]
    rows = [examined(name, folder, path) for name, folder in named for path in robot_files(folder)]
    with Path(out).open("w", newline="") as file:
        writer = csv.DictWriter(file, list(asdict(rows[0])))
        writer.writeheader()
        writer.writerows(map(asdict, rows))
    report(rows)


if __name__ == "__main__":
    main(*sys.argv[1:])
