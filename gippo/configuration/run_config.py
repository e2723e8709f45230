"""What a training run is made of, and how it is checked and kept."""

from __future__ import annotations

import dataclasses
import functools
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import yaml
from omegaconf import MISSING, DictConfig, OmegaConf, open_dict
from omegaconf.errors import ConfigKeyError, OmegaConfBaseException

from gippo.errors import TrainingFailedError, UserError
from gippo.files import reason, write_whole
from gippo.methods import config_class, is_built_in, method_class
from gippo.schema import real, settings_class
from warp_envs.checks import ArgumentError, check_choice, check_device_name, check_integer

if TYPE_CHECKING:
    from gippo.learner import LearnerConfig
else:
    LearnerConfig = settings_class("gippo.learner", "LearnerConfig")

CONFIG_FILE = "config.yaml"
INPUTS = "inputs"
"""Folder in a run's of the files that it was given; its configuration names them relative to it."""
LOGGERS = ("tensorboard", "csv", "wandb", "mlflow")
"""Where metrics may go beside metrics.jsonl."""
MAX_THREADS = 1024
"""More than a system may refuse to start, in which case torch ends the process."""

T = TypeVar("T")


@dataclass
class RolloutConfig:
    """The motion recorded as rollout.usdc when training ends."""

    num_envs: int = 4
    """Environments recorded; 0 records nothing."""
    num_steps: int = 480
    """Control steps recorded."""

    def __post_init__(self) -> None:
        """Raise ValueError naming a key out of range."""
        check_integer("rollout.num_envs", self.num_envs, 0)
        check_integer("rollout.num_steps", self.num_steps, 1)


@dataclass
class TrainConfig:
    """All of a training run."""

    env: dict[str, Any] = MISSING
    """id and num_envs, and the environment's own options; from configs/env/."""
    algo: Any = MISSING
    """name, and the method's hyperparameters; from its settings class."""
    learner: LearnerConfig = field(default_factory=LearnerConfig)
    """What all methods share."""
    seed: int = 0
    """Of everything random: networks, exploration, initial states."""
    device: str = "cpu"
    """"cpu" or "cuda" ("cuda:1", ...)."""
    num_epochs: int = MISSING
    """Updates; one window of num_envs * horizon steps each. From the environment's preset."""
    num_threads: int | None = None
    """Of torch on the CPU; null: half the cores, four at most."""
    run_dir: str | None = None
    """Where the run is kept; null: a new folder in runs/."""
    resume: bool = False
    """Continue the run in run_dir from its last checkpoint."""
    from_run: str | None = None
    """Start with the networks and normalisers of this run's best checkpoint (or of the one named,
    RUN/checkpoints/FILE.pt) and with its values; typed from=RUN."""
    evaluate_every: int = 0
    """Epochs between evaluations of the policy's mean over whole episodes, and one after the last
    epoch, logged as evaluation_return and evaluation_length; 0: none."""
    evaluate_episodes: int = 16
    """Episodes of an evaluation, in environments of their own; the same starts each time."""
    best_by: str = "training"
    """What best_return and best.pt go by: training (episodes with exploration) or evaluation."""
    checkpoint_every: int = 50
    """Epochs between checkpoints."""
    keep_last: int = 2
    """Checkpoints kept, beside the best policy's."""
    logger: list[str] = field(default_factory=lambda: ["tensorboard"])
    """Where metrics go beside metrics.jsonl: any of tensorboard, csv, wandb, mlflow; or []."""
    rollout: RolloutConfig = field(default_factory=RolloutConfig)

    def __post_init__(self) -> None:
        """Raise ValueError naming a key out of range."""
        check_integer("seed", self.seed, 0, 2**31 - 1)
        check_device_name("device", self.device)
        check_integer("num_epochs", self.num_epochs, 1)
        check_integer("evaluate_every", self.evaluate_every, 0)
        check_integer("evaluate_episodes", self.evaluate_episodes, 1)
        check_choice("best_by", self.best_by, ("training", "evaluation"))
        if self.best_by == "evaluation" and self.evaluate_every == 0:
            raise ArgumentError("evaluate_every", "0", "1 or more with best_by=evaluation")
        check_integer("checkpoint_every", self.checkpoint_every, 1)
        check_integer("keep_last", self.keep_last, 1)
        for name in self.logger:
            check_choice("logger", name, LOGGERS)
        if self.num_threads is not None:
            check_integer("num_threads", self.num_threads, 1, MAX_THREADS)
        for key in ("run_dir", "from_run"):
            if getattr(self, key) is not None and not getattr(self, key).strip():
                raise ArgumentError(key, "''", "a folder")
        if not isinstance(self.env.get("id"), str):  # whoever makes one finds out which it is
            raise ArgumentError("env.id", repr(self.env.get("id")), "a name or module:Class")
        check_integer("env.num_envs", self.env.get("num_envs"), 1)

    @property
    def env_options(self) -> dict[str, Any]:
        """What the environment takes beyond its id and the number of copies."""
        return {name: v for name, v in self.env.items() if name not in ("id", "num_envs")}

    @property
    def learner_config(self) -> LearnerConfig:
        """What all methods share, as the class that the learner itself declares."""
        return real(self.learner)

    @property
    def method_config(self) -> Any:
        """The method's hyperparameters, as the class that the method itself declares."""
        cls = method_class(self.algo.name).config_class
        parts = {entry.name: getattr(self.algo, entry.name) for entry in dataclasses.fields(cls)}
        return cls(**{k: real(v) if dataclasses.is_dataclass(v) else v for k, v in parts.items()})


@functools.cache
def algo_schema(name: str) -> type:
    """The method's hyperparameters with its name, as a structured config.

    Args:
        name: of the method, or ``module:Class``.

    Raises:
        ArgumentError: there is no such method.
    """
    named = [("name", str, field(default=name))]
    title = f"{name.replace('.', '/')}{_SCHEMA}"
    schema = dataclasses.make_dataclass("algo", named, bases=(config_class(name),))
    schema.__module__, schema.__qualname__ = __name__, title
    return schema


_SCHEMA = "_schema"


def __getattr__(name: str) -> Any:
    """The methods' schemas, for a pickle that names one.

    Launchers pass configurations between processes. A class that a pickle cannot name it carries
    along, and the copy that comes back would overwrite the original.
    """
    method, found, rest = name.partition(_SCHEMA)
    if found and not rest:
        return algo_schema(method.replace("/", "."))
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def from_omegaconf(config: DictConfig, schema: type[T]) -> T:
    """The typed, checked object that a composed configuration describes.

    Raises:
        UserError: naming the key that is missing or out of range.
    """
    try:
        OmegaConf.resolve(config)
        if OmegaConf.select(config, "env.presets") is not None:
            with open_dict(config):
                del config.env.presets
        missing = sorted(str(key) for key in OmegaConf.missing_keys(config))
        if missing:
            raise UserError(f"{missing[0]}: no value given, one is needed")
        return schema(**{str(key): _to_object(config, str(key)) for key in config})
    except OmegaConfBaseException as error:
        raise UserError(one_line(error)) from error
    except ArgumentError as error:
        raise UserError(str(error)) from error


def save_config(config: TrainConfig, path: Path) -> None:
    """Write every value of a run as YAML.

    Raises:
        TrainingFailedError: the folder cannot be written to, or the disk is full.
    """
    try:
        write_whole(path, OmegaConf.to_yaml(stored(config, path.parent)).encode())
    except OSError as error:
        raise TrainingFailedError(
            f"configuration: {path} cannot be written ({reason(error)})"
        ) from error


def to_omegaconf(config: TrainConfig) -> DictConfig:
    """Every value of a run as plain OmegaConf nodes."""
    return OmegaConf.create(dataclasses.asdict(config))


def stored(config: TrainConfig, run_dir: Path) -> DictConfig:
    """Every value of a run as its folder keeps it: its `INPUTS` by their paths from there."""
    values = to_omegaconf(config)
    for name in own_inputs(config, run_dir):
        values.env[name] = str(config.env[name]).removeprefix(f"{run_dir}/")
    return values


def own_inputs(config: TrainConfig, run_dir: Path) -> list[str]:
    """The environment's options that name a file in the run's `INPUTS`."""
    inside = f"{run_dir}/{INPUTS}/"
    return [key for key, v in config.env.items() if isinstance(v, str) and v.startswith(inside)]


def folder_of(run_dir: Any) -> Path:
    """A run's folder, as a caller names it.

    Raises:
        ArgumentError: that is no path.
    """
    if not isinstance(run_dir, (str, os.PathLike)) or not str(run_dir).strip():
        raise ArgumentError("run_dir", repr(run_dir), "the path of a run's folder")
    return Path(run_dir)


def load_config(run_dir: Path, *, to_train: bool = False) -> TrainConfig:
    """The configuration of the run kept in `run_dir`.

    Args:
        run_dir: the run's folder.
        to_train: with the method's settings as its class has them. Otherwise a method from outside
            of gippo need not be there, and settings that the method has no more do not matter: its
            settings are left as the file has them.

    Raises:
        UserError: there is none, or it does not fit this release.
    """
    path = run_dir / CONFIG_FILE
    if not path.is_file():
        what = "is a file" if run_dir.is_file() else f"holds no run (no {CONFIG_FILE})"
        raise UserError(f"run_dir: {str(run_dir)!r} {what}; the folder of a run accepted")
    try:
        _check_plain(path)
        loaded = OmegaConf.load(path)
        if not isinstance(loaded, DictConfig):
            raise UserError(f"{path}: not a mapping")
        _bring_up_to_date(loaded)
        schema = OmegaConf.structured(TrainConfig)
        schema.algo = OmegaConf.structured(_schema_of_run(loaded, to_train))
        merged = OmegaConf.merge(schema, loaded)
    except UserError:
        raise
    except ArgumentError as error:  # of the method that is named
        again = (
            "; a run goes on where its method can be imported (algo=module:Class), or in a process "
            "that has registered it (gippo.register_method)"
        )
        if error.key == "algo":
            hint = again if to_train else error.hint
            error = ArgumentError("algo.name", error.given, error.accepted, hint)
        raise UserError(f"{path}: {error}") from error
    except ConfigKeyError as error:
        begun = "no such key in this release; the run was begun by another, which can go on with it"
        raise UserError(f"{path}: {error.full_key}: {begun}") from error
    except Exception as error:
        raise UserError(f"{path}: {one_line(error)}") from error
    assert isinstance(merged, DictConfig)
    config = from_omegaconf(merged, TrainConfig)
    for name, value in config.env.items():
        if isinstance(value, str) and value.startswith(f"{INPUTS}/"):
            config.env[name] = f"{run_dir}/{value}"
    return config


def _bring_up_to_date(loaded: DictConfig) -> None:
    """Say in a run's configuration in today's keys what it says in those of earlier releases.

    What it does not say, as the release that it was begun by had no such key, has its default.
    """
    if "tensorboard" in loaded:  # false: not even where logger, if there was that, named it
        if not isinstance(loaded.tensorboard, bool):
            raise ArgumentError("tensorboard", repr(loaded.tensorboard), "true or false")
        names = loaded.get("logger", ["tensorboard"])
        loaded.logger = [name for name in names if loaded.tensorboard or name != "tensorboard"]
        del loaded["tensorboard"]


def _schema_of_run(loaded: DictConfig, to_train: bool) -> type:
    """What a run's algo section holds: the method's settings, or those that the file has.

    Raises:
        ArgumentError: a method that has to be there is not.
    """
    name = OmegaConf.select(loaded, "algo.name")
    if to_train or not isinstance(name, str):
        return algo_schema(name)
    if is_built_in(name) and set(keys_of(_plain(loaded.algo))) <= set(_known(algo_schema(name))):
        return algo_schema(name)
    keys = [key for key in map(str, loaded.algo) if key != "name"]
    fields = [(key, Any, field(default=None)) for key in keys]
    return dataclasses.make_dataclass("algo", [("name", str, field(default=name)), *fields])


def _plain(section: DictConfig) -> dict[Any, Any]:
    plain = OmegaConf.to_container(section)
    assert isinstance(plain, dict)
    return plain


def _known(schema: type) -> Iterator[str]:
    return keys_of(_plain(OmegaConf.structured(schema)))


def _check_plain(path: Path) -> None:
    """Raise UserError at a YAML alias, of which a few lines can stand for more than fits anywhere.

    No run's configuration is written with one.
    """
    for event in yaml.parse(path.read_text(encoding="utf-8"), Loader=yaml.SafeLoader):
        if isinstance(event, yaml.AliasEvent):
            raise UserError(f"{path}: an alias (*{event.anchor}) in it; a run's has none")


def keys_of(config: Mapping[Any, Any], prefix: str = "") -> Iterator[str]:
    """The dotted names of all values and sections."""
    for key, value in config.items():
        name = f"{prefix}{key}"
        yield name
        if isinstance(value, Mapping):
            yield from keys_of(value, f"{name}.")


def one_line(error: Exception) -> str:
    """An error's message without its context lines."""
    lines = [line.strip() for line in str(error).splitlines()]
    context = ("object_type=", "reference_type=")
    kept = [line for line in lines if line and not line.startswith(context)]
    text = " ".join(kept) or type(error).__name__
    match = re.search(r"full_key: (\S+)", text)
    text = re.sub(r"\s*full_key: \S*", "", text)
    return f"{match.group(1)}: {text}" if match else text


def _to_object(config: DictConfig, section: str) -> Any:
    """One section as an object; what it refuses is named by its whole key."""
    node = config._get_node(section)
    if not isinstance(node, DictConfig):
        return config[section]
    try:
        return OmegaConf.to_object(node)
    except ArgumentError as error:
        keys = list(keys_of(OmegaConf.to_container(node), f"{section}."))  # type: ignore[arg-type]
        raise error.renamed(_whole_key(error.key, keys)) from error


def _whole_key(name: str, keys: list[str]) -> str:
    """The key that a dataclass, which does not know where it stands, called `name`."""
    while name:
        for key in keys:
            if key == name or key.endswith(f".{name}"):
                return key
        name = name.partition(".")[2]
    return keys[0].partition(".")[0]
