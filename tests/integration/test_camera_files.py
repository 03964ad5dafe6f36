"""Video files: every picture in order and in file time, none left out while the API is away."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from almenara.alarms import Phase
from almenara.errors import InputError
from camera_worker.camera import CameraState
from tests.support.camera import wait_for, write_video
from tests.support.worker import Rig, worker_rig

pytestmark = pytest.mark.slow


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    with worker_rig(tmp_path) as made:
        yield made


def film(video: Path, options: str = "", name: str = "film") -> str:
    return f"  - {{name: {name}, source: {video}, model: wall{options}}}"


def test_every_picture_is_scored_in_its_order_and_the_worker_ends(rig: Rig) -> None:
    video = write_video(rig.var.parent / "a.mp4", frames=100)
    started = time.monotonic()
    rig.run(rig.whole(film(video)))
    assert rig.exit.result(10) == 0
    assert time.monotonic() - started < 8  # it plays ten seconds
    positions = [scored.position or 0.0 for scored in rig.verdicts]
    assert positions == pytest.approx([index / 10 for index in range(100)], abs=0.002)
    recorded = video.stat().st_mtime - 10
    moments = [scored.captured_at.timestamp() - recorded for scored in rig.verdicts]
    assert moments == pytest.approx(positions, abs=0.01)
    assert max(scored.posted_age for scored in rig.verdicts) < 1
    assert rig.supervisor.cameras["film"].state is CameraState.ENDED


def test_a_film_that_breaks_off_is_scored_as_far_as_it_goes_and_told(
    rig: Rig, caplog: pytest.LogCaptureFixture
) -> None:
    video = write_video(rig.var.parent / "a.mkv", frames=40)
    whole = video.read_bytes()
    video.write_bytes(whole[: len(whole) // 2])
    rig.run(rig.whole(film(video)))
    assert rig.exit.result(10) == 0
    assert rig.verdicts
    (told,) = (record for record in caplog.records if " is ended: it breaks off after " in record.getMessage())
    assert told.levelname == "WARNING"


def test_with_a_rate_so_many_pictures_a_second_of_the_file_are_scored(rig: Rig) -> None:
    video = write_video(rig.var.parent / "a.mp4", frames=40)
    rig.run(rig.whole(film(video, ", fps: 2")))
    assert rig.exit.result(10) == 0
    assert [scored.position for scored in rig.verdicts] == pytest.approx([index / 2 for index in range(8)], abs=0.002)


@pytest.mark.parametrize("trouble", ["away", "503", "404"])
def test_no_picture_is_left_out_while_the_api_gives_no_verdict(rig: Rig, trouble: str) -> None:
    video = write_video(rig.var.parent / "a.mp4", frames=60)
    rig.api.delay = 0.03
    rig.run(rig.whole(film(video)))
    camera = rig.supervisor.cameras["film"]
    wait_for(lambda: len(rig.verdicts) > 10, 5)
    if trouble == "away":
        rig.api.stop()
    else:
        rig.api.mode = trouble
    wait_for(lambda: camera.counters.api_failures + camera.counters.refused > 3, 5)
    wait_for(lambda: rig.store.phase("film") is Phase.UNKNOWN, 2)
    sighting = camera.sighting(time.monotonic())
    assert sighting is not None
    assert sighting.of_detection
    assert not rig.exit.done()
    if trouble == "away":
        rig.api.start()
    else:
        rig.api.mode = "ok"
    assert rig.exit.result(10) == 0
    assert [round(10 * (scored.position or 0)) for scored in rig.verdicts] == list(range(60))


def test_an_answer_that_is_no_verdict_is_counted_and_the_film_goes_on(rig: Rig) -> None:
    video = write_video(rig.var.parent / "a.mp4", frames=10)
    rig.api.mode = "nan"
    rig.run(rig.whole(film(video)))
    assert rig.exit.result(10) == 0
    assert rig.supervisor.cameras["film"].counters.malformed == 10
    assert rig.verdicts == []


def test_a_picture_that_the_api_refuses_is_counted_and_the_film_goes_on(rig: Rig) -> None:
    video = write_video(rig.var.parent / "a.mp4", frames=10)
    rig.api.mode = "413"
    rig.run(rig.whole(film(video)))
    assert rig.exit.result(10) == 0
    assert rig.supervisor.cameras["film"].counters.refused == 10


def test_a_worker_can_be_stopped_while_a_film_waits_for_the_api(rig: Rig) -> None:
    video = write_video(rig.var.parent / "a.mp4", frames=10)
    rig.api.mode = "503"
    rig.run(rig.whole(film(video)))
    wait_for(lambda: rig.supervisor.cameras["film"].counters.refused > 1, 5)
    assert rig.stop() == 0


def test_an_anomaly_in_a_film_lasts_in_file_time(rig: Rig) -> None:
    """The on-delay is three seconds of the film, which are scored much faster."""
    video = write_video(rig.var.parent / "a.mp4", frames=60, anomalous_from=10)
    alarm = ", alarm: {threshold: 0.75, on_delay: 3s}, evidence: {before: 2s, after: 500ms}"
    rig.run(rig.whole(film(video, alarm)))
    assert rig.exit.result(10) == 0
    (raised,) = rig.alarms
    assert raised.source == "film"
    stamp = raised.raised_at.timestamp() - (video.stat().st_mtime - 6)
    assert stamp == pytest.approx(4.0, abs=0.15)


def test_a_file_in_real_time_is_sampled_as_a_camera_is(rig: Rig) -> None:
    video = write_video(rig.var.parent / "a.mp4", frames=30)
    rig.run(rig.whole(film(video, ", realtime: true, fps: 5")))
    started = time.monotonic()
    assert rig.exit.result(10) == 0
    assert time.monotonic() - started > 2.5
    assert len(rig.verdicts) in range(12, 18)
    assert {scored.position for scored in rig.verdicts} == {None}


def test_a_stream_beside_a_film_runs_on(rig: Rig) -> None:
    video = write_video(rig.var.parent / "a.mp4", frames=10)
    rig.run(rig.whole(rig.camera_text(), film(video)))
    wait_for(lambda: rig.supervisor.cameras["film"].state is CameraState.ENDED, 5)
    scored = rig.worker.counters.scored
    wait_for(lambda: rig.worker.counters.scored > scored + 5, 5)
    assert not rig.exit.done()
    assert rig.supervisor.cameras["film"].sighting(time.monotonic()) is None
    assert rig.stop() == 0


@pytest.mark.parametrize("realtime", ["", ", realtime: true"])
def test_a_file_without_a_picture_is_the_worker_s_failure(rig: Rig, realtime: str) -> None:
    notes = rig.var.parent / "notes.mp4"
    notes.write_text("no video")
    rig.run(rig.whole(film(notes, realtime)))
    with pytest.raises(InputError, match=r"notes\.mp4 holds no picture"):
        rig.exit.result(5)


def test_two_files_without_a_picture_are_both_told(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    notes = rig.var.parent / "notes.mp4"
    notes.write_text("no video")
    rig.run(rig.whole(film(notes, name="a"), film(notes, name="b")))
    with pytest.raises(InputError, match=r"notes\.mp4 holds no picture"):
        rig.exit.result(5)
    assert "a has failed for good" in caplog.text
    assert "b has failed for good" in caplog.text
