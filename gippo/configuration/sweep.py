"""Sweeps: many runs of one command, through Hydra's sweepers and launchers."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Any

from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.types import Glob, IntervalSweep, Override, RangeSweep
from hydra.errors import HydraException
from hydra.plugins.sweeper import Sweeper
from omegaconf.errors import OmegaConfBaseException

from gippo.configuration.compose import (
    GROUPS,
    choices,
    composing_once,
    config_dir,
    parse,
    register,
)
from gippo.configuration.run_config import one_line
from gippo.environment import num_cores
from gippo.errors import UserError
from warp_envs.checks import near_matches

# What runs the jobs or chooses their values: its name, the plugin's module, our extra that has it.
_PLUGINS = {
    "hydra/launcher": {
        "basic": None,
        "joblib": ("hydra_plugins.hydra_joblib_launcher", "joblib"),
        "submitit_local": ("hydra_plugins.hydra_submitit_launcher", "slurm"),
        "submitit_slurm": ("hydra_plugins.hydra_submitit_launcher", "slurm"),
        "ray": ("hydra_plugins.hydra_ray_launcher", "ray"),
    },
    "hydra/sweeper": {
        "basic": None,
        "optuna": ("hydra_plugins.hydra_optuna_sweeper", "optuna"),
    },
}
# What we say where a plugin's own default is wrong here and the command line says nothing.
_DEFAULTS = {
    "optuna": "hydra.sweeper.direction=maximize",  # a run's score is its best return
    # A cluster that runs already refuses to be told how large its store shall be.
    "ray": "+hydra.launcher.ray.init.object_store_memory=null",
}
# So many values of a list are tried out before the first job; the others when their turn comes.
_MOST_CHECKED = 50
_LONGEST_NAME = 255
"""Bytes of a folder's name, on all usual file systems."""


def run_sweep(
    command: str,
    schema: type,
    overrides: Sequence[str],
    task: Any,
    check: Callable[[Sequence[str]], Any],
) -> None:
    """Let Hydra's sweeper and launcher call `task` once for every combination of values.

    `task` gets Hydra's configuration of its job; what it makes of it is its own matter. `check`
    raises UserError at a job's overrides.

    Raises:
        UserError: a launcher that is not there, or a value that its job would refuse; no job has
            begun then.
    """
    # Hydra's public entry, hydra.main, reads sys.argv, prints tracebacks and ends the process; this
    # is what it calls. The requirement on hydra-core is bounded accordingly.
    from hydra._internal.hydra import Hydra
    from hydra._internal.utils import create_config_search_path

    register(command, schema)
    parsed = parse(overrides)
    plugins = {key: _plugin(parsed, key) for key in _PLUGINS}
    own = [o for o in parsed if not o.key_or_group.startswith("hydra")]
    _check_folders(own)
    if plugins["hydra/sweeper"] == "basic":
        _check_names(own, parsed)
    with composing_once():
        for job in _samples(own):
            check(job)
    GlobalHydra.instance().clear()
    overrides = [str(override.input_line) for override in parsed]
    fixed = [o.key_or_group for o in own if not o.is_sweep_override()]
    if len(fixed) < len(own):  # jobs are named by what is swept over
        overrides.append(f"hydra.job.config.override_dirname.exclude_keys=[{','.join(fixed)}]")
    overrides += _plugin_defaults(plugins.values(), parsed)
    try:
        hydra = Hydra.create_main_hydra2(
            task_name="gippo",
            config_search_path=create_config_search_path(str(config_dir().resolve())),
        )
        with _each_composed_once():
            hydra.multirun(
                config_name=command,
                task_function=task,
                overrides=overrides,
                with_log_configuration=True,
            )
    except (HydraException, OmegaConfBaseException) as error:
        raise UserError(one_line(error)) from error
    finally:
        GlobalHydra.instance().clear()


def _check_folders(own: Sequence[Override]) -> None:
    """Raise UserError if several jobs would share one folder, which the second would be refused."""
    swept = [o for o in own if o.is_sweep_override()]
    shared = next((o for o in own if o.key_or_group == "run_dir" and o not in swept), None)
    if shared is None or not swept or "${" in str(shared.input_line):
        return
    raise UserError(
        f"{shared.input_line}: the jobs of a sweep need folders of their own; leave it out, and "
        f"hydra.sweep.dir={shared.value()} is the folder that holds them"
    )


def _check_names(own: Sequence[Override], parsed: Sequence[Override]) -> None:
    """Raise UserError if a job's folder would have a name that no file system takes."""
    if any(o.key_or_group == "hydra.sweep.subdir" for o in parsed):
        return
    longest = [max(_values(o), key=len) for o in own if o.is_sweep_override()]
    name = max(",".join(sorted(longest)).split("/"), key=lambda part: len(part.encode()))
    if len(name.encode()) > _LONGEST_NAME:
        raise UserError(
            f"a job's folder would be named {name[:60]}..., {len(name.encode())} bytes where "
            f"{_LONGEST_NAME} are accepted; hydra.sweep.subdir='${{hydra.job.num}}' numbers them"
        )


def count_jobs(overrides: Sequence[str]) -> int:
    """How many jobs a sweep's overrides stand for, where its sweeper tries every combination."""
    parsed = [o for o in parse(overrides) if not o.key_or_group.startswith("hydra")]
    return math.prod(_count(override) for override in parsed)


def _count(override: Override) -> int:
    value = override.value()
    if isinstance(value, Glob):
        return max(1, len(value.filter(choices(override.key_or_group))))
    if not override.is_sweep_override() or isinstance(value, IntervalSweep):
        return 1
    return sum(1 for _ in override.sweep_string_iterator())


@contextmanager
def _each_composed_once() -> Iterator[None]:
    """Keep Hydra's basic sweeper from composing every job's configuration before the first one.

    Each is composed again when its turn comes; 512 of them take minutes. `check` has seen every
    value, and every combination of what choices there are.
    """
    # Of the base: Hydra finds plugins by running their files, which makes classes of its own.
    whole = Sweeper.validate_batch_is_legal
    Sweeper.validate_batch_is_legal = lambda self, batch: None
    try:
        yield
    finally:
        Sweeper.validate_batch_is_legal = whole


def _plugin_defaults(plugins: Iterable[str], given: Sequence[Override]) -> list[str]:
    """Overrides that go with the launcher and the sweeper, where the command line has none."""
    keys = [override.key_or_group for override in given]
    defaults = [_DEFAULTS[name] for name in plugins if name in _DEFAULTS]
    return [d for d in defaults if d.lstrip("+").partition("=")[0] not in keys]


def job_launcher() -> str:
    """The name of the launcher that runs the present job."""
    return str(HydraConfig.get().runtime.choices["hydra/launcher"])


def job_threads() -> int | None:
    """Threads for the present job, so that those beside it have theirs; None: it is alone.

    joblib and Ray put jobs side by side on one machine's cores without telling them.
    """
    launcher = HydraConfig.get().launcher
    if job_launcher() == "ray":
        return _threads_of(int(launcher.ray.remote.get("num_cpus") or 1))  # 1 is Ray's default
    if job_launcher() != "joblib":
        return None
    jobs, cores = int(launcher.n_jobs), num_cores()
    at_once = jobs if jobs > 0 else max(1, cores + 1 + jobs)  # -1: as many as cores
    return _threads_of(cores // at_once)


def _threads_of(cores: int) -> int:
    return min(4, max(1, cores))


def _plugin(parsed: Sequence[Override], key: str) -> str:
    """The launcher or sweeper that is asked for.

    Raises:
        UserError: there is none of the name, or it is not installed.
    """
    given = [str(o.value()) for o in parsed if o.key_or_group == key]
    name, known = given[-1] if given else "basic", _PLUGINS[key]
    if name not in known:
        hint = near_matches(name, known)
        raise UserError(f"{key}: {name!r} given, one of {list(known)} accepted{hint}")
    module, extra = known[name] or ("hydra", "")
    try:
        found = find_spec(module) is not None
    except ModuleNotFoundError:
        found = False
    if not found:
        raise UserError(
            f"{key}: {name!r} is not installed here; pip install '.[{extra}]' in the checkout is"
        )
    return name


def _samples(overrides: Sequence[Override]) -> list[list[str]]:
    """Jobs among which every value occurs, and every combination of env, algo and experiment."""
    values = [_values(override) for override in overrides]
    first = [some[0] for some in values]
    jobs = [[*first[:i], value, *first[i + 1 :]] for i, v in enumerate(values) for value in v[1:]]
    grouped = [
        some if o.key_or_group in GROUPS else some[:1]
        for o, some in zip(overrides, values, strict=True)
    ]
    combinations = [list(job) for job in itertools.product(*grouped)]
    return [*combinations, *(job for job in jobs if job not in combinations)]


def _values(override: Override) -> list[str]:
    """One override for each value that this one stands for; the ends of an interval or range."""
    value = override.value()
    if isinstance(value, IntervalSweep):
        return [f"{override.key_or_group}={end}" for end in (value.start, value.end)]
    if isinstance(value, Glob):
        names = value.filter(choices(override.key_or_group))
        return [f"{override.key_or_group}={name}" for name in names] or [str(override.input_line)]
    if not override.is_sweep_override():
        return [str(override.input_line)]
    if isinstance(value, RangeSweep):  # what holds at both ends holds between
        first, *others = override.sweep_string_iterator()
        return [f"{override.key_or_group}={end}" for end in (first, *others[-1:])]
    some = itertools.islice(override.sweep_string_iterator(), _MOST_CHECKED)
    return [f"{override.key_or_group}={text}" for text in some]
