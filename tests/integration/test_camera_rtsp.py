"""Capture from a real RTSP server over loopback, through every way in which a camera fails."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import av
import numpy as np
import pytest

from camera_worker.capture import Capture, CaptureState
from camera_worker.slot import LatestFrame
from camera_worker.sources import (
    ReadOptions,
    Source,
    SourceLostError,
    UnauthorisedError,
    Witness,
    read_source,
)
from camera_worker.sources.reading import decode
from tests.support.camera import CameraThread, Scene, simulated_camera, wait_for

QUICK = ReadOptions(connect=1.0, read=1.0, unauthorised=1.0)


@pytest.fixture
def camera() -> Iterator[CameraThread]:
    with simulated_camera() as running:
        yield running


@contextlib.contextmanager
def capturing(url: str, timing: ReadOptions = QUICK) -> Iterator[tuple[Capture, LatestFrame]]:
    slot = LatestFrame()
    capture = Capture(Source.parse(url), slot, options=timing)
    capture.start()
    try:
        yield capture, slot
    finally:
        capture.stop(timeout=timing.read + 1)


def live(capture: Capture) -> Callable[[], bool]:
    return lambda: capture.state is CaptureState.LIVE


def test_any_client_can_read_the_stream_over_tcp(camera: CameraThread) -> None:
    with av.open(camera.url, options={"rtsp_transport": "tcp"}, timeout=(3, 3)) as container:
        frames = [frame for _, frame in zip(range(5), container.decode(video=0), strict=False)]
    assert {(frame.width, frame.height) for frame in frames} == {(320, 240)}
    assert np.abs(frames[-1].to_ndarray(format="rgb24").astype(int) - Scene(noise=0)(0)).mean() < 12


def test_frames_arrive_and_keep_arriving(camera: CameraThread) -> None:
    with capturing(camera.url) as (capture, slot):
        wait_for(live(capture), 2)
        wait_for(lambda: capture.meter.counters.frames > 20, 3)
        frame = slot.newest()
        assert frame is not None
        assert time.monotonic() - frame.monotonic < 0.5
        assert capture.meter.counters.damaged == 0


def test_two_clients_see_the_same_stream(camera: CameraThread) -> None:
    with capturing(camera.url) as (first, _), capturing(camera.url) as (second, _):
        wait_for(lambda: first.meter.counters.frames > 5 and second.meter.counters.frames > 5, 4)


def test_who_comes_later_sees_a_picture_at_once(camera: CameraThread) -> None:
    """The stream has a key frame every two seconds, and an extra one for a new client."""
    with capturing(camera.url) as (first, _):
        wait_for(live(first), 2)
        for _ in range(4):
            with capturing(camera.url) as (later, _):
                wait_for(live(later), 0.7)


@pytest.mark.parametrize("fault", ["stall", "reset", "refuse", "slow"])
def test_a_lost_stream_is_noticed_and_comes_back_by_itself(camera: CameraThread, fault: str) -> None:
    with capturing(camera.url) as (capture, _):
        wait_for(live(capture), 2)
        if fault == "slow":  # only a client that asks something notices
            camera.switch("reset")
        camera.switch(fault)
        wait_for(lambda: capture.meter.counters.losses, QUICK.read + 0.5)
        camera.switch("none")
        wait_for(lambda: capture.state is CaptureState.LIVE and capture.meter.counters.connections == 2, 3.5)


def test_a_camera_that_does_not_answer_in_time_is_told_so(camera: CameraThread) -> None:
    camera.switch("slow=5")
    with pytest.raises(SourceLostError, match=r"^no answer for 0\.5 s$"):
        next(read_source(Source.parse(camera.url), ReadOptions(connect=0.5, read=3.0), Witness()))


@pytest.mark.slow
def test_a_stall_is_noticed_in_time_with_the_default_patience(camera: CameraThread) -> None:
    with capturing(camera.url, ReadOptions()) as (capture, _):
        wait_for(live(capture), 2)
        camera.switch("stall")
        assert wait_for(lambda: capture.state is CaptureState.OFFLINE, 4.0) > 2.5
        assert capture.reason == "nothing came for 3 s"


@pytest.mark.slow
def test_a_camera_that_listens_again_is_seen_within_two_seconds(camera: CameraThread) -> None:
    with capturing(camera.url) as (capture, _):
        wait_for(live(capture), 2)
        for connection in (2, 3):
            camera.stop()
            wait_for(lambda: capture.state is CaptureState.OFFLINE, 2)
            time.sleep(0.7)
            camera.start()
            wait_for(live(capture), 2.0)
            assert capture.meter.counters.connections == connection


def test_wrong_credentials_are_told_apart() -> None:
    with simulated_camera(user="plant.op", password="right") as camera:  # noqa: S106
        url = camera.url.replace("//", "//plant.op:wrong@")
        slot = LatestFrame()
        capture = Capture(Source.parse(url), slot, options=QUICK)
        capture.start()
        wait_for(lambda: capture.state is CaptureState.UNAUTHORISED, 2)
        capture.stop(timeout=1)
    assert "credentials" in capture.reason
    assert slot.newest() is None


def test_refused_credentials_are_not_tried_again_in_a_hurry(camera: CameraThread) -> None:
    camera.switch("unauthorised")
    with capturing(camera.url, ReadOptions(1.0, 1.0, unauthorised=30.0)) as (capture, _):
        wait_for(lambda: capture.state is CaptureState.UNAUTHORISED, 2)
        camera.switch("none")
        time.sleep(1.5)
        assert capture.state is CaptureState.UNAUTHORISED
        assert capture.silence < 1.0, "a thread that waits must not seem stuck"
        asked = time.monotonic()
        capture.stop(timeout=1.0)
        assert not capture.alive
        assert time.monotonic() - asked < 1.0


def test_odd_credentials_work() -> None:
    with simulated_camera(user="plant.op", password="p@ss w/rd:%") as camera:  # noqa: S106
        source = Source.parse(camera.url, username="plant.op", password="p@ss w/rd:%")  # noqa: S106
        capture = Capture(source, LatestFrame(), options=QUICK)
        capture.start()
        wait_for(live(capture), 2)
        capture.stop(timeout=2)


def test_credentials_that_are_refused_later_are_noticed(camera: CameraThread) -> None:
    with capturing(camera.url) as (capture, _):
        wait_for(live(capture), 2)
        camera.switch("unauthorised")
        wait_for(lambda: capture.state is CaptureState.UNAUTHORISED, 2)
        camera.switch("none")
        wait_for(live(capture), 3.5)


def test_no_error_shows_the_password() -> None:
    with simulated_camera(user="op", password="right") as camera:  # noqa: S106
        url = camera.url.replace("//", "//op:hunter2@")
        with pytest.raises(UnauthorisedError) as refused:
            next(read_source(Source.parse(url), QUICK, Witness()))
    with pytest.raises(SourceLostError) as gone:
        next(read_source(Source.parse(url), QUICK, Witness()))
    for error in (refused.value, gone.value):
        assert "hunter2" not in str(error)
        assert "hunter2" not in str(error.__cause__)
    assert "refused" in str(gone.value)


@pytest.mark.parametrize("fault", ["corrupt=0.2", "drop=0.2"])
def test_damaged_pictures_are_counted_and_never_put_into_the_slot(camera: CameraThread, fault: str) -> None:
    with capturing(camera.url) as (capture, slot):
        wait_for(live(capture), 2)
        camera.switch(fault)
        wait_for(lambda: capture.meter.counters.damaged > 5, 5)
        frame = slot.newest()
        assert frame is not None
        assert isinstance(frame.picture, av.VideoFrame)
        assert not frame.picture.is_corrupt
        camera.switch("none")
        before = capture.meter.counters.frames
        wait_for(lambda: capture.meter.counters.frames > before + 10, 5)


def test_a_change_of_size_is_followed_without_a_reconnection(camera: CameraThread) -> None:
    with capturing(camera.url) as (capture, slot):
        wait_for(live(capture), 2)
        camera.switch("resize=160x120")

        def small() -> bool:
            frame = slot.newest()
            return frame is not None and isinstance(frame.picture, av.VideoFrame) and frame.picture.height == 120

        wait_for(small, 3)
        assert capture.meter.counters.connections == 1


def test_the_control_port_switches_faults_and_tells_the_state(camera: CameraThread) -> None:
    with socket.create_connection(("127.0.0.1", camera.camera.control_port), 2) as control:
        lines = control.makefile("rw", encoding="utf-8", newline="\n")

        def say(command: str) -> str:
            lines.write(command + "\n")
            lines.flush()
            return lines.readline().strip()

        assert say("status") == "ok fault=none clients=0 packets=0"
        assert say("stall").startswith("ok fault=stall")
        assert say("reset").startswith("ok fault=none")
        assert say("explode").startswith("error: 'explode' is no fault.")
        with capturing(camera.url) as (capture, _):
            wait_for(live(capture), 2)
            assert "clients=1" in say("status")


def test_a_client_that_does_not_speak_rtsp_harms_nobody(camera: CameraThread) -> None:
    with socket.create_connection(("127.0.0.1", camera.port), 2) as stranger:
        stranger.sendall(b"\x00\xff hello\r\n\r\n")
        assert stranger.recv(100) == b""
    with capturing(camera.url) as (capture, _):
        wait_for(live(capture), 2)


# --- UDP and key frames alone -----------------------------------------------------------------------------------

UDP = ReadOptions(connect=1.0, read=1.0, unauthorised=1.0, transport="udp")


def test_pictures_arrive_over_udp(camera: CameraThread) -> None:
    with capturing(camera.url, UDP) as (capture, _):
        wait_for(live(capture), 2)
        wait_for(lambda: capture.meter.counters.frames > 20, 3)
        assert capture.meter.counters.damaged == 0


def test_silence_over_udp_is_noticed_in_time_and_ends_by_itself(camera: CameraThread) -> None:
    with capturing(camera.url, UDP) as (capture, _):
        wait_for(live(capture), 2)
        camera.switch("stall")
        wait_for(lambda: capture.state is CaptureState.OFFLINE, UDP.read + 0.5)
        camera.switch("none")
        wait_for(live(capture), 3.5)


def test_udp_that_never_arrives_may_be_a_firewalls(camera: CameraThread) -> None:
    camera.switch("stall")
    with capturing(camera.url, UDP) as (capture, _):
        wait_for(lambda: capture.state is CaptureState.OFFLINE, 4)
        assert "say transport: tcp" in capture.reason


def test_a_camera_that_refuses_udp_is_told_with_the_cure(camera: CameraThread) -> None:
    camera.switch("udp=off")
    with capturing(camera.url, UDP) as (capture, _):
        wait_for(lambda: capture.state is CaptureState.OFFLINE, 2)
        assert capture.reason == "the camera refuses UDP (461): say transport: tcp"


def test_lost_packets_over_udp_are_counted_and_the_rest_is_seen(camera: CameraThread) -> None:
    with capturing(camera.url, UDP) as (capture, _):
        wait_for(live(capture), 2)
        camera.switch("drop=0.05")
        wait_for(lambda: capture.meter.counters.damaged > 3, 5)
        before = capture.meter.counters.frames
        wait_for(lambda: capture.meter.counters.frames > before + 10, 5)
        assert 0 < capture.meter.damaged_share < 1


def test_key_frames_alone_are_decoded_and_the_rest_still_shows_that_it_sees(camera: CameraThread) -> None:
    with capturing(camera.url, ReadOptions(1.0, 1.0, keyframes_only=True)) as (capture, _):
        wait_for(live(capture), 2)
        wait_for(lambda: capture.meter.keyframe_interval, 5)
        assert capture.meter.counters.frames <= 3
        assert time.monotonic() - capture.meter.seen_at < 0.5
        assert capture.meter.keyframe_interval == pytest.approx(2.0, abs=0.1)


@pytest.mark.parametrize("path", ["/nothing", "/"])
def test_an_unknown_name_of_a_host_is_a_reason(path: str) -> None:
    with capturing(f"rtsp://no-such-camera.invalid{path}") as (capture, _):
        wait_for(lambda: capture.state is CaptureState.OFFLINE, 5)
        assert "no-such-camera.invalid" in capture.reason


def test_a_reader_that_cannot_keep_up_says_so_and_begins_anew(
    camera: CameraThread, monkeypatch: pytest.MonkeyPatch
) -> None:
    def slowly(*arguments: Any) -> Iterator[av.VideoFrame]:
        time.sleep(0.2)
        return decode(*arguments)

    with capturing(camera.url) as (capture, _):
        wait_for(live(capture), 2)
        monkeypatch.setattr("camera_worker.sources.rtsp.decode", slowly)
        wait_for(lambda: capture.meter.counters.losses, 8)
        assert "this machine is too slow" in capture.reason
        monkeypatch.setattr("camera_worker.sources.rtsp.decode", decode)
        wait_for(lambda: live(capture)() and capture.meter.lag < 0.3, 4)


@pytest.mark.slow
@pytest.mark.alone
@pytest.mark.parametrize("fps", [15, 25])
def test_a_healthy_camera_is_never_late_on_a_busy_machine(fps: int) -> None:
    with simulated_camera(fps=fps) as camera, capturing(camera.url) as (capture, _):
        busy = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(os.cpu_count() or 1)]
        try:
            wait_for(live(capture), 5)
            time.sleep(8)
            assert capture.meter.counters.losses == 0
            assert capture.meter.lag < 1
        finally:
            for process in busy:
                process.kill()
                process.wait()
