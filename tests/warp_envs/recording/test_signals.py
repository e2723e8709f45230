"""What a recording tells beside the motion: the reward's terms and the ground's forces."""

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose

import warp_envs
from tests.warp_envs.recording.recorded import Cars, findings, stage_of, world_matrix
from tests.warp_envs.recording.test_recorder import record
from warp_envs.checks import ArgumentError
from warp_envs.recording.recorder import DETAILED, RolloutRecorder

STEPS = 70  # more than a block


class Graded(Cars):
    """Cars with a reward of two terms, the second of which is not a number at times."""

    reward_terms = ("fast", "safe")

    def step(self, actions):
        result = super().step(actions)
        ones = torch.ones(self.num_envs)
        terms = {"safe": ones * (np.nan if self.frame == 2 else -self.frame), "fast": 3.0 * ones}
        return *result[:4], {"reward_terms": terms}


@pytest.fixture(scope="module")
def played(tmp_path_factory):
    """Two Ants: the file, and by frame the terms, the forces and the poses."""
    path = tmp_path_factory.mktemp("ant") / "out.usdc"
    env = warp_envs.make("ant", num_envs=2)
    env.reset(seed=0)
    terms, forces = [torch.zeros(2, len(env.reward_terms))], [env.contact_states()]
    with torch.no_grad(), RolloutRecorder(env, path) as recorder:
        for _ in range(STEPS):
            info = recorder.step(torch.zeros(2, env.num_actions))[4]
            terms.append(torch.stack(list(info["reward_terms"].values()), dim=1))
            forces.append(env.contact_states())
        contacts = env.ground_contacts.at(torch.cat(forces)).reshape(STEPS + 1, 2, -1, 6)
    return path, env, torch.stack(terms), contacts


def test_terms_are_the_rewards(played):
    path, env, terms, _ = played
    stage = stage_of(path)
    for number in range(2):
        prim = stage.GetPrimAtPath(f"/World/envs/env_{number}")
        assert tuple(prim.GetAttribute("gippo:rewardTermNames").Get()) == env.reward_terms
        found = [prim.GetAttribute("gippo:rewardTerms").Get(k) for k in range(STEPS + 1)]
        assert_allclose(found, terms[:, number], rtol=1e-6)
        rewards = [prim.GetAttribute("gippo:reward").Get(k) for k in range(STEPS + 1)]
        assert_allclose(np.sum(found, axis=1), rewards, rtol=1e-4, atol=1e-5)


def test_forces_are_the_environments_on_bodies_that_are_there(played):
    path, env, _, contacts = played
    stage = stage_of(path)
    names = [path.rsplit("/", 1)[1] for path in env.body_paths]
    for number in range(2):
        prim = stage.GetPrimAtPath(f"/World/envs/env_{number}")
        bodies = list(prim.GetAttribute("gippo:contactBodies").Get())
        assert prim.GetAttribute("gippo:weight").Get() == pytest.approx(env.weight)
        chosen = [names.index(body.rsplit("/", 1)[1]) for body in bodies]
        columns = [env.ground_contacts.bodies.index(body) for body in chosen]
        for name, wanted in (("Forces", contacts[..., :3]), ("Points", contacts[..., 3:])):
            attribute = prim.GetAttribute(f"gippo:contact{name}")
            found = np.array([attribute.Get(k) for k in range(STEPS + 1)])
            assert_allclose(found, wanted[:, number, columns], rtol=1e-5, atol=1e-4)
        never = contacts[:, number, :, :3].abs().sum(dim=(0, 2)) == 0.0
        assert sorted(columns) == (~never).nonzero()[:, 0].tolist() and len(columns) < 9
        # A force acts within its body's reach.
        offset = world_matrix(stage, str(prim.GetPath()), 0)[3, :3]
        forces, points = (prim.GetAttribute(f"gippo:contact{n}") for n in ("Forces", "Points"))
        for body, name in enumerate(bodies):
            touching = [k for k in range(STEPS + 1) if any(forces.Get(k)[body])]
            frame = touching[-1]
            place = world_matrix(stage, f"{prim.GetPath()}/{name}", frame)[3, :3] - offset
            assert np.linalg.norm(place - points.Get(frame)[body]) < 1.0


def test_validators_have_nothing_to_say(played):
    assert findings(played[0]) == []


def test_crowds_are_recorded_without_details_unless_asked(tmp_path):
    options = {"default": (DETAILED + 1, None), "asked": (DETAILED + 1, True), "not": (1, False)}
    seen = {}
    for name, (count, details) in options.items():
        env = warp_envs.make("hopper", num_envs=count)
        with torch.no_grad():
            record(env, tmp_path / f"{name}.usdc", steps=3, details=details)
        stage = stage_of(tmp_path / f"{name}.usdc")
        prim = stage.GetPrimAtPath("/World/envs/env_0")
        assert prim.GetAttribute("gippo:reward")
        seen[name] = [bool(prim.GetAttribute(f"gippo:{n}")) for n in ("rewardTerms", "weight")]
    assert seen["default"] == seen["not"] == [False, False]
    assert seen["asked"][0]


def test_terms_of_traffic_and_one_that_is_no_number(tmp_path):
    record(Graded(), tmp_path / "out.usdc", steps=4)
    stage = stage_of(tmp_path / "out.usdc")
    prim = stage.GetPrimAtPath("/World/envs/env_0")
    assert list(prim.GetAttribute("gippo:rewardTermNames").Get()) == ["fast", "safe"]
    found = [list(prim.GetAttribute("gippo:rewardTerms").Get(k)) for k in range(5)]
    assert found == [[0.0, 0.0], [3.0, -1.0], [3.0, 0.0], [3.0, -3.0], [3.0, -4.0]]
    assert not prim.GetAttribute("gippo:contactForces")


def test_a_term_that_is_missing_is_named(tmp_path):
    with RolloutRecorder(Graded(), tmp_path / "out.usdc") as recorder:
        recorder.capture()
        with pytest.raises(ArgumentError, match=r"reward_terms: \['fast'\] given, \['safe'\], too"):
            recorder.capture(reward_terms={"fast": torch.ones(1)})
        assert recorder.num_frames == 1
