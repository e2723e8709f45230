import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import gippo
from gippo.cli import main
from gippo.runs.export import ExportedPolicy

EXAMPLE = Path(__file__).parents[3] / "examples" / "run_policy.py"


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory):
    path = tmp_path_factory.mktemp("export") / "run"
    small = ("env.num_envs=4", "learner.actor.hidden=[8,4]", "logger=[]", "num_epochs=3")
    assert main(["train", "env=cartpole", *small, "rollout.num_envs=0", f"run_dir={path}"]) == 0
    return path


def observations(policy, n):
    """Beyond what training saw, too."""
    draws = torch.randn(n, policy.num_obs, generator=torch.Generator().manual_seed(5))
    return policy.normalizer.denormalize(5.0 * draws)


def test_onnxruntime_acts_as_the_policy_does(run_dir, tmp_path, capsys):
    onnxruntime = pytest.importorskip("onnxruntime", reason="pip install 'gippo[export]' brings it")
    out = tmp_path / "policy.onnx"
    assert main(["export", str(run_dir), str(out)]) == 0
    said = capsys.readouterr().out
    assert "5 observations to 1 actions" in said and "checked on 1000 observations" in said
    session, policy = onnxruntime.InferenceSession(str(out)), gippo.load_policy(run_dir)
    for n in (1, 7):
        obs = observations(policy, n)
        (action,) = session.run(None, {"obs": obs.numpy()})
        np.testing.assert_allclose(action, policy(obs).numpy(), atol=1e-5)
    about = session.get_modelmeta().custom_metadata_map
    assert [q["name"] for q in json.loads(about["observations"])][2:4] == ["sin theta", "cos theta"]
    assert json.loads(about["actions"])[0]["unit"] == "1000 N"
    assert float(about["control_step"]) == pytest.approx(1 / 60)
    assert str(Path(gippo.__file__).parent) not in out.read_bytes().decode("latin-1")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["policy.onnx"]
    done = subprocess.run(
        [sys.executable, EXAMPLE, out], capture_output=True, text=True, check=True
    )
    assert "'x': 'm'" in done.stdout and "every 0.0166" in done.stdout


@pytest.mark.slow
def test_onnx_takes_the_noise(run_dir, tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime", reason="pip install 'gippo[export]' brings it")
    out = tmp_path / "policy.onnx"
    assert main(["export", str(run_dir), str(out), "deterministic=false"]) == 0
    policy = gippo.load_policy(run_dir, seed=3)
    obs, noise = observations(policy, 9), torch.empty(9, 1)
    noise.normal_(generator=torch.Generator().manual_seed(3))
    given = {"obs": obs.numpy(), "noise": noise.numpy()}
    (action,) = onnxruntime.InferenceSession(str(out)).run(None, given)
    np.testing.assert_allclose(action, policy(obs, deterministic=False).numpy(), atol=1e-5)


def test_torchscript_acts_as_the_policy_does(run_dir, tmp_path):
    policy = gippo.load_policy(run_dir, seed=3)
    obs, noise = observations(policy, 9), torch.empty(9, 1)
    noise.normal_(generator=torch.Generator().manual_seed(3))
    for inputs, flag in (((obs,), "true"), ((obs, noise), "false")):
        out = tmp_path / f"{flag}.pt"
        assert main(["export", str(run_dir), str(out), f"deterministic={flag}"]) == 0
        about = {"metadata.json": ""}
        action = torch.jit.load(str(out), _extra_files=about)(*inputs)
        wanted = policy(obs, deterministic=flag == "true")
        torch.testing.assert_close(action, wanted, atol=1e-6, rtol=0.0)
        about = json.loads(about["metadata.json"])
        assert about["num_obs"] == 5 and about["deterministic"] is (flag == "true")


def test_a_file_that_acts_otherwise_is_refused(run_dir, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(ExportedPolicy, "forward", lambda self, obs: torch.tanh(obs[:, :1]))
    assert main(["export", str(run_dir), str(tmp_path / "policy.pt")]) == 1
    assert "differ from the policy's by" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "gippo export RUN policy.onnx"),
        (["nowhere", "policy.pt"], "nowhere"),
        (["nowhere", "policy.tflite"], "'.onnx', '.pt'"),
        (["nowhere", "policy.pt", "deterministic=maybe"], "true or false"),
        (["policy=idm", "policy.pt"], "policy: 'idm' given, one of ['ant'"),
        (["policy=ant"], "results/policies/ant given; a run and a file expected"),
    ],
)
def test_mistakes_are_told(arguments, said, capsys):
    assert main(["export", *arguments]) == 2
    assert said in capsys.readouterr().err
