"""The thread that finishes strips: when, with what, and whom it tells."""

from __future__ import annotations

import logging
import queue
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import cv2
import numpy as np
import pytest
from sqlalchemy.exc import OperationalError

from almenara.alarms.records import EvidenceFile
from almenara.evidence import LocalEvidence
from camera_worker.history import History, Moment
from camera_worker.quality import Condition
from camera_worker.strip import contact_sheet
from camera_worker.strips import StripFinisher
from tests.support.camera import wait_for

MOMENT = datetime(2026, 3, 4, 5, 6, 7, 890000, tzinfo=UTC)
CELL_WIDTH = 488  # of a picture of 640x480 with its margin, pixels


def moment(at: float, grey: int = 100) -> Moment:
    jpeg = cv2.imencode(".jpg", np.full((480, 640, 3), grey, np.uint8))[1].tobytes()
    return Moment(at, MOMENT + timedelta(seconds=at), jpeg, Condition.GOOD, 0.1)


class Rig:
    """A history, an early strip in a store and the thread that finishes it."""

    def __init__(self, folder: Path, *, after: float) -> None:
        self.store = LocalEvidence(folder, leave_free=0)
        self.history = History(before=5, after=after)
        self.raising = moment(10, 200)
        for at in (8, 9):
            self.history.add(moment(at))
        early = contact_sheet(self.history.around(10), self.raising)
        (self.early,) = self.store.save("outflow", {"strip.jpg": early})
        self.finished: list[EvidenceFile] = []
        self.finisher = StripFinisher(self.store)
        self.finisher.start()
        self.finisher.expect(self.early, self.history, self.raising, self.finished.append)

    def shape(self) -> tuple[int, ...]:
        """Rows and columns of the finished strip, in pixels."""
        image = cv2.imdecode(np.frombuffer(self.store.read(self.finished[0]), np.uint8), cv2.IMREAD_COLOR)
        assert image is not None
        return tuple(image.shape[:2])


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    made = Rig(tmp_path, after=0.5)
    yield made
    made.finisher.stop(2)


def test_a_strip_is_finished_when_the_seconds_after_have_passed(rig: Rig) -> None:
    for at in (10.2, 10.4):
        rig.history.add(moment(at))
    assert rig.history.idle < 0.5
    assert rig.finished == []
    rig.history.add(moment(10.8))
    wait_for(lambda: rig.finished, 2, "the whole strip")
    assert rig.shape()[0] == 2 * (360 + 40) + 8


def test_the_whole_strip_is_told_under_the_name_of_the_early_one(rig: Rig) -> None:
    for at in (10.3, 10.8):
        rig.history.add(moment(at))
    wait_for(lambda: rig.finished, 2, "the whole strip")
    (whole,) = rig.finished
    assert (whole.name, whole.media_type) == ("strip.jpg", "image/jpeg")
    assert whole.sha256 != rig.early.sha256
    assert rig.store.read(rig.early), "messages on their way still show it"


def test_a_strip_of_a_camera_that_went_away_is_finished_too(rig: Rig) -> None:
    rig.history.add(moment(10.2))
    wait_for(lambda: rig.finished, 4, "the whole strip")
    assert rig.shape()[1] // CELL_WIDTH == 4


def test_at_the_end_strips_are_finished_with_what_there_is(tmp_path: Path) -> None:
    rig = Rig(tmp_path, after=60)
    rig.history.add(moment(13))
    assert rig.finished == []
    rig.finisher.stop(2)
    assert rig.shape()[1] // CELL_WIDTH == 3


def test_a_strip_that_cannot_be_replaced_is_logged_and_the_next_is_finished(
    rig: Rig, caplog: pytest.LogCaptureFixture
) -> None:
    absent = rig.early.model_copy(update={"uri": "/gone/strip.jpg"})
    rig.finisher.expect(absent, rig.history, rig.raising, rig.finished.append)
    rig.history.add(moment(10.8))
    wait_for(lambda: "gone/strip.jpg shows nothing of after the alarm" in caplog.text, 2)
    wait_for(lambda: rig.finished, 2, "the whole strip")
    assert len(rig.finished) == 1


def test_an_alarm_database_that_is_away_does_not_end_the_thread(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    def fail(_: EvidenceFile) -> None:
        raise OperationalError("UPDATE", {}, Exception("database is locked"))

    with caplog.at_level(logging.WARNING):
        rig.finisher.expect(rig.early, rig.history, rig.raising, fail)
        rig.history.add(moment(10.8))
        wait_for(lambda: "database is locked" in caplog.text, 2)
    rig.finisher.expect(rig.early, rig.history, moment(10.8), rig.finished.append)
    rig.history.add(moment(11.5))
    wait_for(lambda: len(rig.finished) == 2, 2, "the next strip")


def test_a_thread_with_no_strip_to_finish_sleeps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float | None] = []

    class Jobs(queue.SimpleQueue[object]):
        def get(self, block: bool = True, timeout: float | None = None) -> object:
            waits.append(timeout)
            return super().get(block, timeout)

    monkeypatch.setattr("camera_worker.strips.queue.SimpleQueue", Jobs)
    rig = Rig(tmp_path, after=0.2)
    rig.history.add(moment(10.1))
    wait_for(lambda: rig.finished, 4, "the whole strip")
    wait_for(lambda: waits[-1] is None, 1, "sleep without end")
    turns = len(waits)
    time.sleep(0.6)
    assert len(waits) == turns
    began = time.monotonic()
    rig.finisher.stop(2)
    assert time.monotonic() - began < 1
