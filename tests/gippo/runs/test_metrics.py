import io
import json
import math
import os
from functools import partial

import numpy as np
import pytest

from gippo.errors import TrainingFailedError, UserError
from gippo.runs.loggers import TensorBoardLogger
from gippo.runs.metrics import MetricsLog, read_metrics


def write(folder, epochs, after=0, **more):
    log = MetricsLog(folder, after_epoch=after)
    for epoch in epochs:
        log.write({"epoch": epoch, "value": epoch / 10, **more})
    log.close()


def test_every_line_is_an_object_and_nan_is_null(tmp_path):
    write(tmp_path, [1, 2], bad=math.nan, worse=math.inf, none=None)
    lines = (tmp_path / "metrics.jsonl").read_text().splitlines()
    rows = [json.loads(line, parse_constant=pytest.fail) for line in lines]
    assert rows[0] == {"epoch": 1, "value": 0.1, "bad": None, "worse": None, "none": None}
    assert isinstance(rows[1]["epoch"], int)


def test_a_row_is_in_the_file_at_once(tmp_path):
    log = MetricsLog(tmp_path)
    log.write({"epoch": 1})
    assert (tmp_path / "metrics.jsonl").read_text() == '{"epoch": 1}\n'
    log.close()


def test_columns_come_back_with_nan_for_what_is_not_there(tmp_path):
    write(tmp_path, [1])
    write(tmp_path, [2], after=1, late=3.0)
    columns = read_metrics(tmp_path)
    np.testing.assert_array_equal(columns["epoch"], [1, 2])
    np.testing.assert_array_equal(columns["late"], [math.nan, 3.0])


def test_going_on_cuts_what_came_after(tmp_path):
    write(tmp_path, range(1, 6))
    path = tmp_path / "metrics.jsonl"
    with path.open("a") as file:
        file.write('{"epoch": 6, "val')  # killed while writing
    before = path.read_text().splitlines()[:3]
    write(tmp_path, [4], after=3)
    assert path.read_text().splitlines() == [*before, '{"epoch": 4, "value": 0.4}']


@pytest.mark.parametrize(
    "content",
    [
        b'{"epoch": 1}\n\x00\x00\n{"epoch": 3}\n',
        b'{"epoch": 1}\n{"epoch": "2"}\n{"epoch": 3}\n',
        b'{"epoch": 1}\n{"epoch": 2, "v": []}\n{"epoch": 3}\n',
        b'{"epoch": 1}\n{"epoch": 2, "v": 1' + b"0" * 400 + b'}\n{"epoch": 3}\n',
        b'{"epoch": 1}\n' + b"[" * 10**5 + b'\n{"epoch": 3}\n',
        b'{"epoch": 1}\n{"epoch": 2}\n',
        b"damaged from its first line\n",
    ],
)
def test_a_damaged_file_is_refused_and_left_alone(tmp_path, content):
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"metrics\.jsonl is damaged after epoch [012],.*epoch 3"):
        MetricsLog(tmp_path, after_epoch=3)
    assert path.read_bytes() == content


def test_a_file_that_was_moved_away_begins_again(tmp_path):
    write(tmp_path, [4, 5], after=3)
    write(tmp_path, [4], after=3)
    assert (tmp_path / "metrics.jsonl").read_text() == '{"epoch": 4, "value": 0.4}\n'


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="a device of Linux")
def test_a_full_disk_is_told_of_with_the_file(tmp_path):
    log = MetricsLog(tmp_path)
    log._file.close()
    log._file = io.FileIO("/dev/full", "ab")
    with pytest.raises(TrainingFailedError, match=r"metrics\.jsonl cannot be written \(No space"):
        log.write({"epoch": 1})
    log.close()


def test_starting_over_starts_empty(tmp_path):
    write(tmp_path, range(1, 6))
    write(tmp_path, [1], after=0)
    assert len((tmp_path / "metrics.jsonl").read_text().splitlines()) == 1


def test_a_cut_last_line_is_passed_over_and_nothing_is_an_error(tmp_path):
    (tmp_path / "metrics.jsonl").write_text('{"epoch": 1, "v": 1.5}\n{"epoch": 2, "v')
    np.testing.assert_array_equal(read_metrics(tmp_path)["v"], [1.5])
    (tmp_path / "metrics.jsonl").write_text('{"epo')
    with pytest.raises(UserError, match="no epoch"):
        read_metrics(tmp_path)
    with pytest.raises(UserError, match=r"metrics\.jsonl"):
        read_metrics(tmp_path / "nowhere")


def test_tensorboard_events_hold_the_numbers(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    log = MetricsLog(tmp_path, loggers=[partial(TensorBoardLogger, tmp_path)])
    for epoch in (1, 2):
        log.write({"epoch": epoch, "kl": epoch / 10, "episode_return": math.nan})
    log.close()
    events = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    assert [(e.step, pytest.approx(e.value)) for e in events.Scalars("actor/kl")] == [
        (1, 0.1),
        (2, 0.2),
    ]
    assert events.Tags()["scalars"] == ["actor/kl"]
