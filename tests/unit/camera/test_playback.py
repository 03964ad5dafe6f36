"""Playback: a video file in its own time."""

from __future__ import annotations

import os
import re
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import av
import numpy as np
import pytest

from camera_worker.capture import CaptureState
from camera_worker.playback import Playback, recorded_at
from camera_worker.slot import Frame
from camera_worker.sources import ReadOptions, Source
from tests.support.camera import wait_for, write_video
from tests.unit.camera.test_sources import write_with_b_frames


def playing(path: Path, *, fps: float | None = None, options: ReadOptions | None = None) -> Playback:
    playback = Playback(Source.parse(str(path)), fps=fps, options=options)
    playback.start()
    return playback


def frames_of(playback: Playback) -> list[Frame]:
    return list(iter(playback.next_frame, None))


def test_every_picture_comes_once_in_the_files_time(tmp_path: Path) -> None:
    playback = playing(write_video(tmp_path / "a.mp4", frames=30))
    assert playback.state is CaptureState.CONNECTING
    begun = time.monotonic()
    frames = frames_of(playback)
    assert time.monotonic() - begun < 2, "nobody waits for the file's own speed"
    positions = [frame.monotonic - frames[0].monotonic for frame in frames]
    assert positions == pytest.approx([index / 10 for index in range(30)])
    assert [frame.sequence for frame in frames] == list(range(1, 31))
    assert frames[-1].captured_at - frames[0].captured_at == timedelta(seconds=2.9)


def test_a_slow_taker_misses_nothing(tmp_path: Path) -> None:
    playback = playing(write_video(tmp_path / "a.mp4", frames=10))
    count = 0
    while playback.next_frame():
        time.sleep(0.02)
        count += 1
    assert count == 10


@pytest.mark.parametrize(("fps", "positions"), [(2.0, [0, 0.5, 1.0, 1.5]), (3.0, [0, 0.4, 0.7, 1.0, 1.4, 1.7])])
def test_pictures_are_sampled_in_the_files_time(tmp_path: Path, fps: float, positions: list[float]) -> None:
    frames = frames_of(playing(write_video(tmp_path / "a.mp4", frames=20), fps=fps))
    assert [frame.monotonic - frames[0].monotonic for frame in frames] == pytest.approx(positions)


def test_more_pictures_than_there_are_cannot_be_sampled(tmp_path: Path) -> None:
    assert len(frames_of(playing(write_video(tmp_path / "a.mp4", frames=20), fps=50))) == 20


def test_what_was_played_is_measured(tmp_path: Path) -> None:
    playback = playing(write_with_b_frames(tmp_path / "a.mp4"))
    frames_of(playback)
    assert (playback.state, playback.reason) == (CaptureState.ENDED, "")
    assert playback.meter.size == (320, 240)
    assert playback.meter.keyframe_interval == pytest.approx(1.0)
    assert playback.meter.fps > 20
    assert playback.meter.damaged_share == 0
    assert time.monotonic() - playback.meter.seen_at < 5
    assert (playback.meter.counters.frames, playback.meter.counters.connections) == (30, 1)


def test_key_frames_alone_may_be_played(tmp_path: Path) -> None:
    path = write_with_b_frames(tmp_path / "a.mp4")
    assert len(frames_of(playing(path, options=ReadOptions(keyframes_only=True)))) == 3


def test_a_recording_tells_its_own_time(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    written = write_video(tmp_path / "plain.mp4", frames=3)
    with av.open(str(written)) as source, av.open(str(path), "w") as target:
        target.metadata["creation_time"] = "2024-05-06T07:08:09.000000Z"
        stream = target.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.size:
                packet.stream = stream
                target.mux(packet)
    assert frames_of(playing(path))[0].captured_at == datetime(2024, 5, 6, 7, 8, 9, tzinfo=UTC)


def test_a_recording_that_does_not_ends_when_its_file_was_written_and_says_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    path = write_video(tmp_path / "a.mkv", frames=30)
    os.utime(path, (1_700_000_000, 1_700_000_000))
    assert frames_of(playing(path))[0].captured_at == datetime.fromtimestamp(1_700_000_000 - 3, UTC)
    assert caplog.text.count("guessed from the file's date") == 1


def test_a_recording_of_unknown_length_begins_when_its_file_was_written(tmp_path: Path) -> None:
    path = tmp_path / "a.h264"
    with av.open(str(path), "w", format="h264") as target:
        stream = target.add_stream("libx264", rate=10)
        stream.width, stream.height, stream.pix_fmt = 32, 32, "yuv420p"
        target.mux(stream.encode(av.VideoFrame(32, 32, "yuv420p")))
        target.mux(stream.encode())
    os.utime(path, (1_700_000_000, 1_700_000_000))
    assert recorded_at(path) == (datetime.fromtimestamp(1_700_000_000, UTC), False)


@pytest.mark.parametrize(
    ("written", "made"), [("2024-05-06 07:08:09", 7), ("2024-05-06T07:08:09+02:00", 5), ("yesterday", None)]
)
def test_times_are_read_as_they_are_written(tmp_path: Path, written: str, made: int | None) -> None:
    path = tmp_path / "a.mkv"
    with av.open(str(path), "w") as target:
        target.metadata["CREATION_TIME"] = written
        stream = target.add_stream("libx264", rate=10)
        stream.width, stream.height, stream.pix_fmt = 32, 32, "yuv420p"
        target.mux(stream.encode(av.VideoFrame(32, 32, "yuv420p")))
        target.mux(stream.encode())
    recorded, told = recorded_at(path)
    assert (recorded.hour == made) if told else (made is None and recorded.year > 2024)


@pytest.mark.parametrize("name", ["a.mp4", "a.jpg"])
def test_a_file_without_pictures_ends_with_a_reason(tmp_path: Path, name: str) -> None:
    file = tmp_path / name
    file.write_text("hello, I am text" * 10)
    playback = playing(file)
    assert playback.next_frame() is None
    assert playback.state is CaptureState.ENDED
    assert playback.reason.startswith("it holds no picture that can be read: ")


@pytest.mark.parametrize(("extension", "length"), [("mkv", "4.0"), ("flv", "4.2")])
def test_a_file_that_breaks_off_says_where(tmp_path: Path, extension: str, length: str) -> None:
    whole = write_video(tmp_path / f"a.{extension}", frames=40).read_bytes()
    file = tmp_path / f"cut.{extension}"
    file.write_bytes(whole[: len(whole) // 2])
    playback = playing(file)
    assert 0 < len(frames_of(playback)) < 30
    assert playback.state is CaptureState.ENDED
    assert re.search(rf"it breaks off after [0-2]\.\d s of {length} s", playback.reason)


def test_a_hole_in_a_file_is_told(tmp_path: Path) -> None:
    """The reader goes on behind what it does not understand, and shows no damage."""
    whole = bytearray(write_video(tmp_path / "a.mkv", frames=100).read_bytes())
    whole[len(whole) // 3 : len(whole) // 2] = bytes(len(whole) // 2 - len(whole) // 3)
    file = tmp_path / "hole.mkv"
    file.write_bytes(whole)
    playback = playing(file)
    assert frames_of(playback)
    assert re.search(r"it holds no pictures for \d\.\d s within", playback.reason)


def test_damaged_pictures_of_a_file_are_told(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4", frames=40)
    with av.open(str(path)) as container:
        packet = next(packet for index, packet in enumerate(container.demux(video=0)) if index == 20)
        at, size = packet.pos, packet.size
    assert at is not None
    damaged = bytearray(path.read_bytes())
    damaged[at : at + size] = bytes(size)
    path.write_bytes(damaged)
    playback = playing(path)
    assert len(frames_of(playback)) < 40
    assert re.fullmatch(r"\d+ of its \d+ pictures are damaged", playback.reason)


def test_a_film_shorter_than_its_sound_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    with av.open(str(path), "w") as container:
        video, sound = container.add_stream("libx264", rate=10), container.add_stream("aac", rate=8000)
        video.width, video.height, video.pix_fmt = 32, 32, "yuv420p"
        for _ in range(10):
            container.mux(video.encode(av.VideoFrame(32, 32, "yuv420p")))
        container.mux(video.encode())
        for _ in range(4):
            frame = av.AudioFrame.from_ndarray(np.zeros((1, 8000), np.float32), format="fltp", layout="mono")
            frame.sample_rate = 8000
            container.mux(sound.encode(frame))
        container.mux(sound.encode())
    playback = playing(path)
    assert len(frames_of(playback)) == 10
    assert playback.reason == ""


def test_a_file_that_vanishes_ends_with_a_reason(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4", frames=3)
    playback = Playback(Source.parse(str(path)))
    path.unlink()
    playback.start()
    assert playback.next_frame() is None
    assert playback.reason


def test_stop_ends_the_file_at_once(tmp_path: Path) -> None:
    playback = playing(write_video(tmp_path / "a.mp4", frames=30))
    assert playback.next_frame() is not None
    playback.stop()
    assert playback.next_frame() is None
    assert playback.state is CaptureState.ENDED
    assert playback.alive


def test_a_read_that_blocks_shows_as_silence_and_is_not_awaited(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As from a network drive that is gone."""
    released = threading.Event()

    def read_file(*_: object) -> Iterator[tuple[float, av.VideoFrame]]:
        yield 0.0, av.VideoFrame(32, 32, "yuv420p")
        released.wait(5)
        yield 0.1, av.VideoFrame(32, 32, "yuv420p")

    monkeypatch.setattr("camera_worker.playback.read_file", read_file)
    playback = playing(write_video(tmp_path / "a.mp4", frames=3))
    assert playback.next_frame() is not None
    assert playback.silence == 0.0
    reader = threading.Thread(target=playback.next_frame, daemon=True)
    reader.start()
    wait_for(lambda: playback.silence > 0.2, 2)
    begun = time.monotonic()
    playback.stop()
    assert time.monotonic() - begun < 0.5
    released.set()
    reader.join(2)
    assert playback.state is CaptureState.ENDED


def test_an_unforeseen_error_ends_the_file_and_is_logged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def read_file(*_: object) -> Iterator[tuple[float, av.VideoFrame]]:
        raise MemoryError

    monkeypatch.setattr("camera_worker.playback.read_file", read_file)
    playback = playing(write_video(tmp_path / "a.mp4", frames=3))
    assert playback.next_frame() is None
    assert playback.reason == "reading failed (MemoryError)"
    assert "unforeseen" in caplog.text
