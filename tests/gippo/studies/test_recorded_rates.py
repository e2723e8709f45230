"""Recordings whose velocities are not those of their positions, by MuJoCo's free motion."""

from types import SimpleNamespace

import mujoco
import numpy as np
import pytest

from gippo.errors import UserError
from gippo.studies.recorded_rates import check_rates
from gippo.studies.recordings import Recording

TUMBLING = """
<mujoco><option timestep="0.0005" gravity="0 0 0"/><worldbody>
  <body name="base"><freejoint/><geom type="box" size=".1 .2 .3" pos=".05 0 .02" mass="1"/>
    <body pos=".2 0 0"><joint name="hinge" axis="0 1 0"/>
      <geom type="capsule" fromto="0 0 0 .3 0 0" size=".03" mass=".4"/></body>
  </body></worldbody></mujoco>"""
INTERVAL = 0.01


def joint(kind, nq, nv, com=(0.0, 0.0, 0.0)):
    return SimpleNamespace(
        com=np.array(com), joint=SimpleNamespace(name=kind, kind=kind, nq=nq, nv=nv)
    )


@pytest.fixture(scope="module")
def tumbling():
    """joint_q and joint_qd as MuJoCo has them, then as they are laid out here; the bodies."""
    model = mujoco.MjModel.from_xml_string(TUMBLING)
    data = mujoco.MjData(model)
    data.qvel[:] = 0.3, 0.1, -0.2, 1.0, 2.0, -1.5, 3.0
    theirs, ours = [], []
    com = model.body_ipos[1]
    for _ in range(200):
        q, qd = data.qpos.copy(), data.qvel.copy()
        theirs.append((q, qd))
        turn = np.zeros(9)
        mujoco.mju_quat2Mat(turn, q[3:7])
        turn = turn.reshape(3, 3)
        spin = turn @ qd[3:6]
        velocity = qd[:3] + np.cross(spin, turn @ com)
        ours.append((q[[0, 1, 2, 4, 5, 6, 3, 7]], np.r_[velocity, spin, qd[6:]]))
        mujoco.mj_step(model, data, 20)
    bodies = [joint("free", 7, 6, com), joint("revolute", 1, 1)]
    return [[np.array(part) for part in zip(*rows, strict=True)] for rows in (theirs, ours)], bodies


def check(q, qd, bodies, starts=None):
    recording = Recording(INTERVAL, q, qd, np.zeros((len(q), 0)), starts or (0, len(q)))
    check_rates(recording, bodies, "data: run.npz")


@pytest.mark.parametrize("noise", [0.0, 0.01])
def test_a_recording_as_it_should_be_is_taken(tumbling, noise):
    (_, (q, qd)), bodies = tumbling
    rng = np.random.default_rng(0)
    parts = [x + noise * x.std(axis=0) * rng.normal(size=x.shape) for x in (q, qd)]
    check(*parts, bodies)
    check(np.tile(parts[0], (2, 1)), np.tile(parts[1], (2, 1)), bodies, (0, 200, 400))
    check(np.repeat(q[:1], 50, axis=0), np.zeros((50, 7)), bodies)  # at rest
    angle = 0.3 + 0.01 * rng.normal(size=(50, 1))  # with an encoder's noise
    check(angle, np.zeros((50, 1)), [joint("revolute", 1, 1)])


def test_what_trembles_between_two_samples_is_taken():
    # a box on the ground: rates are those of an instant, in contact of a millisecond
    rng = np.random.default_rng(0)
    q = 1e-5 * rng.normal(size=(200, 1))
    qd = 1e-2 * rng.normal(size=(200, 1))
    check(q, qd, [joint("prismatic", 1, 1)])


def test_a_recording_that_is_laid_out_otherwise_is_refused(tumbling):
    (theirs, (q, qd)), bodies = tumbling
    degrees = np.column_stack([q[:, :7], np.degrees(q[:, 7])])
    spins = np.column_stack([qd[:, :3], theirs[1][:, 3:6], qd[:, 6:]])  # in the body's axes
    for name, said, given in (
        ("quaternions w, x, y, z", "positions of free", (theirs[0], qd)),
        ("degrees", r"positions of revolute that change by 57\.3 of", (degrees, qd)),
        ("a body's axes", "positions of free", (q, spins)),
        ("no quaternion", "free.q: quaternions 2 to 2 long", (2.0 * q, qd)),
        ("velocities of another joint", "of revolute that", (q, qd[:, [0, 1, 2, 3, 4, 5, 0]])),
    ):
        with pytest.raises(UserError, match=f"^data: run.npz: .*{said}"):
            check(*given, bodies)
            pytest.fail(name)


def test_angles_that_wrap_round_are_refused():
    time = INTERVAL * np.arange(300)
    q = 4.0 * np.sin(2.0 * time)[:, None]
    qd = 8.0 * np.cos(2.0 * time)[:, None]
    bodies = [joint("revolute", 1, 1)]
    check(q, qd, bodies)
    with pytest.raises(UserError, match=r"jumps by 6\.28 rad.*do not wrap round"):
        check((q + np.pi) % (2.0 * np.pi) - np.pi, qd, bodies)
    check(np.r_[q[:100], q[200:]], np.r_[qd[:100], qd[200:]], bodies, (0, 100, 200))
