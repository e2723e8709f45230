"""`gippo identify` on motions that MuJoCo simulated."""

import csv
from types import SimpleNamespace

import mujoco
import numpy as np
import pytest
import torch

from gippo.cli import main
from gippo.studies.identification import Shooting, bounded_parameters, identify
from gippo.studies.identification_report import off_the_recording, recorded_columns
from gippo.studies.recordings import read_recording
from warp_envs import Articulation, make
from warp_envs.usd.conversion.convert import convert_robot
from warp_envs.usd.loader import load_robot

ARM = """
<mujoco><option timestep="0.001" integrator="RK4"/><worldbody>
  <body name="upper"><joint name="shoulder" axis="0 1 0" damping="{shoulder}" armature="0.02"/>
    <geom type="capsule" fromto="0 0 0 0 0 -0.5" size="0.04" mass="1.5"/>
    <body name="lower" pos="0 0 -0.5"><joint name="elbow" axis="0 1 0" armature="{elbow}"/>
      <geom type="capsule" fromto="0 0 0 0 0 -0.4" size="0.03" mass="1"/>
      <body name="payload" pos="0 0 -0.4"><geom type="sphere" size="0.05" mass="{payload}"/></body>
    </body></body></worldbody>
  <actuator><motor joint="shoulder"/><motor joint="elbow"/></actuator></mujoco>"""
TRUE = {"shoulder": 0.35, "elbow": 0.015, "payload": 0.8}
GUESS = {"shoulder": 0.1, "elbow": 0.03, "payload": 0.4}
NAMES = {"shoulder.damping": "shoulder", "elbow.armature": "elbow", "payload.mass": "payload"}
INTERVAL, SAMPLES = 0.01, 121


@pytest.fixture(scope="module")
def arm(tmp_path_factory):
    """The robot's file with other numbers, and what MuJoCo's moved like."""
    folder = tmp_path_factory.mktemp("arm")
    (folder / "arm.xml").write_text(ARM.format(**GUESS))
    convert_robot(folder / "arm.xml", folder / "arm.usda")
    model = mujoco.MjModel.from_xml_string(ARM.format(**TRUE))
    data = mujoco.MjData(model)
    data.qpos[:] = 0.5, -0.8
    rows = {"time": [], "joint_q": [], "joint_qd": [], "action": []}
    for k in range(SAMPLES):
        time = k * INTERVAL
        data.ctrl[:] = 4.0 * np.sin(9.0 * time + 1.0), 2.0 * np.cos(14.0 * time)
        for name, value in (("time", time), ("joint_q", data.qpos), ("joint_qd", data.qvel)):
            rows[name].append(np.copy(value))
        rows["action"].append(data.ctrl.copy())
        mujoco.mj_step(model, data, round(INTERVAL / model.opt.timestep))
    arrays = {name: np.array(values) for name, values in rows.items()}
    np.savez(folder / "run.npz", **arrays)
    return folder, arrays


def options(folder, **more):
    return {"asset": str(folder / "arm.usda"), "parameters": list(NAMES), "max_speed": None, **more}


def shot(folder, recording, starts=2, length=8, steps=1):
    """Windows to fit and one to judge, of simulations with 32 substeps."""
    first = recording.windows(length)
    parts = ((first[:-1], starts), (first[-1:], 1))
    given = options(folder, control_step=recording.interval / steps, substeps=32)
    return [
        Shooting(
            make("robot", num_envs=len(rows) * count, dtype=torch.float64, **given),
            recording, rows, length, steps, count,
        )
        for rows, count in parts
    ]  # fmt: skip


def columns_of(folder):
    return recorded_columns(make("robot", num_envs=1, **options(folder)))


def test_numbers_of_an_arm_are_recovered_from_mujocos_motion(arm):
    folder, _ = arm
    recording = read_recording(folder / "run.npz", columns_of(folder))
    fitted_to, held_out = shot(folder, recording)
    found = identify(fitted_to, held_out, bounded_parameters(fitted_to.env, {}))
    for item in found.fitted:
        assert item.value == pytest.approx(TRUE[NAMES[item.name]], rel=0.01)
    assert found.after < 0.02 * found.before
    assert found.losses[0] == pytest.approx(found.losses[1], rel=1e-3)  # whence it started


def test_standard_errors_are_those_of_noisy_recordings(arm):
    folder, arrays = arm
    scaled = []
    for seed in range(3):
        rng = np.random.default_rng(seed)
        noisy = dict(arrays)
        for name in ("joint_q", "joint_qd"):
            spread = 0.01 * arrays[name].std(axis=0)
            noisy[name] = arrays[name] + spread * rng.normal(size=arrays[name].shape)
        np.savez(folder / "noisy.npz", **noisy)
        recording = read_recording(folder / "noisy.npz", columns_of(folder))
        fitted_to, held_out = shot(folder, recording, starts=1)
        found = identify(fitted_to, held_out, bounded_parameters(fitted_to.env, {}))
        scaled += [(f.value - TRUE[NAMES[f.name]]) / f.error for f in found.fitted]
    assert np.abs(scaled).max() < 3.5
    assert 0.3 < np.sqrt(np.mean(np.square(scaled))) < 2.0  # of nine, about one


def test_what_a_motion_does_not_tell_has_no_finite_error(arm):
    folder, arrays = arm
    still = {**arrays, "joint_q": 0.0 * arrays["joint_q"], "joint_qd": 0.0 * arrays["joint_qd"]}
    np.savez(folder / "still.npz", **{**still, "action": 0.0 * arrays["action"]})
    recording = read_recording(folder / "still.npz", columns_of(folder))
    fitted_to, held_out = shot(folder, recording)
    found = identify(fitted_to, held_out, bounded_parameters(fitted_to.env, {}), iterations=3)
    assert all(np.isinf(item.error) for item in found.fitted)
    for item in found.fitted:  # and stays as the file has it, wherever a start was
        assert item.value == pytest.approx(GUESS[NAMES[item.name]], rel=1e-6)


def test_coordinates_that_move_otherwise_than_recorded_are_told():
    rng = np.random.default_rng(0)
    measured = rng.normal(size=(5, 11, 4))
    shooting = SimpleNamespace(
        num_positions=2, measured=torch.tensor(measured), spread=torch.ones(1, 4)
    )
    simulated = measured[..., :2].copy()
    simulated[..., 1] += 0.01 * rng.normal(size=(5, 11))
    found = SimpleNamespace(simulated=simulated)
    assert off_the_recording(shooting, ["a.q", "b.q"], found) == []
    simulated[..., 1] += 0.5
    (note,) = off_the_recording(shooting, ["a.q", "b.q"], found)
    assert "off the recording: b.q by 0.5 of what it varies; something" in note


def test_the_command_writes_the_robot_it_found(arm, capsys, monkeypatch):
    folder, arrays = arm
    monkeypatch.chdir(folder)
    names = [name for part in columns_of(folder).values() for name in part]
    rows = np.column_stack([arrays["joint_q"], arrays["joint_qd"], arrays["action"]])
    with open("run.csv", "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["time", *names])
        writer.writerows(np.column_stack([arrays["time"], rows]).tolist())
    fit = f"fit=[{','.join(NAMES)}]"
    arguments = ["env=robot", "env.asset=arm.usda", "data=run.csv", fit, "starts=1", "window=8"]
    fast = ["env.substeps=16", "env.control_step=0.005", "iterations=20"]
    assert main(["identify", *arguments, *fast, "bounds.payload.mass=[0.1,3]"]) == 0
    said = capsys.readouterr().out
    assert "payload.mass" in said and "held-out windows: error" in said
    found = {body.name: body for body in load_robot(folder / "arm_identified.usda").bodies}
    assert found["payload"].mass == pytest.approx(0.8, rel=0.02)
    assert found["upper"].joint.damping == pytest.approx(0.35, rel=0.02)
    assert found["lower"].joint.armature == pytest.approx(0.015, rel=0.02)
    sphere = 0.4 * found["payload"].mass * 0.05**2
    assert found["payload"].inertia[0, 0] == pytest.approx(sphere, rel=1e-3)
    before = {body.name: body for body in load_robot(folder / "arm.usda").bodies}
    assert found["lower"].mass == before["lower"].mass
    assert Articulation.from_usd(folder / "arm_identified.usda", 1).nv == 2
    assert (folder / "arm_identified.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["fit=[payload.mass]"], "data: nothing given, a recording, as data=run.npz, accepted"),
        (["data=run.npz"], "fit: nothing given, names of what is sought"),
        (["data=none.npz", "fit=[payload.mass]"], "No such file"),
        (["data=run.npz", "fit=[payload.mas]"], "fit: 'payload.mas' given"),
        (["data=run.npz", "fit=[payload.mass]", "window=200"], "two windows at least"),
        (["data=run.npz", "fit=[payload.mass]", "bounds.payload.mass=[1,3]"], "ends on both sides"),
        (["data=run.npz", "fit=[payload.mass]", "bounds.lower.mass=[1,3]"], "any of"),
        (["data=uneven.npz", "fit=[payload.mass]"], "even ones accepted"),
        (["data=short.npz", "fit=[payload.mass]"], "joint_qd (121, 1), (121, 2) accepted"),
        (["data=lacking.npz", "fit=[payload.mass]"], "no array 'action'"),
        (["data=nan.npz", "fit=[payload.mass]"], "joint_q has numbers that are not finite"),
        (["data=lacking.csv", "fit=[payload.mass]"], "0 columns 'elbow.q'"),
        (["data=arm.xml", "fit=[payload.mass]"], "a .npz or .csv file accepted"),
        (["data=run.npz", "fit=[payload.mass]", "held_out=1"], "held_out"),
        (["data=run.npz", "fit=[payload.mass]", "num_epochs=3"], "num_epochs: no key of gippo id"),
    ],
)
def test_mistakes_are_one_line_and_nothing_is_written(arm, arguments, said, capsys, monkeypatch):
    folder, arrays = arm
    monkeypatch.chdir(folder)
    np.savez("uneven.npz", **{**arrays, "time": arrays["time"] ** 2})
    np.savez("short.npz", **{**arrays, "joint_qd": arrays["joint_qd"][:, :1]})
    np.savez("lacking.npz", **{name: arrays[name] for name in ("time", "joint_q", "joint_qd")})
    spoiled = arrays["joint_q"].copy()
    spoiled[3] = np.nan
    np.savez("nan.npz", **{**arrays, "joint_q": spoiled})
    (folder / "lacking.csv").write_text("time,shoulder.q\n0,0\n")
    where = ["env=robot", "env.asset=arm.usda", "out=none.usda"]
    assert main(["identify", *where, *arguments]) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert said in error
    assert not (folder / "none.usda").exists()
