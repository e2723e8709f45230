"""Masses, damping and armature of a Hopper held in the air, from what MuJoCo had it do."""

import numpy as np
import pytest
import torch

from gippo.studies.identification import Shooting, bounded_parameters, identify
from gippo.studies.identification_report import recorded_columns
from gippo.studies.recordings import read_recording
from tests.gippo.commands.held_hopper import GUESS, TRUE, mjcf, noisy, record
from warp_envs import make
from warp_envs.usd.conversion.convert import convert_robot


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """What is identified in the motion, and in the same with noise."""
    folder = tmp_path_factory.mktemp("hopper")
    (folder / "hopper.xml").write_text(mjcf(GUESS))
    convert_robot(folder / "hopper.xml", folder / "hopper.usda")
    options = {"asset": str(folder / "hopper.usda"), "parameters": list(TRUE), "max_speed": None}
    columns = recorded_columns(make("robot", num_envs=1, **options))
    arrays = record()

    def fitted(arrays):
        np.savez(folder / "run.npz", **arrays)
        recording = read_recording(folder / "run.npz", columns)
        first = recording.windows(10)
        parts = [
            Shooting(
                make(
                    "robot", num_envs=len(rows), dtype=torch.float64, substeps=64,
                    control_step=recording.interval, **options,
                ),
                recording, rows, 10, 1, 1,
            )
            for rows in (first[:-3], first[-3:])
        ]  # fmt: skip
        return identify(*parts, bounded_parameters(parts[0].env, {}), iterations=20)

    return fitted(arrays), [fitted(noisy(arrays, seed)) for seed in (0, 1)]


def test_all_nine_numbers_are_within_one_percent(found):
    exact, _ = found
    assert {item.name for item in exact.fitted} == set(TRUE)
    for item in exact.fitted:
        assert item.value == pytest.approx(TRUE[item.name], rel=0.01)
    assert exact.after < 0.05 * exact.before


def test_with_noise_they_are_within_three_standard_errors(found):
    _, with_noise = found
    scaled = np.array(
        [[float((f.value - TRUE[f.name]) / f.error) for f in one.fitted] for one in with_noise]
    )
    assert np.abs(scaled).max() < 3.0
    assert 0.5 < np.sqrt(np.mean(np.square(scaled))) < 1.5
