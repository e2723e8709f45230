"""Terms of the reward and forces of the ground, as a page gets them; several rollouts on a page."""

import shutil
import subprocess
from importlib.resources import files

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from pxr import Gf, Sdf, Usd, Vt

import warp_envs
from tests.warp_envs.recording.recorded import Cars, Puppet, nested, world_matrix
from tests.warp_envs.recording.test_recorder import record
from tests.warp_envs.viewing.pages import read_page
from warp_envs.checks import ArgumentError
from warp_envs.viewing.page import MOST_RECORDINGS, SCRIPTS, write_page
from warp_envs.viewing.playback import read_playback

STEPS = 60


@pytest.fixture(scope="module")
def ants(tmp_path_factory):
    """A recording of two Ants that fall to the ground."""
    path = tmp_path_factory.mktemp("told") / "ants.usdc"
    env = warp_envs.make("ant", num_envs=2)
    env.reset(seed=0)
    with torch.no_grad():
        record(env, path, steps=STEPS)
    return path


@pytest.fixture
def edited(ants, tmp_path):
    """Changes attributes of the first environment; returns what is read then."""

    def edit(change):
        shutil.copy(ants, tmp_path / "edited.usdc")
        stage = Usd.Stage.Open(str(tmp_path / "edited.usdc"))
        change(stage.GetPrimAtPath("/World/envs/env_0"))
        stage.Save()
        return read_playback(tmp_path / "edited.usdc")

    return edit


def test_the_page_gets_every_term_and_force_where_the_file_has_it(ants, tmp_path):
    assert write_page(ants, tmp_path / "out.html") == []
    page = read_page(tmp_path / "out.html")
    (scene,) = page.rollouts
    stage = Usd.Stage.Open(str(ants))
    prims = [stage.GetPrimAtPath(f"/World/envs/env_{k}") for k in range(2)]
    names = list(prims[0].GetAttribute("gippo:rewardTermNames").Get())
    assert list(scene["terms"]) == names
    contacts = scene["contacts"]
    count = len(contacts["envs"])
    forces, points = (
        page.block(contacts[name], 3, count, STEPS + 1) for name in ("forces", "points")
    )
    assert np.abs(forces).max() > 100.0
    for env, prim in enumerate(prims):
        offset = world_matrix(stage, str(prim.GetPath()), 0)[3, :3]
        chosen = np.array(contacts["envs"]) == env
        bodies = list(prim.GetAttribute("gippo:contactBodies").Get())
        assert [b for b, is_its in zip(contacts["bodies"], chosen, strict=True) if is_its] == bodies
        for k in (0, 30, STEPS):
            told = prim.GetAttribute("gippo:rewardTerms").Get(k)
            for name, value in zip(names, told, strict=True):
                assert page.block(scene["terms"][name], 2, STEPS + 1)[env, k] == value
            wanted = np.array(prim.GetAttribute("gippo:contactForces").Get(k))
            assert_allclose(forces[:, chosen, k].T, wanted)
            wanted = np.array(prim.GetAttribute("gippo:contactPoints").Get(k)) + offset
            assert_allclose(points[:, chosen, k].T, wanted, atol=1e-5)
    assert contacts["weight"] == pytest.approx(1787.15, abs=0.1)
    assert contacts["length"] == 0.5  # of a robot between one and two metres across


def test_recordings_without_them_have_none_and_nothing_is_said(tmp_path):
    """As those of earlier releases."""
    (tmp_path / "puppet.usda").write_text(nested())
    record(Puppet(tmp_path / "puppet.usda"), tmp_path / "out.usdc")
    playback = read_playback(tmp_path / "out.usdc")
    assert (playback.terms, playback.contacts, playback.problems) == ({}, None, [])
    assert write_page(tmp_path / "out.usdc", tmp_path / "out.html") == []
    (scene,) = read_page(tmp_path / "out.html").rollouts
    assert scene["terms"] == {} and scene["contacts"] is None
    assert set(scene["signals"]) == {"reward", "return"}


def samples(name, type_name, value):
    """Another value of an attribute in frame 3, or another attribute of that name."""

    def change(prim):
        if prim.GetAttribute(name).GetTypeName() != type_name:
            prim.RemoveProperty(name)
        prim.CreateAttribute(name, type_name).Set(value, 3)

    return change


def default(name, value):
    return lambda prim: prim.GetAttribute(name).Set(value)


FLOATS, VECTORS = Sdf.ValueTypeNames.FloatArray, Sdf.ValueTypeNames.Float3Array
BAD_TERMS = {
    "one too few": samples("gippo:rewardTerms", FLOATS, Vt.FloatArray([1.0])),
    "not finite": samples("gippo:rewardTerms", FLOATS, Vt.FloatArray([1.0, np.nan, 0.0, 0.0])),
    "words": samples("gippo:rewardTerms", Sdf.ValueTypeNames.String, "many"),
    "vectors": samples("gippo:rewardTerms", VECTORS, Vt.Vec3fArray([Gf.Vec3f(1)] * 4)),
    "one name twice": default("gippo:rewardTermNames", Vt.TokenArray(list("aabc"))),
    "names of another": default("gippo:rewardTermNames", Vt.TokenArray(list("abcd"))),
    "no names": lambda prim: prim.RemoveProperty("gippo:rewardTermNames"),
}
BAD_FORCES = {
    "one too few": samples("gippo:contactForces", VECTORS, Vt.Vec3fArray([Gf.Vec3f(1)])),
    "endless": samples("gippo:contactPoints", VECTORS, Vt.Vec3fArray([Gf.Vec3f(0, np.inf, 0)] * 4)),
    "numbers": samples("gippo:contactForces", FLOATS, Vt.FloatArray([1.0] * 4)),
    "no points": lambda prim: prim.RemoveProperty("gippo:contactPoints"),
    "no bodies": lambda prim: prim.RemoveProperty("gippo:contactBodies"),
    "no weight": lambda prim: prim.RemoveProperty("gippo:weight"),
    "a weight of nothing": default("gippo:weight", 0.0),
    "a weight that is none": default("gippo:weight", float("nan")),
}


@pytest.mark.parametrize("name", BAD_TERMS)
def test_terms_that_cannot_be_read_are_told_of(name, edited):
    playback = edited(BAD_TERMS[name])
    assert playback.terms == {} and playback.signals
    (said,) = playback.problems
    assert said.startswith("/World/envs/env_") and "gippo:rewardTerm" in said


@pytest.mark.parametrize("name", BAD_FORCES)
def test_forces_that_cannot_be_read_are_told_of_and_others_shown(name, edited):
    playback = edited(BAD_FORCES[name])
    assert playback.contacts is not None and set(playback.contacts.envs) == {1}
    (said,) = playback.problems
    assert said.startswith("/World/envs/env_0: gippo:")


def test_no_more_numbers_than_a_page_may_hold(ants):
    playback = read_playback(ants, share=1e-3)  # 4,000 poses for 18 movers: 222 frames
    assert playback.poses.shape[0] == STEPS + 1
    assert read_playback(ants, share=3e-4).problems  # every other frame


# Several rollouts -------------------------------------------------------------------------------


def test_rollouts_side_by_side(ants, tmp_path):
    record(Cars(num_vehicles=3), tmp_path / "cars.usdc", steps=5)
    write_page(ants, tmp_path / "one.html")
    write_page(tmp_path / "cars.usdc", tmp_path / "cars.html")
    paths, titles = [ants, tmp_path / "cars.usdc", ants], ["runs/a", "</script>", "runs/c"]
    assert write_page(paths, tmp_path / "out.html", titles) == []
    one, alone, page = (read_page(tmp_path / f"{name}.html") for name in ("one", "cars", "out"))
    assert [scene["title"] for scene in page.rollouts] == titles
    assert [scene["frames"] for scene in page.rollouts] == [STEPS + 1, 6, STEPS + 1]
    first, cars, third = page.rollouts
    assert {**first, "title": ""} == {**third, "title": ""}  # its numbers lie there once
    assert len(page.numbers) <= len(one.numbers) + len(alone.numbers)
    count = one.rollouts[0]["poses"]["count"]
    assert_allclose(page.block(first["poses"], count), one.block(one.rollouts[0]["poses"], count))
    assert cars["contacts"] is None and cars["fps"] == pytest.approx(10.0)


def test_what_is_not_shown_is_told_with_its_rollout(tmp_path):
    head = '#usda 1.0\n(\n metersPerUnit = 1\n upAxis = "Z"\n)\n'
    (tmp_path / "good.usda").write_text(head + 'def Sphere "ball" {}\n')
    (tmp_path / "bad.usda").write_text(head + 'def Sphere "ball" { double radius = nan; }\n')
    paths = [tmp_path / "good.usda", tmp_path / "bad.usda"]
    assert write_page(paths, tmp_path / "out.html") == ["bad.usda: /ball: radius = nan"]
    assert len(read_page(tmp_path / "out.html").rollouts) == 2


def test_none_or_too_many_are_refused(ants, tmp_path):
    for count in (0, MOST_RECORDINGS + 1):
        with pytest.raises(ArgumentError, match=f"{count} given, 1 to {MOST_RECORDINGS} on a page"):
            write_page([ants] * count, tmp_path / "out.html")
    with pytest.raises(ArgumentError, match="title: 1 titles given, 2 accepted"):
        write_page([ants] * 2, tmp_path / "out.html", ["one"])
    with pytest.raises(ValueError, match=r"nowhere\.usdc"):
        write_page([ants, tmp_path / "nowhere.usdc"], tmp_path / "out.html")
    assert not (tmp_path / "out.html").exists()


def test_the_script_is_one_that_can_be_read(tmp_path):
    node = shutil.which("node")
    if node is None:
        pytest.skip("no node")
    web = files("warp_envs.viewing") / "web"
    script = "\n".join((web / name).read_text(encoding="utf-8") for name in SCRIPTS)
    (tmp_path / "page.mjs").write_text(script, encoding="utf-8")
    done = subprocess.run([node, "--check", "page.mjs"], cwd=tmp_path, capture_output=True)
    assert done.returncode == 0, done.stderr.decode()
