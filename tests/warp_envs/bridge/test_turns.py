import threading

import torch

from gippo.networks.native import AdamSettings, NativeAdam
from warp_envs.bridge.turns import capturing, launching

SOON = 0.1
LATE = 30.0


def started(work):
    """A thread that works, and the event that it has ended."""
    ended = threading.Event()

    def run():
        work()
        ended.set()

    threading.Thread(target=run, daemon=True).start()
    return ended


def test_a_native_step_on_another_thread_waits_for_the_capture_to_end():
    vector, mean, square = torch.zeros(3, 4)
    adam = NativeAdam(vector, mean, square)
    settings = AdamSettings(0.1, 0, 0.9, 0.999, 1e-8, 1.0, 1e-6)
    with capturing():
        stepped = started(lambda: adam.step(torch.ones(4), settings))
        assert not stepped.wait(SOON)
        assert not vector.any()
    assert stepped.wait(LATE)
    torch.testing.assert_close(vector, torch.full((4,), -0.1))


def test_a_capture_waits_for_the_launches_under_way_and_goes_before_new_ones():
    order, captured = [], threading.Event()

    def capture():
        with capturing():
            order.append("capture")
            captured.wait(LATE)

    def launch():
        with launching():
            order.append("launch")

    with launching(), launching():
        first = started(capture)
        assert not first.wait(SOON)
        second = started(launch)
        assert not second.wait(SOON)
        assert order == []
    captured.set()
    assert first.wait(LATE) and second.wait(LATE)
    assert order == ["capture", "launch"]
