"""What an epoch has a GPU do, and the host wait for it, counted on a CPU.

    python benchmarks/launches.py [env=ant env.num_envs=64 ...] [learner.graphs=false]
    python benchmarks/launches.py --waits [env=cartpole algo=gippo ...] ...

torch takes the way of a GPU, without the native passes, and CUDA's graphs are the stand-in of the
tests. The first form counts operations of torch by stage, graphs and kernels: an operation is
counted if it computes or copies; views and allocations are not. Most are one kernel, some two or
three. The second tells by place where the host waits in an epoch that replays its graphs; several
runs are separated by a comma of its own.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pytest
from rich.console import Console
from rich.table import Table
from torch.utils._python_dispatch import TorchDispatchMode

from gippo.configuration.compose import configure
from gippo.configuration.run_config import TrainConfig
from gippo.environment import make_env
from gippo.learner import Learner
from gippo.networks.graphs import WARM_UPS
from tests.gippo.device_stand_in import waits_of_an_epoch
from tests.gippo.networks.graph_stand_in import StandIn, as_on_a_gpu


class Count(TorchDispatchMode):
    """Operations by stage, those within graphs apart."""

    def __init__(self) -> None:
        super().__init__()
        self.stage = "rest"
        self.eager: Counter[str] = Counter()
        self.replayed: Counter[str] = Counter()
        self.graphs: Counter[str] = Counter()
        self.replaying = False

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        returned = [value.alias_info for value in func._schema.returns]
        view = any(alias is not None and not alias.is_write for alias in returned)
        if not view and "empty" not in func._schema.name:
            (self.replayed if self.replaying else self.eager)[self.stage] += 1
        return func(*args, **(kwargs or {}))

    def during(self, stage: str, owner: Any, name: str) -> None:
        """Count what a method does as a stage."""
        method = getattr(owner, name)

        def counted(*args: Any, **kwargs: Any) -> Any:
            before, self.stage = self.stage, stage
            try:
                return method(*args, **kwargs)
            finally:
                self.stage = before

        setattr(owner, name, counted)

    def replay(self, graph: StandIn) -> None:
        """Count a graph's launch, and what it replaces."""
        self.graphs[self.stage] += 1
        self.replaying = True
        try:
            StandIn.replay(graph)
        finally:
            self.replaying = False


@contextmanager
def learner(keys: Sequence[str]) -> Iterator[tuple[Learner, list[StandIn]]]:
    """A learner that takes a GPU's way, and the graphs it captures."""
    given = [*keys, "learner.native=false", "learner.parallel_updates=false"]
    config = configure("train", TrainConfig, given)
    with pytest.MonkeyPatch.context() as patch:
        made = as_on_a_gpu(patch)
        env = make_env(config.env, device="cpu", seed=config.seed)
        method = config.method_config
        yield Learner(env, config.learner_config, method, num_epochs=20, seed=0), made


def count_launches(keys: Sequence[str], console: Console) -> None:
    """Operations, graphs and kernels of an epoch whose graphs have been captured."""
    with learner(["env=ant", "env.num_envs=64", *keys]) as (trained, made):
        for _ in range(WARM_UPS + 1):
            trained.train_epoch()
        count = Count()
        for graph in made:
            graph.replay = lambda graph=graph: count.replay(graph)
        count.during("rollout", trained, "_collect")
        count.during("critic", trained.critic, "fit")
        count.during("update", trained.method, "update")
        with count:
            metrics = trained.train_epoch()
    table = Table("", "operations", "graphs", "operations in these", box=None)
    stages = ["rollout", "critic", "update", "rest"]
    for stage in stages:
        numbers = (count.eager[stage], count.graphs[stage], count.replayed[stage])
        table.add_row(stage, *map(str, numbers))
    sums = (sum(part.values()) for part in (count.eager, count.graphs, count.replayed))
    table.add_row("all", *map(str, sums))
    console.print(table)
    retries = {name: value for name, value in metrics.items() if name.endswith("_retries")}
    launches = trained.env.launches_per_step
    console.print(f"of Warp, a step: {launches} kernels in a graph each way; {retries}")


def count_waits(keys: Sequence[str], console: Console) -> None:
    """Where the host waits in an epoch."""
    waits, metrics = waits_of_an_epoch(*keys)
    retries = sum(value for name, value in metrics.items() if name.endswith("_retries"))
    console.print(f"{' '.join(keys)}: {sum(waits.values())} waits, {retries:.0f} retries")
    for place, number in waits.most_common():
        console.print(f"{number:6d}  {place}")


def main() -> None:
    console = Console(highlight=False, soft_wrap=True)
    if sys.argv[1:2] != ["--waits"]:
        count_launches(sys.argv[1:], console)
        return
    for run in " ".join(sys.argv[2:]).split(" , "):
        count_waits(run.split(), console)


if __name__ == "__main__":
    main()
