"""Verdicts for a pipe: a reader that is slow, gone or out of space never stops the cameras."""

from __future__ import annotations

import json
import logging
import os
import threading
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest

from almenara.contracts import VisionVerdict
from camera_worker.cli.verdicts import MOST_WAITING, VerdictLines
from camera_worker.states import Scored
from tests.support.camera import wait_for

VERDICT = VisionVerdict.model_validate(
    {
        "model": {"name": "wall", "version": "3", "alias": "champion"},
        "label": "normal",
        "score": 1.0,
        "anomaly": 0.1,
        "p_value": 0.6,
        "threshold": 5.0,
        "regions": [],
        "heatmap": {"media_type": "image/png", "base64": "AAAA"},
    }
)


def scored(position: float | None = None) -> Scored:
    return Scored(
        camera="línea",
        captured_at=datetime(2026, 11, 2, 6, tzinfo=UTC),
        jpeg=b"",
        verdict=VERDICT,
        age=0.1234,
        posted_age=0.0501,
        position=position,
    )


class Pipe:
    """A pipe whose reader reads only when it is told to."""

    def __init__(self) -> None:
        self.reader, self.writer = os.pipe()

    def __enter__(self) -> Pipe:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self.writer)

    def read_all(self) -> list[bytes]:
        with os.fdopen(self.reader, "rb") as file:
            return file.readlines()


def never() -> None:
    raise AssertionError("the reader is there")


def warnings_of(caplog: pytest.LogCaptureFixture) -> list[str]:
    """What the lines warned of."""
    records = [record for record in caplog.records if record.name == "camera_worker.cli.verdicts"]
    return [record.getMessage() for record in records if record.levelno == logging.WARNING]


def test_a_line_holds_the_verdict_its_times_and_no_heatmap() -> None:
    with Pipe() as pipe, VerdictLines(never, complete=True, output=pipe.writer) as lines:
        lines.report(scored(position=2.5))
    (line,) = pipe.read_all()
    verdict = json.loads(line)
    assert verdict["camera"] == "línea"
    assert verdict["captured_at"] == "2026-11-02T06:00:00+00:00"
    assert (verdict["position_seconds"], verdict["posted_age_seconds"], verdict["age_seconds"]) == (2.5, 0.05, 0.123)
    assert (verdict["anomaly"], verdict["label"]) == (0.1, "normal")
    assert "heatmap" not in verdict


def test_a_live_source_has_no_position() -> None:
    with Pipe() as pipe, VerdictLines(never, complete=False, output=pipe.writer) as lines:
        lines.report(scored())
    assert "position_seconds" not in json.loads(pipe.read_all()[0])


def test_a_reader_that_has_gone_is_told_once_and_without_noise(caplog: pytest.LogCaptureFixture) -> None:
    closed: list[bool] = []
    with Pipe() as pipe:
        os.close(pipe.reader)
        with VerdictLines(lambda: closed.append(True), complete=True, output=pipe.writer) as lines:
            for _ in range(5):
                lines.report(scored())
    assert closed == [True]
    assert not warnings_of(caplog)


def test_a_stuck_reader_of_cameras_costs_lines_and_no_time(caplog: pytest.LogCaptureFixture) -> None:
    number = 2 * MOST_WAITING
    with Pipe() as pipe:
        start = time.monotonic()
        with VerdictLines(never, complete=False, output=pipe.writer) as lines:
            for _ in range(number):
                lines.report(scored())
            assert time.monotonic() - start < 1
        assert time.monotonic() - start < 4
    assert 0 < lines.left_out < number
    assert warnings_of(caplog) == [
        "whoever reads the verdicts is too slow: some are left out",
        f"{lines.left_out} verdicts were not printed: their reader was too slow",
    ]


def test_a_slow_reader_of_a_file_gets_every_line() -> None:
    number = 2 * MOST_WAITING
    with Pipe() as pipe:
        received: list[bytes] = []

        def read_late() -> None:
            time.sleep(0.3)
            received.extend(pipe.read_all())

        reader = threading.Thread(target=read_late)
        reader.start()
        with VerdictLines(never, complete=True, output=pipe.writer) as lines:
            for position in range(number):
                lines.report(scored(position=position))
    reader.join(5)
    assert [json.loads(line)["position_seconds"] for line in received] == list(range(number))


def test_a_stuck_reader_of_a_file_does_not_hold_up_an_end_that_was_asked_for(caplog: pytest.LogCaptureFixture) -> None:
    with Pipe() as pipe:
        lines = VerdictLines(never, complete=True, output=pipe.writer)
        with lines:

            def report() -> None:
                for _ in range(5 * MOST_WAITING):
                    lines.report(scored())

            threading.Thread(target=report, daemon=True).start()
            wait_for(lines._waiting.full, 3)
            lines.hurry()
            start = time.monotonic()
        assert time.monotonic() - start < 3
    assert f"{MOST_WAITING} verdicts were not printed" in caplog.text


def full() -> int:
    """A device that has no space left."""
    if not Path("/dev/full").exists():
        pytest.skip("there is no /dev/full here")
    return os.open("/dev/full", os.O_WRONLY)


def test_verdicts_of_a_file_that_cannot_be_written_are_an_error() -> None:
    closed: list[bool] = []
    output = full()

    def print_one() -> None:
        with VerdictLines(lambda: closed.append(True), complete=True, output=output) as lines:
            lines.report(scored())
            wait_for(lambda: closed, 2)

    with pytest.raises(OSError, match="No space left"):
        print_one()
    os.close(output)


def test_cameras_go_on_when_their_verdicts_cannot_be_written(caplog: pytest.LogCaptureFixture) -> None:
    output = full()
    with VerdictLines(never, complete=False, output=output) as lines:
        lines.report(scored())
    os.close(output)
    assert "verdicts can no longer be printed: No space left on device" in caplog.text
