"""Seeds of the several random streams of one run."""

from __future__ import annotations

import numpy as np


def stream_seed(seed: int, *stream: int) -> int:
    """A seed for a stream of its own, below 2^32.

    torch's generator on a CPU looks at the lowest 32 bits of its seed alone: seeds that differ by a
    multiple of 2^32 give the same numbers.

    Args:
        seed: of the run.
        stream: which one, as integers of at least 0; a stream apart from the one of `seed` itself.
    """
    return int(np.random.SeedSequence([seed, *stream]).generate_state(1)[0])
