"""The configuration of a run that starts from another: the other's, but for what is said."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from hydra.core.override_parser.types import Override
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from gippo.configuration.compose import (
    GROUPS,
    check_keys,
    check_values,
    choices,
    configure,
    override_text,
    parse,
    with_values,
)
from gippo.configuration.run_config import (
    CONFIG_FILE,
    TrainConfig,
    from_omegaconf,
    keys_of,
    load_config,
    one_line,
    to_omegaconf,
)
from gippo.environment import check_env
from gippo.errors import UserError
from warp_envs.registry import is_reference

KEY, SHORT = "from_run", "from"
"""The key, and what may be typed for it: Python keeps the shorter word to itself."""
_OF_THE_RUN = ("run_dir", "resume", "num_threads", KEY)
"""What is another run's own matter."""


def configure_training(
    overrides: Sequence[str], tell: Callable[[str], None] = lambda line: None
) -> TrainConfig:
    """The configuration of a training under command-line overrides; see `configure`.

    With ``from=RUN`` the values of that run take the place of the presets and defaults; a section
    chosen anew (``env=ant``, ``algo=ppo``) is as it would be without, for that environment. So do
    those of a run that goes on (``resume=true``), whose environment and method need not be named.

    Raises:
        UserError: as `configure`, or there is no such run.
    """
    parsed = parse(overrides)
    given = {o.key_or_group: o.value() for o in parsed}
    source = _source(given)
    if source is None:
        return configure("train", TrainConfig, overrides, tell)
    run = load_config(source, to_train=True)
    if given.get(KEY) is None:  # a run that goes on is what it is, also where that is said
        own = {"env": run.env["id"], "algo": run.algo.name}
        parsed = [o for o in parsed if own.get(o.key_or_group) != o.value() or not o.value()]
    base = _base(run, parsed, tell)
    rest = [o for o in parsed if o.key_or_group not in GROUPS]
    check_keys(rest, base, "train")
    check_values(rest, base)
    rest = [o for o in rest if o.key_or_group.split(".")[0] != "hydra"]
    try:
        config = from_omegaconf(with_values(base, rest), TrainConfig)
    except OmegaConfBaseException as error:
        raise UserError(one_line(error)) from error
    check_env(config.env)
    return config


def _source(given: Mapping[str, Any]) -> Path | None:
    """The folder of the run whose values take the place of the defaults, if one's do."""
    if given.get(KEY) is not None:
        return run_of(str(given[KEY]))
    if given.get("resume") is not True or given.get("experiment") is not None:
        return None
    folder = given.get("run_dir")
    return None if folder is None else Path(str(folder)).expanduser()


def run_of(source: str) -> Path:
    """The folder of the run that `from` names by itself or by one of its checkpoints.

    Raises:
        UserError: there is none.
    """
    path = Path(source).expanduser()
    folder = path.parents[1] if path.suffix == ".pt" and len(path.parents) > 1 else path
    if not (folder / CONFIG_FILE).is_file():
        raise UserError(
            f"{SHORT}: {source!r} given, the folder of a run or one of its checkpoints accepted"
        )
    return folder


def changes_from(source: TrainConfig, config: TrainConfig) -> dict[str, list[Any]]:
    """Dotted key -> the value of one run and of another, where they differ."""
    before, after = to_omegaconf(source), to_omegaconf(config)
    found: dict[str, list[Any]] = {}
    for node in (before, after):
        plain = OmegaConf.to_container(node)
        assert isinstance(plain, dict)
        for key in keys_of(plain):
            values = [OmegaConf.select(n, key) for n in (before, after)]
            own = key.partition(".")[0] in _OF_THE_RUN
            if not own and values[0] != values[1] and not any(map(OmegaConf.is_dict, values)):
                found[key] = [
                    OmegaConf.to_container(v) if OmegaConf.is_config(v) else v for v in values
                ]
    return found


def _base(run: TrainConfig, parsed: Sequence[Override], tell: Callable[[str], None]) -> DictConfig:
    """The run's values, the sections that are chosen anew in place of its own."""
    chosen = [o for o in parsed if o.key_or_group in GROUPS and o.value() is not None]
    names = {o.key_or_group for o in chosen}
    if "experiment" in names:
        raise UserError(f"experiment: given with {SHORT}, whose run says the same; leave one out")
    for key in _OF_THE_RUN:
        setattr(run, key, TrainConfig.__dataclass_fields__[key].default)
    if names:
        texts = [str(o.input_line) for o in chosen]
        known = run.env["id"] in choices("env") or is_reference(run.env["id"])
        if "env" in names:  # an option that must be given stands on the command line
            texts += [str(o.input_line) for o in parsed if o.key_or_group.startswith("env.")]
        elif known:  # whose preset for the method it is
            texts.append(f"env={run.env['id']}")
            texts += [override_text(f"env.{k}", v) for k, v in run.env.items() if k != "id"]
        new = configure("train", TrainConfig, texts, tell)
        for name in names:
            setattr(run, name, getattr(new, name))
    base = OmegaConf.structured(TrainConfig)
    base.algo = OmegaConf.structured(type(run.algo))
    merged = OmegaConf.merge(base, to_omegaconf(run))
    assert isinstance(merged, DictConfig)
    return merged
