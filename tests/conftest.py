"""What all tests share: one thread a worker, one composition of the same configuration.

GPU tests are skipped without a GPU, of the slow ones a part is run.
"""

import os
import zlib
from collections.abc import Iterator

import pytest
import torch

from tests.compositions import remember

torch.set_num_threads(1)

PARTS = 8
"""Of the slow tests a run takes one part: GIPPO_SLOW, 0 to 7, by default 0; "all" takes all."""


def _left_for_later(item: pytest.Item, part: str) -> bool:
    if part == "all" or item.get_closest_marker("slow") is None:
        return False
    return zlib.crc32(item.nodeid.encode()) % PARTS != int(part) % PARTS


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    part = os.environ.get("GIPPO_SLOW", "0")
    later = [item for item in items if _left_for_later(item, part)]
    if later:
        config.hook.pytest_deselected(items=later)
        items[:] = [item for item in items if not _left_for_later(item, part)]
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
