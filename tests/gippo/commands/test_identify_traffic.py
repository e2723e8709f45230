"""`gippo identify env=traffic` on trajectories that SUMO simulated."""

import csv
from pathlib import Path

import numpy as np
import pytest
import yaml

from gippo.cli import main
from gippo.errors import UserError
from gippo.studies.calibration import (
    DriverWindows,
    Driving,
    calibrate,
    driver_parameters,
    split_windows,
)
from gippo.studies.trajectories import Stretch, read_trajectories, stretches
from warp_envs.traffic import TrafficSim, read_drivers
from warp_envs.traffic.models import default_numbers, find_model

NAMES = ("v0", "T", "a", "b", "s0")
AS_SUMO = {"driving": "sumo", "integrator": "semi_implicit"}
KEYS = ["env.driving=sumo", "env.integrator=semi_implicit", "env.dt=0.2", "env.emergency_decel=9"]


@pytest.fixture(scope="module")
def sumo():
    return dict(np.load(Path(__file__).parents[2] / "data" / "sumo_drivers.npz"))


def rows(sumo, vehicles=25, samples=601):
    """vehicle, sample, road, front [m], speed [m/s] and who is ahead, in the order of time."""
    names = sumo["vehicle"].tolist()
    for k in range(samples):
        for i in range(vehicles):
            ahead = names[i - 1] if i % 5 else ""
            yield names[i], k, i // 5, sumo["x"][i, k], sumo["speed"][i, k], ahead


def write_fcd(path, sumo, **size):
    """As SUMO's --fcd-output with --precision 6."""
    with path.open("w") as file:
        file.write('<?xml version="1.0" encoding="UTF-8"?>\n<!-- by SUMO -->\n<fcd-export>\n')
        before = -1
        for name, k, road, x, speed, _ in rows(sumo, **size):
            if k != before:
                end = "</timestep>" if before >= 0 else ""
                file.write(f'{end}<timestep time="{sumo["time"][k]:.2f}">')
                before = k
            file.write(
                f'<vehicle id="{name}" x="{x:.6f}" y="0.0" angle="90.0" type="car" '
                f'speed="{speed:.6f}" pos="{x:.6f}" lane="road{road}_0" slope="0.0"/>'
            )
        file.write("</timestep></fcd-export>\n")


def table(path, header, lines, delimiter=","):
    with path.open("w", newline="") as file:
        writer = csv.writer(file, delimiter=delimiter)
        if header:
            writer.writerow(header)
        writer.writerows(lines)


NGSIM = [
    "Vehicle_ID",
    "Frame_ID",
    "Total_Frames",
    "Global_Time",
    "Local_X",
    "Local_Y",
    "Global_X",
    "Global_Y",
    "v_Length",
    "v_Width",
    "v_Class",
    "v_Vel",
    "v_Acc",
    "Lane_ID",
    "Preceding",
    "Following",
    "Space_Headway",
    "Time_Headway",
]


def ngsim(sumo, **size):
    """Feet, milliseconds; numbers from 1 on, 0 for nobody."""
    number = {name: i + 1 for i, name in enumerate(sumo["vehicle"].tolist())}
    for name, k, road, x, speed, ahead in rows(sumo, **size):
        time = 1118846980200 + 200 * k
        yield [
            *(number[name], 2 * k, 601, time, 20.0, x / 0.3048, 0, 0, 5.0 / 0.3048, 6.0, 2),
            *(speed / 0.3048, 0.0, road + 1, number.get(ahead, 0), 0, 0.0, 0.0),
        ]


def highd(sumo, leftwards, **size):
    """The left edge of boxes; on roads of odd number they go leftwards. 25 frames a second."""
    number = {name: i + 1 for i, name in enumerate(sumo["vehicle"].tolist())}
    for name, k, road, x, speed, ahead in rows(sumo, **size):
        left = leftwards and road % 2 == 1
        edge, velocity = (400.0 - x, -speed) if left else (x - 5.0, speed)
        line = [5 * k + 1, number[name], edge, 8.0, 5.0, 2.0, velocity]
        yield [*line, number.get(ahead, 0), road + 2]


HIGHD = ["frame", "id", "x", "y", "width", "height", "xVelocity", "precedingId", "laneId"]


def write(kind, path, sumo, **size):
    if kind == "fcd.xml":
        write_fcd(path, sumo, **size)
    elif kind == "ngsim.csv":
        table(path, NGSIM, ngsim(sumo, **size))
    elif kind == "ngsim.txt":
        table(path, None, ngsim(sumo, **size), " ")
    elif kind == "01_tracks.csv":
        table(path, HIGHD, highd(sumo, True, **size))
    else:
        lines = ([f"{0.2 * k:.3f}", n, f"r_{r}", x, v] for n, k, r, x, v, _ in rows(sumo, **size))
        table(path, ["time", "vehicle", "lane", "x", "speed"], lines)


@pytest.mark.parametrize("kind", ["fcd.xml", "own.csv", "ngsim.csv", "ngsim.txt", "01_tracks.csv"])
def test_every_layout_tells_who_followed_whom_and_how(kind, sumo, tmp_path):
    write(kind, tmp_path / kind, sumo, vehicles=10, samples=40)
    found, interval, notes = stretches(read_trajectories(tmp_path / kind), 5.0)
    assert interval == pytest.approx(0.2) and not notes
    assert len(found) == 8
    of = {tuple(np.round(s.speed - s.speed[0], 4)): s for s in found}
    for i in (1, 2, 3, 4, 6, 7, 8, 9):
        x, speed = sumo["x"][:, :40], sumo["speed"][:, :40]
        stretch = of[tuple(np.round(speed[i] - speed[i][0], 4))]
        assert stretch.rear - stretch.x == pytest.approx(x[i - 1] - 5.0 - x[i], abs=2e-6)
        assert stretch.x - stretch.x[0] == pytest.approx(x[i] - x[i][0], abs=2e-6)
        assert stretch.leader_speed == pytest.approx(speed[i - 1], abs=2e-6)


def test_stretches_end_where_the_leader_or_the_lane_changes_or_samples_are_missing(tmp_path):
    lines = []
    for k in range(40):
        lane = "b" if k >= 30 else "a"
        lines.append([0.1 * k, "front", lane, 50.0 + k, 10.0])
        if 10 <= k < 20:
            lines.append([0.1 * k, "between", "a", 30.0 + k, 10.0])
        if k not in (5, 25):
            lines.append([0.1 * k, "rear", lane, 20.0 + k, 10.0])
    table(tmp_path / "cut.csv", ["time", "vehicle", "lane", "x", "speed"], lines)
    found, _, _ = stretches(read_trajectories(tmp_path / "cut.csv"), 5.0)
    spans = [(s.driver, round(s.start, 1), len(s.x)) for s in found]
    rear = [(0.0, 5), (0.6, 4), (1.0, 10), (2.0, 5), (2.6, 4), (3.0, 10)]
    assert spans == [("between", 1.0, 10), *(("rear", *span) for span in rear)]


def test_lengths_and_leaders_of_a_file_are_heeded(tmp_path):
    header = ["time", "vehicle", "lane", "x", "speed", "length", "leader"]
    lines = []
    for k in range(3):
        cars = (("truck", 60.0, 12.0, ""), ("van", 40.0, 6.0, ""), ("car", 20.0, 4.0, "truck"))
        lines += [[0.1 * k, name, 0, x, 10.0, size, ahead] for name, x, size, ahead in cars]
    table(tmp_path / "own.csv", header, lines)
    (only,), _, _ = stretches(read_trajectories(tmp_path / "own.csv"), 5.0)
    assert only.driver == "car" and only.rear - only.x == pytest.approx(28.0)


def test_the_command_finds_sumos_drivers(sumo, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_fcd(tmp_path / "fcd.xml", sumo)
    fast = ["starts=3", "iterations=30"]
    assert main(["identify", "env=traffic", "data=fcd.xml", f"fit=[{','.join(NAMES)}]",
                 *KEYS, *fast]) == 0  # fmt: skip
    said = capsys.readouterr().out
    assert "driver4.3" in said and "the gap is off by" in said
    told = yaml.safe_load((tmp_path / "fcd_drivers.yaml").read_text())
    drivers = [name for name in sumo["vehicle"].tolist() if name.startswith("driver")]
    assert told["drivers"] == drivers  # 20
    for name in NAMES:
        assert told["parameters"][name] == pytest.approx(sumo[f"true_{name}"], rel=0.02)
    numbers = read_drivers("fcd_drivers.yaml")
    assert TrafficSim(1, 1, 20, **numbers).parameters["delta"].unique().tolist() == [4.0]
    assert (tmp_path / "fcd_drivers.png").read_bytes().startswith(b"\x89PNG")


def follow(sumo, noise=0.0, seed=0, roads=(0, 4)):
    """Stretches of the drivers on some roads, with noise on their own motion."""
    rng = np.random.default_rng(seed)
    found = []
    for i in (5 * road + k for road in roads for k in range(1, 5)):
        x, speed = (
            sumo[name][i] + noise * rng.normal(size=len(sumo["time"])) for name in ("x", "speed")
        )
        name = str(sumo["vehicle"][i])
        found.append(Stretch(name, 0.0, x, speed, sumo["x"][i - 1] - 5.0, sumo["speed"][i - 1]))
    return found


def fit(found, names, given, shared=False, length=100, bounds=None, **keys):
    model = find_model("idm")
    numbers = {**default_numbers(model), "emergency_decel": 9.0, **given}
    driving = Driving(model, AS_SUMO, 0.2, numbers)
    split = split_windows(found, length, 0.2)
    groups = None if shared else split.drivers
    parts = [
        DriverWindows(found, 0.2, places, length, groups, driving, names)
        for places in (split.fitted, split.held_out)
    ]
    bounded = driver_parameters(model, numbers, names, bounds or {})
    keys = {"starts": 1, "iterations": 30, "seed": 0, **keys}
    return calibrate(*parts, groups or ["all"], bounded, **keys)


def test_standard_errors_are_those_of_noisy_trajectories(sumo):
    true = np.stack([sumo[f"true_{name}"] for name in NAMES], 1)[[0, 1, 2, 3, 16, 17, 18, 19]]
    scaled = []
    for seed in range(2):
        near = {"v0": 26.0, "T": 1.5, "a": 1.3, "b": 1.7, "s0": 3.0}
        found = fit(follow(sumo, 0.02, seed), NAMES, near, starts=3)
        scaled.append((found.values - true) / found.errors)
    assert np.abs(scaled).max() < 4.0  # of 80
    assert 0.7 < np.sqrt(np.mean(np.square(scaled))) < 1.3


def test_drivers_may_share_their_numbers(sumo):
    true = {name: sumo[f"true_{name}"][0] for name in NAMES}
    same = [s for s in follow(sumo) if s.driver == "driver0.0"]
    both = [*same, Stretch("twin", *[getattr(same[0], n) for n in list(vars(same[0]))[1:]])]
    found = fit(both, ["T", "a"], {n: true[n] for n in ("v0", "b", "s0")}, shared=True)
    assert found.drivers == ["all"]
    assert found.values[0] == pytest.approx([true["T"], true["a"]], rel=1e-4)
    apart = fit(both, ["T", "a"], {n: true[n] for n in ("v0", "b", "s0")})
    assert apart.drivers == ["driver0.0", "twin"]
    assert apart.values == pytest.approx(np.repeat(found.values, 2, axis=0), rel=1e-4)


def test_a_desired_speed_is_not_told_by_who_stands(sumo):
    standing = np.zeros(300)
    still = [Stretch("waits", 0.0, standing, standing, standing + 2.0, standing)]
    found = fit(still, ["v0", "T"], {"s0": 2.0}, length=50, iterations=3)
    assert np.isinf(found.errors).all()


MISTAKES = [
    (["fit=[T]"], "data: nothing given"),
    (["data=own.csv", "fit=[tau]"], "'tau' given, any of"),
    (["data=own.csv", "fit=[T,T]"], "twice"),
    (["data=own.csv", "fit=[T]", "env.modle=idm"], "did you mean 'model'"),
    (["data=own.csv", "fit=[T]", "env.model=idn"], "did you mean 'idm'"),
    (["data=own.csv", "fit=[T]", "env.a=-1"], "env.a: -1 given"),
    (["data=own.csv", "fit=[T]", "env.driving=fast"], "driving"),
    (["data=own.csv", "fit=[T]", "bounds.T=[2,3]"], "both sides"),
    (["data=own.csv", "fit=[T]", "num_epochs=3"], "num_epochs"),
    (["data=own.csv", "fit=[T]", "out=none.usda"], "a .yaml file accepted"),
    (["data=own.csv", "fit=[T]", "window=300"], "nobody has two windows"),
    (["data=none.csv", "fit=[T]"], "No such file"),
    (["data=run.npz", "fit=[T]"], "a .csv, .txt or .xml file accepted"),
    (["data=lacking.csv", "fit=[T]"], "columns: time, who given"),
    (["data=words.csv", "fit=[T]"], "row 1, vehicle a: x: 'near' given, a number accepted"),
    (["data=back.csv", "fit=[T]"], "vehicle a at 1 s: speed -1, a speed of at least 0 accepted"),
    (["data=twice.csv", "fit=[T]"], "vehicle a is there twice at 1 s"),
    (["data=own.csv", "fit=[T]", "bounds.T=[3,1]"], "[low, high], low < high"),
    (["data=ragged.csv", "fit=[T]"], "a line with fewer entries"),
    (["data=alone.csv", "fit=[T]"], "no vehicle that follows another"),
    (["data=net.xml", "fit=[T]"], "<fcd-export> accepted"),
    (["data=town.txt", "fit=[T]"], "the 18 of NGSIM's highways"),
]


@pytest.mark.parametrize(("arguments", "said"), MISTAKES)
def test_mistakes_are_one_line_and_nothing_is_written(
    arguments, said, sumo, tmp_path, capsys, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    write("own.csv", tmp_path / "own.csv", sumo, vehicles=3, samples=50)
    header = "time,vehicle,lane,x,speed\n"
    for name, text in (
        ("lacking.csv", "time,who\n0,1\n"),
        ("words.csv", header + "0,a,l,near,1\n1,a,l,2,1\n"),
        ("back.csv", header + "0,a,l,1,1\n1,a,l,2,-1\n"),
        ("twice.csv", header + "0,a,l,1,1\n1,a,l,2,1\n1,a,l,2,1\n"),
        ("ragged.csv", header + "0,a,l,3\n"),
        ("alone.csv", header + "0,a,l,1,1\n1,a,l,2,1\n"),
        ("net.xml", "<net/>"),
        ("town.txt", "1 2 3\n"),
    ):
        (tmp_path / name).write_text(text)
    before = {path.name for path in tmp_path.iterdir()}
    assert main(["identify", "env=traffic", *arguments]) == 2
    assert said in capsys.readouterr().err.strip().splitlines()[-1]
    assert {path.name for path in tmp_path.iterdir()} == before


def test_an_empty_recording_is_refused(tmp_path):
    (tmp_path / "fcd.xml").write_text("<fcd-export/>")
    with pytest.raises(UserError, match="no vehicle"):
        read_trajectories(tmp_path / "fcd.xml")
