"""A trained policy as a file that other programs run: ONNX, or TorchScript."""

from __future__ import annotations

import importlib
import json
import logging
import os
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from gippo import __version__
from gippo.configuration.run_config import TrainConfig, folder_of, load_config
from gippo.environment import make_env
from gippo.errors import TrainingFailedError, UserError
from gippo.files import check_place, reason, unfinished_name
from gippo.runs.checkpoint import checkpoint_of, read
from gippo.runs.policy import Policy
from warp_envs.checks import ArgumentError, check_flag

FORMATS = (".onnx", ".pt")
METADATA = "metadata.json"
"""Of a TorchScript file's extra files; in ONNX each key is an entry of `metadata_props`."""
NUM_CHECKED = 1000
"""Observations on which a file is held against the policy."""
TOLERANCE = 1e-5
"""Greatest difference of an action in [-1, 1]; sums are taken in another order there."""
_OPSET = 18  # the first with LayerNormalization's exporter in every torch that is accepted


@dataclass(frozen=True)
class Exported:
    """What was written."""

    path: Path
    difference: float | None
    """The greatest one of an action from the policy's own; None: nothing here can run the file."""
    metadata: Mapping[str, Any]


class ExportedPolicy(nn.Module):
    """Observations as the environment gives them -> actions in [-1, 1].

    With noise it takes standard normal numbers (n, num_actions) beside them, so that whoever runs
    it seeds them: g(s, eps) = tanh(mu(s) + sigma(s) eps).
    """

    mean: torch.Tensor
    scale: torch.Tensor

    def __init__(self, policy: Policy) -> None:
        """Share the policy's network and normaliser."""
        super().__init__()
        self.actor = policy.actor
        self.register_buffer("mean", policy.normalizer.mean)
        self.register_buffer("scale", policy.normalizer.scale)

    def forward(self, obs: torch.Tensor, noise: torch.Tensor | None = None) -> torch.Tensor:
        """Actions (n, num_actions) for observations (n, num_obs)."""
        mu, log_sigma = self.actor.forward((obs - self.mean) / self.scale)
        if noise is not None:
            mu = mu + torch.exp(log_sigma) * noise
        return torch.tanh(mu)


def export_policy(
    run_dir: str | Path,
    out: str | Path,
    *,
    checkpoint: str = "best",
    deterministic: bool = True,
) -> Exported:
    """Write a run's policy, its observation normaliser inside, and check the file.

    Args:
        run_dir: the run's folder.
        out: .onnx, or .pt for TorchScript.
        checkpoint: "best", "newest" or a file's path.
        deterministic: the policy's mean; else the file takes noise as its second input.

    Raises:
        UserError: no run or checkpoint there, a name of another ending, a folder that is not there,
            or packages that are missing.
        TrainingFailedError: the file's actions are not the policy's, or it cannot be written.
    """
    check_flag("deterministic", deterministic)
    path, folder = check_out(out), folder_of(run_dir)
    config = load_config(folder)
    checkpoint_read = read(checkpoint_of(folder, checkpoint))
    policy = Policy(config.learner_config, checkpoint_read["learner"])
    module = ExportedPolicy(policy).eval()
    metadata = {
        "gippo_version": __version__,
        "environment": config.env["id"],
        "method": config.algo.name,
        "seed": config.seed,
        "epoch": checkpoint_read["epoch"],
        "deterministic": deterministic,
        **_quantities(config, policy),
    }
    names = ["obs"] if deterministic else ["obs", "noise"]
    inputs = _samples(policy, names)
    unfinished = unfinished_name(path).with_suffix(path.suffix)
    try:
        write = _write_onnx if path.suffix == ".onnx" else _write_torchscript
        write(module, inputs, metadata, unfinished)
        difference = _check(policy, inputs, unfinished)
        unfinished.replace(path)
    except OSError as error:
        raise TrainingFailedError(f"out: {path} cannot be written ({reason(error)})") from error
    finally:
        unfinished.unlink(missing_ok=True)
    return Exported(path, difference, metadata)


def check_out(out: str | Path) -> Path:
    """The path of a policy's file.

    Raises:
        UserError: it has another ending, its folder is not there, or what writes it is not.
    """
    path = Path(out)
    if path.suffix not in FORMATS:
        raise ArgumentError("out", repr(str(out)), f"a file ending in one of {list(FORMATS)}")
    check_place("out", path)
    if path.suffix == ".onnx":
        for package in ("onnx", "onnxscript"):
            _import(package)
    return path


def _import(package: str) -> Any:
    try:
        return importlib.import_module(package)
    except ImportError as error:
        raise UserError(
            f"out: an .onnx file needs the package {package}; pip install '.[export]' in the "
            "checkout brings it, and a .pt file does without"
        ) from error


def _quantities(config: TrainConfig, policy: Policy) -> dict[str, Any]:
    """What goes in and out, as the environment tells it; nothing of one that is not here."""
    found: dict[str, Any] = {"num_obs": policy.num_obs, "num_actions": policy.num_actions}
    try:
        env = make_env(config.env, num_envs=1, device="cpu", seed=0)
    except ValueError:  # the policy needs none
        return found
    policy.check_fits(env)
    found["control_step"] = env.control_step
    kinds = {"observations": env.obs_quantities, "actions": env.action_quantities}
    for kind, quantities in kinds.items():
        found[kind], first = [], 0
        for quantity in quantities:
            found[kind].append({"first": first, **quantity._asdict()})
            first += quantity.count
    return found


def _samples(policy: Policy, names: list[str]) -> dict[str, torch.Tensor]:
    """Observations about those seen in training, spread twice as far, and the policy's own noise.

    A fresh policy of seed 0 draws this noise first.
    """
    widths = {"obs": policy.num_obs, "noise": policy.num_actions}
    found = {}
    for name in names:
        generator = torch.Generator().manual_seed(0)
        values = torch.empty(NUM_CHECKED, widths[name], dtype=policy.dtype)
        found[name] = values.normal_(generator=generator)
    found["obs"] = policy.normalizer.denormalize(2.0 * found["obs"])
    return found


def _write_onnx(
    module: nn.Module, inputs: Mapping[str, torch.Tensor], metadata: Mapping[str, Any], path: Path
) -> None:
    onnx = importlib.import_module("onnx")
    rows = torch.export.Dim("n", min=1)
    with _quiet_exporter():
        program = torch.onnx.export(
            module,
            tuple(inputs.values()),
            dynamo=True,
            input_names=list(inputs),
            output_names=["action"],
            dynamic_shapes={name: {0: rows} for name in inputs},
            opset_version=_OPSET,
        )
    assert program is not None
    model = program.model_proto
    onnx.helper.set_model_props(model, {name: _text(value) for name, value in metadata.items()})
    for node in model.graph.node:  # where in this machine's files each comes from
        del node.metadata_props[:]
    onnx.checker.check_model(model)
    path.write_bytes(model.SerializeToString())


@contextmanager
def _quiet_exporter() -> Iterator[None]:
    """Without the exporter's steps, and what it says of packages that it could use."""
    log = logging.getLogger("torch.onnx")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        with (
            open(os.devnull, "w") as nowhere,
            redirect_stdout(nowhere),
            redirect_stderr(nowhere),
            warnings.catch_warnings(),
        ):
            warnings.simplefilter("ignore")
            yield
    finally:
        log.setLevel(level)


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _write_torchscript(
    module: nn.Module, inputs: Mapping[str, torch.Tensor], metadata: Mapping[str, Any], path: Path
) -> None:
    with warnings.catch_warnings():  # of torch, that torch.export follows it
        warnings.simplefilter("ignore")
        traced = torch.jit.trace(module, tuple(inputs.values()))
        extra = {METADATA: json.dumps(dict(metadata), indent=2)}
        torch.jit.save(traced, str(path), _extra_files=extra)


@torch.no_grad()
def _check(policy: Policy, inputs: Mapping[str, torch.Tensor], path: Path) -> float | None:
    """Hold the file's actions against the policy's.

    Raises:
        TrainingFailedError: they differ.
    """
    act = _runner(path)
    if act is None:
        return None
    wanted = policy(inputs["obs"], deterministic="noise" not in inputs)
    difference = float((wanted - act(inputs)).abs().max())
    if not difference <= TOLERANCE:
        raise TrainingFailedError(
            f"out: the file's actions differ from the policy's by {difference:.3g}, where "
            f"{TOLERANCE:g} is accepted; nothing was written"
        )
    return difference


def _runner(path: Path) -> Callable[[Mapping[str, torch.Tensor]], torch.Tensor] | None:
    """What runs the file by itself; None if there is nothing here that does."""
    if path.suffix == ".pt":
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            loaded = torch.jit.load(str(path))
        return lambda inputs: loaded(*inputs.values())
    try:
        runtime = importlib.import_module("onnxruntime")
    except ImportError:
        return None
    session = runtime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return lambda inputs: torch.from_numpy(
        session.run(None, {name: value.numpy() for name, value in inputs.items()})[0]
    )
