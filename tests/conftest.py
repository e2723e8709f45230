"""What all tests share: one thread a worker, one composition of the same configuration.

GPU tests are skipped without a GPU, of the slow ones a part is run.
"""

import os
from collections.abc import Iterator

import pytest
import torch

from tests.compositions import remember

torch.set_num_threads(1)

PARTS = 8
"""Of the slow tests a run takes one part: GIPPO_SLOW, 0 to 7, by default 0; "all" takes all."""


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    part = os.environ.get("GIPPO_SLOW", "0")
    slow = [item for item in items if item.get_closest_marker("slow") is not None]
    # Neighbours, which are alike, in different parts.
    taken = slow if part == "all" else slow[int(part) % PARTS :: PARTS]
    later = [item for item in slow if item not in taken]
    if later:
        config.hook.pytest_deselected(items=later)
    # Those first: one that is begun late is waited for by the other processes.
    items[:] = taken + [item for item in items if item not in slow]
    if torch.cuda.is_available() or os.environ.get("GIPPO_GPU") == "cpu":
        return
    skip = pytest.mark.skip(reason="no CUDA device")
    for item in items:
        if item.get_closest_marker("gpu") is not None:
            item.add_marker(skip)


@pytest.fixture(scope="session", autouse=True)
def compositions() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        remember(patch)
        yield
