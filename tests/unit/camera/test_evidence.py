"""Evidence on disk: the files of an alarm and the strip of pictures around it."""

from __future__ import annotations

import base64
import json
import os
import queue
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from almenara.contracts import ModelRef, Picture, VisionVerdict
from camera_worker.evidence import EvidenceFolder, replace_file
from camera_worker.history import History, Moment
from camera_worker.quality import Condition
from camera_worker.strip import MOST_PICTURES, contact_sheet
from camera_worker.strips import StripFinisher
from tests.support.camera import wait_for

MOMENT = datetime(2026, 3, 4, 5, 6, 7, 890000, tzinfo=UTC)
VERDICT = VisionVerdict(
    model=ModelRef(name="wall", version="3"), label="anomaly", score=9, anomaly=0.9, p_value=0.01, threshold=5
)
CELL = (480, 360)  # of a picture of 640x480, pixels


def jpeg(grey: int, size: tuple[int, int] = (640, 480)) -> bytes:
    return cv2.imencode(".jpg", np.full((size[1], size[0], 3), grey, np.uint8))[1].tobytes()


def moment(at: float, grey: int = 100, *, condition: Condition = Condition.GOOD, anomaly: float | None = 0.1) -> Moment:
    return Moment(at, MOMENT + timedelta(seconds=at), jpeg(grey), condition, anomaly)


def drawn(sheet: bytes) -> NDArray[np.uint8]:
    image = cv2.imdecode(np.frombuffer(sheet, np.uint8), cv2.IMREAD_COLOR)
    assert image is not None
    return np.asarray(image, dtype=np.uint8)


def cells(sheet: bytes, count: int) -> list[NDArray[np.uint8]]:
    """The pictures of a sheet of such 4:3 pictures, in their order."""
    image = drawn(sheet)
    across = min(4, count)
    found = []
    for index in range(count):
        left = 8 + index % across * (CELL[0] + 8)
        top = 8 + index // across * (CELL[1] + 32 + 8)
        found.append(image[top : top + CELL[1], left : left + CELL[0]])
    return found


def framed(sheet: bytes) -> int:
    """How many pixels are of the frame's red."""
    blue, green, red = (drawn(sheet)[:, :, channel].astype(int) for channel in range(3))
    return int(((red > 180) & (blue < 90) & (green < 90)).sum())


def test_frame_overlay_strip_and_verdict_are_saved(tmp_path: Path) -> None:
    overlay = Picture(media_type="image/png", base64=base64.b64encode(b"overlay").decode())
    verdict = VERDICT.model_copy(update={"heatmap": overlay})
    paths = EvidenceFolder(tmp_path / "evidence").save("outflow", MOMENT, b"jpeg", verdict, strip=b"strip")
    folder = tmp_path / "evidence" / "20260304T050607.890Z-outflow"
    assert paths == tuple(str(folder / name) for name in ("frame.jpg", "overlay.png", "strip.jpg", "verdict.json"))
    assert (folder / "frame.jpg").read_bytes() == b"jpeg"
    assert (folder / "overlay.png").read_bytes() == b"overlay"
    assert (folder / "strip.jpg").read_bytes() == b"strip"
    document = json.loads((folder / "verdict.json").read_text())
    assert document["verdict"]["model"]["version"] == "3"
    assert "heatmap" not in document["verdict"]
    assert document["captured_at"] == "2026-03-04T05:06:07.890000+00:00"


def test_without_an_overlay_there_is_no_overlay_file(tmp_path: Path) -> None:
    paths = EvidenceFolder(tmp_path).save("outflow", MOMENT, b"jpeg", VERDICT)
    assert [Path(path).name for path in paths] == ["frame.jpg", "verdict.json"]


def test_an_overlay_that_cannot_be_read_does_not_cost_the_frame(tmp_path: Path) -> None:
    verdict = VERDICT.model_copy(update={"heatmap": Picture(media_type="image/png", base64="no base64!")})
    paths = EvidenceFolder(tmp_path).save("outflow", MOMENT, b"jpeg", verdict)
    assert [Path(path).name for path in paths] == ["frame.jpg", "verdict.json"]


def test_evidence_of_the_same_moment_stays_when_a_video_is_played_again(tmp_path: Path) -> None:
    folder = EvidenceFolder(tmp_path)
    saved = [Path(folder.save("outflow", MOMENT, content, VERDICT)[0]) for content in (b"one", b"two", b"three")]
    assert [path.read_bytes() for path in saved] == [b"one", b"two", b"three"]
    first = "20260304T050607.890Z-outflow"
    assert sorted(path.name for path in tmp_path.iterdir()) == [first, f"{first}-2", f"{first}-3"]


def test_evidence_and_its_names_are_on_the_disk_before_it_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[str] = []

    def sync(descriptor: int) -> None:
        synced.append(str(Path(f"/proc/self/fd/{descriptor}").readlink()))

    monkeypatch.setattr(os, "fsync", sync)
    frame, _ = EvidenceFolder(tmp_path / "evidence").save("outflow", MOMENT, b"jpeg", VERDICT)
    *files, partial, folder, above = synced
    assert [Path(file).name for file in files] == ["frame.jpg", "verdict.json"]
    assert {str(Path(file).parent) for file in files} == {partial}
    assert (folder, above) == (str(tmp_path / "evidence"), str(tmp_path))
    replace_file(Path(frame), b"new")
    assert synced[-1] == str(Path(frame).parent)


def test_a_folder_that_cannot_be_written_is_an_oserror_and_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "evidence").write_text("in the way")
    with pytest.raises(OSError, match="evidence"):
        EvidenceFolder(tmp_path / "evidence").save("outflow", MOMENT, b"jpeg", VERDICT)


def test_a_file_that_cannot_be_replaced_stays_and_nothing_is_left_beside_it(tmp_path: Path) -> None:
    (tmp_path / "strip.jpg").mkdir()
    with pytest.raises(OSError, match=r"strip\.jpg"):
        replace_file(tmp_path / "strip.jpg", b"new")
    assert [path.name for path in tmp_path.iterdir()] == ["strip.jpg"]


def test_a_strip_shows_the_moments_in_their_order_and_frames_the_raising_one() -> None:
    raising = moment(10, 200, anomaly=0.9)
    sheet = contact_sheet([moment(9, 40), raising, moment(11, 120)], raising)
    brightness = [float(np.median(cell)) for cell in cells(sheet, 3)]
    assert brightness == pytest.approx([40, 200, 120], abs=6)
    assert framed(sheet) > 2000


def test_the_raising_moment_is_shown_though_the_history_has_thinned_it_out() -> None:
    raising = moment(10, 200)
    sheet = contact_sheet([moment(9, 40), moment(11, 120)], raising)
    brightness = [float(np.median(cell)) for cell in cells(sheet, 3)]
    assert brightness == pytest.approx([40, 200, 120], abs=6)


def test_of_many_moments_twelve_are_shown_evenly_spread() -> None:
    raising = moment(24, 250)
    sheet = contact_sheet([moment(at, 20 + at * 4) for at in range(48)], raising)
    assert drawn(sheet).shape == (3 * (CELL[1] + 40) + 8, 4 * (CELL[0] + 8) + 8, 3)
    assert drawn(sheet).shape[1] <= 2000
    shown = [float(np.median(cell)) for cell in cells(sheet, MOST_PICTURES)]
    assert sum(grey > 240 for grey in shown) == 1
    assert shown[0] == pytest.approx(20, abs=6)
    assert shown[-1] == pytest.approx(20 + 47 * 4, abs=6)


def test_pictures_of_another_shape_are_fitted_in() -> None:
    raising = moment(1)
    odd = [
        Moment(0, MOMENT, jpeg(200, size), Condition.GOOD) for size in ((64, 1024), (1024, 64), (16, 16), (320, 240))
    ]
    for other in odd:
        assert len(cells(contact_sheet([other], raising), 2)) == 2


def test_a_moment_that_cannot_be_read_is_left_empty() -> None:
    raising = moment(1, 200)
    sheet = contact_sheet(
        [Moment(0, MOMENT, b"no picture", Condition.GOOD), Moment(0.5, MOMENT, b"", Condition.GOOD)], raising
    )
    assert [float(np.median(cell)) for cell in cells(sheet, 3)] == pytest.approx([32, 32, 200], abs=6)


def test_a_raising_picture_that_cannot_be_read_is_an_error() -> None:
    with pytest.raises(ValueError, match="cannot be decoded"):
        contact_sheet([], Moment(0, MOMENT, b"no picture", Condition.GOOD))


class Rig:
    """A history, an early strip on disk and the thread that finishes it."""

    def __init__(self, folder: Path, *, after: float) -> None:
        self.path = folder / "strip.jpg"
        self.history = History(before=5, after=after)
        self.raising = moment(10, 200)
        for at in (8, 9):
            self.history.add(moment(at))
        self.early = contact_sheet(self.history.around(10), self.raising)
        self.path.write_bytes(self.early)
        self.finisher = StripFinisher()
        self.finisher.start()
        self.finisher.expect(self.path, self.history, self.raising)

    @property
    def pictures(self) -> int:
        return int(drawn(self.path.read_bytes()).shape[1]) // (CELL[0] + 8)


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    made = Rig(tmp_path, after=0.5)
    yield made
    made.finisher.stop(2)


def test_a_strip_is_finished_when_the_seconds_after_have_passed(rig: Rig) -> None:
    for at in (10.2, 10.4):
        rig.history.add(moment(at))
    time.sleep(0.4)
    assert rig.path.read_bytes() == rig.early
    rig.history.add(moment(10.8))
    wait_for(lambda: rig.path.read_bytes() != rig.early, 2, "the whole strip")
    assert drawn(rig.path.read_bytes()).shape[0] == 2 * (CELL[1] + 40) + 8
    assert [path.name for path in rig.path.parent.iterdir()] == ["strip.jpg"]


def test_a_strip_of_a_camera_that_went_away_is_finished_too(rig: Rig) -> None:
    rig.history.add(moment(10.2))
    wait_for(lambda: rig.path.read_bytes() != rig.early, 4, "the whole strip")
    assert rig.pictures == 4


def test_at_the_end_strips_are_finished_with_what_there_is(tmp_path: Path) -> None:
    rig = Rig(tmp_path, after=60)
    rig.history.add(moment(13))
    assert rig.pictures == 2
    rig.finisher.stop(2)
    assert rig.pictures == 3


def test_a_strip_that_cannot_be_replaced_is_told_and_the_next_is_finished(
    rig: Rig, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    absent = tmp_path / "gone" / "strip.jpg"
    rig.finisher.expect(absent, rig.history, rig.raising)
    rig.history.add(moment(10.3))
    rig.history.add(moment(10.8))
    wait_for(lambda: "gone/strip.jpg shows nothing of after the alarm" in caplog.text, 2)
    wait_for(lambda: rig.path.read_bytes() != rig.early, 2)


def test_a_thread_with_no_strip_to_finish_sleeps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float | None] = []

    class Jobs(queue.SimpleQueue[object]):
        def get(self, block: bool = True, timeout: float | None = None) -> object:
            waits.append(timeout)
            return super().get(block, timeout)

    monkeypatch.setattr("camera_worker.strips.queue.SimpleQueue", Jobs)
    rig = Rig(tmp_path, after=0.2)
    rig.history.add(moment(10.1))
    wait_for(lambda: rig.path.read_bytes() != rig.early, 4, "the whole strip")
    wait_for(lambda: waits[-1] is None, 1, "sleep without end")
    turns = len(waits)
    time.sleep(0.6)
    assert len(waits) == turns
    began = time.monotonic()
    rig.finisher.stop(2)
    assert time.monotonic() - began < 1
