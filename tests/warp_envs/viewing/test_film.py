"""Films of recordings."""

from itertools import pairwise

import numpy as np
import pytest
from PIL import Image, ImageSequence

import warp_envs
from warp_envs import RolloutRecorder
from warp_envs.checks import ArgumentError
from warp_envs.viewing.film import render_film


@pytest.fixture(scope="module")
def recording(tmp_path_factory):
    path = tmp_path_factory.mktemp("film") / "rollout.usda"
    env = warp_envs.make("cartpole", num_envs=1)
    env.reset(seed=0)
    with RolloutRecorder(env, path) as recorder:
        for _ in range(9):
            actions = 0.0 * env.observe()[:, :1].detach() + 1.0
            recorder.step(actions)
    return path


def test_a_gif_shows_the_motion_in_its_own_time(recording, tmp_path):
    out = tmp_path / "film.gif"
    assert render_film(recording, out, fps=20.0) == []
    with Image.open(out) as film:
        frames = [np.asarray(f.convert("RGB"), float) for f in ImageSequence.Iterator(film)]
        assert film.size == (576, 324) and film.info["duration"] == 50  # every third of 1/60 s
    assert len(frames) == 4
    assert all(np.abs(a - b).max() > 50.0 for a, b in pairwise(frames))


def test_an_mp4_has_as_many_frames(recording, tmp_path):
    ffmpeg = pytest.importorskip("imageio_ffmpeg", reason="pip install 'gippo[video]' brings it")
    render_film(recording, tmp_path / "film.mp4", fps=20.0)
    count, seconds = ffmpeg.count_frames_and_secs(str(tmp_path / "film.mp4"))
    assert count == 4 and seconds == pytest.approx(0.2, abs=0.02)


def test_other_endings_are_refused(recording, tmp_path):
    with pytest.raises(ArgumentError, match=r"\.gif"):
        render_film(recording, tmp_path / "film.avi")
    assert not list(tmp_path.iterdir())
