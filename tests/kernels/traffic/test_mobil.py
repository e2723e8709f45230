"""The search for a place in the next lane."""

import numpy as np
import warp as wp

from kernels.traffic.mobil import first_ahead, first_ahead_near


@wp.kernel(enable_backward=False)
def search(
    x: wp.array(dtype=wp.float64),
    order: wp.array(dtype=wp.int32),
    who: wp.array(dtype=wp.int32),
    start: wp.array(dtype=wp.int32),
    end: wp.array(dtype=wp.int32),
    guess: wp.array(dtype=wp.int32),
    found: wp.array(dtype=wp.int32),
    expected: wp.array(dtype=wp.int32),
):
    t = wp.tid()
    expected[t] = first_ahead(x, order, who[t], start[t], end[t])
    found[t] = first_ahead_near(x, order, who[t], start[t], end[t], guess[t])


def test_a_search_finds_the_same_from_any_guess():
    random = np.random.default_rng(0)
    cars, searches = 60, 4000
    x = random.integers(0, 40, cars).astype(float)  # some at the same place
    order = np.lexsort((np.arange(cars), x))
    bounds = np.sort(random.integers(0, cars + 1, (2, searches)), axis=0)  # some empty
    guess = random.integers(-5, cars + 5, searches)
    who = random.integers(0, cars, searches)
    given = [wp.array(x, dtype=wp.float64, device="cpu")]
    given += [wp.array(v, dtype=wp.int32, device="cpu") for v in (order, who, *bounds, guess)]
    found, expected = (wp.zeros(searches, dtype=wp.int32, device="cpu") for _ in range(2))
    wp.launch(search, dim=searches, inputs=[*given, found, expected], device="cpu")
    assert np.array_equal(found.numpy(), expected.numpy())
    assert len(np.unique(expected.numpy())) > 50
