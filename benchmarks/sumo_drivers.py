"""Record twenty drivers of SUMO's IDM, each with numbers of its own, for `gippo identify`.

    python benchmarks/sumo_drivers.py tests/data/sumo_drivers.npz [fcd.xml]

It needs eclipse-sumo and libsumo (`pip install eclipse-sumo libsumo numpy`). On each of five roads
a car whose speed is prescribed leads four drivers for two minutes: it cruises faster than any of
them wants to go, brakes, follows in stop and go, stands and starts. Roads have one lane, as SUMO's
drivers also brake for changes of lane that they do not make. Written are positions (front bumpers)
and speeds as in SUMO's own FCD output, six decimals, and the drivers' numbers; the FCD output
itself where a second file is named.
"""

import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ET
from pathlib import Path

import libsumo  # pyright: ignore[reportMissingImports]
import numpy as np

STEP, DURATION = 0.2, 120.0  # [s]
ROADS, FOLLOWERS = 5, 4
RANGES = {"v0": (22.0, 30.0), "T": (0.8, 2.0), "a": (0.8, 2.0), "b": (1.0, 2.5), "s0": (1.5, 4.0)}
SUMO_NAMES = {"v0": "maxSpeed", "T": "tau", "a": "accel", "b": "decel", "s0": "minGap"}
FIXED = 'carFollowModel="IDM" length="5" delta="4" emergencyDecel="9" speedFactor="1" speedDev="0"'
HOLDS = [(33.0, 25.0), (8.0, 8.0), (20.0, 10.0), (0.0, 8.0), (5.0, 10.0), (28.0, 12.0), (15.0, 8.0)]
"""Speeds [m/s] the leader goes to and then holds [s]; each road begins with another one."""


def main() -> None:
    target = Path(sys.argv[1])
    rng = np.random.default_rng(0)
    true = {name: rng.uniform(*ends, (ROADS, FOLLOWERS)) for name, ends in RANGES.items()}
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        fcd = Path(sys.argv[2]) if len(sys.argv) > 2 else folder / "fcd.xml"
        write_road(folder)
        (folder / "drivers.rou.xml").write_text(routes(true))
        drive(folder, fcd)
        write(target, fcd, true)


def write_road(folder: Path) -> None:
    (folder / "nod.xml").write_text(
        "<nodes>"
        + "".join(
            f'<node id="{end}{k}" x="{x}" y="{50 * k}"/>'
            for k in range(ROADS)
            for end, x in (("from", 0), ("to", 6000))
        )
        + "</nodes>"
    )
    (folder / "edg.xml").write_text(
        "<edges>"
        + "".join(
            f'<edge id="road{k}" from="from{k}" to="to{k}" numLanes="1" speed="50"/>'
            for k in range(ROADS)
        )
        + "</edges>"
    )
    files = [f"--node-files={folder / 'nod.xml'}", f"--edge-files={folder / 'edg.xml'}"]
    files.append(f"--output-file={folder / 'net.xml'}")
    subprocess.run(["netconvert", *files, "--no-warnings"], check=True)


def routes(true: dict[str, np.ndarray]) -> str:
    """Types, and vehicles that stand 8 m behind each other at first."""
    lines = [f'<vType id="leader" {FIXED} accel="3" decel="4.5" maxSpeed="40"/>']
    for road in range(ROADS):
        for k in range(FOLLOWERS):
            numbers = " ".join(
                f'{SUMO_NAMES[n]}="{values[road, k]:.6f}"' for n, values in true.items()
            )
            lines.append(f'<vType id="driver{road}.{k}" {FIXED} {numbers}/>')
    lines += [f'<route id="road{k}" edges="road{k}"/>' for k in range(ROADS)]
    for road in range(ROADS):
        names = [f"leader{road}", *(f"driver{road}.{k}" for k in range(FOLLOWERS))]
        for k, name in enumerate(names):
            kind = "leader" if k == 0 else name
            lines.append(
                f'<vehicle id="{name}" type="{kind}" route="road{road}" depart="0" '
                f'departPos="{60 - 13 * k}" departSpeed="0" insertionChecks="none"/>'
            )
    return f"<routes>{''.join(lines)}</routes>\n"


def drive(folder: Path, fcd: Path) -> None:
    """Prescribe the leaders' speeds, with 2 m/s^2 up and 2.5 m/s^2 down."""
    options = ["--net-file", str(folder / "net.xml"), "--route-files"]
    options += [str(folder / "drivers.rou.xml"), "--step-length", str(STEP), "--precision", "6"]
    options += ["--fcd-output", str(fcd), "--no-step-log", "--no-warnings"]
    libsumo.start(["sumo", *options])
    speed, held, at = np.zeros(ROADS), np.zeros(ROADS), np.arange(ROADS)
    for step in range(round(DURATION / STEP) + 1):
        libsumo.simulationStep()
        if step == 0:
            for road in range(ROADS):
                libsumo.vehicle.setSpeedMode(f"leader{road}", 0)
        for road in range(ROADS):
            goal, hold = HOLDS[at[road] % len(HOLDS)]
            speed[road] += np.clip(goal - speed[road], -2.5 * STEP, 2.0 * STEP)
            if speed[road] == goal:
                held[road] += STEP
            if held[road] >= hold:
                held[road], at[road] = 0.0, at[road] + 1
            libsumo.vehicle.setSpeed(f"leader{road}", speed[road])
    libsumo.close()


def write(target: Path, fcd: Path, true: dict[str, np.ndarray]) -> None:
    """What SUMO wrote, as arrays [vehicle, time], leaders before their drivers."""
    steps = ET.parse(fcd).getroot().findall("timestep")
    found: dict[str, list[list[float]]] = {v.attrib["id"]: [] for v in steps[-1]}
    for step in steps:
        for vehicle in step:
            row = [float(vehicle.attrib[name]) for name in ("pos", "speed")]
            found[vehicle.attrib["id"]].append([float(step.attrib["time"]), *row])
    names = [
        name
        for road in range(ROADS)
        for name in (f"leader{road}", *(f"driver{road}.{k}" for k in range(FOLLOWERS)))
    ]
    arrays = np.array([found[name] for name in names])
    numbers = {f"true_{name}": np.round(values, 6).ravel() for name, values in true.items()}
    np.savez_compressed(
        target, allow_pickle=False, vehicle=np.array(names), time=arrays[0, :, 0],
        x=arrays[:, :, 1], speed=arrays[:, :, 2], length=np.array(5.0), **numbers,
    )  # fmt: skip


if __name__ == "__main__":
    main()
