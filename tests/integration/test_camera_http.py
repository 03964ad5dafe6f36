"""Capture over HTTP: from the simulated camera (MJPEG and snapshots), and from servers that err as cameras do."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import itertools
import socket
import ssl
import subprocess
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from aiohttp import web

from camera_worker.capture import Capture, CaptureState
from camera_worker.slot import LatestFrame
from camera_worker.sources import ReadOptions, Source, SourceLostError, Witness, read_source
from tests.support.camera import CameraThread, LoopThread, Scene, simulated_camera, wait_for

QUICK = ReadOptions(connect=1.0, read=1.0, unauthorised=0.5, interval=0.1)
KINDS = ["mjpeg_url", "snapshot_url"]

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@pytest.fixture
def camera() -> Iterator[CameraThread]:
    with simulated_camera() as running:
        yield running


@contextlib.contextmanager
def capturing(source: Source, options: ReadOptions = QUICK) -> Iterator[tuple[Capture, LatestFrame]]:
    slot = LatestFrame()
    capture = Capture(source, slot, options=options)
    capture.start()
    try:
        yield capture, slot
    finally:
        capture.stop(timeout=options.read + 1)
        assert not capture.alive


@contextlib.contextmanager
def serving(handler: Handler, tls: ssl.SSLContext | None = None) -> Iterator[str]:
    """Address of a server that answers everything by `handler`."""
    with LoopThread() as loop:

        async def start() -> web.AppRunner:
            application = web.Application()
            application.router.add_get("/{path:.*}", handler)
            runner = web.AppRunner(application, shutdown_timeout=0.1)
            await runner.setup()
            await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls).start()
            return runner

        runner = loop.run(start())
        try:
            yield f"http{'s' * bool(tls)}://127.0.0.1:{runner.addresses[0][1]}/"
        finally:
            loop.run(runner.cleanup())


def picture(kind: str = ".jpg", width: int = 160, height: int = 120) -> bytes:
    encoded, data = cv2.imencode(kind, Scene(width, height)(0)[:, :, ::-1])
    assert encoded
    return data.tobytes()


def reason_of(url: str, options: ReadOptions = QUICK) -> str:
    with pytest.raises(SourceLostError) as caught:
        next(read_source(Source.parse(url), options, Witness()))
    return str(caught.value)


def live(capture: Capture) -> Callable[[], bool]:
    return lambda: capture.state is CaptureState.LIVE


@pytest.mark.parametrize("kind", KINDS)
def test_pictures_arrive_and_keep_arriving(camera: CameraThread, kind: str) -> None:
    with capturing(Source.parse(getattr(camera, kind))) as (capture, slot):
        wait_for(live(capture), 2)
        wait_for(lambda: capture.meter.counters.frames > 8, 3)
        frame = slot.newest()
        assert frame is not None
        assert isinstance(frame.picture, av.VideoFrame)
        seen = frame.picture.to_ndarray(format="rgb24")
        assert np.abs(seen.astype(int) - Scene(noise=0)(0)).mean() < 12
        counters = capture.meter.counters
        assert (capture.meter.size, counters.damaged, counters.connections) == ((320, 240), 0, 1)


def test_snapshots_are_asked_for_at_the_interval(camera: CameraThread) -> None:
    with capturing(Source.parse(camera.snapshot_url), ReadOptions(interval=0.25)) as (capture, _):
        wait_for(live(capture), 2)
        before = capture.meter.counters.frames
        wait_for(lambda: capture.meter.counters.frames >= before + 4, 3)
        assert 3 < capture.meter.fps < 6


def test_a_long_interval_does_not_put_off_the_notice_of_a_loss(camera: CameraThread) -> None:
    with capturing(Source.parse(camera.snapshot_url), ReadOptions(1.0, 1.0, interval=60.0)) as (capture, _):
        wait_for(live(capture), 2)
        camera.switch("refuse")
        wait_for(lambda: capture.state is CaptureState.OFFLINE, 1.5)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("fault", ["stall", "refuse", "away", "unauthorised"])
def test_a_lost_camera_is_noticed_and_comes_back_by_itself(camera: CameraThread, kind: str, fault: str) -> None:
    with capturing(Source.parse(getattr(camera, kind))) as (capture, _):
        wait_for(live(capture), 2)
        camera.switch(fault)
        wait_for(lambda: capture.meter.counters.losses, QUICK.read + 0.5)
        camera.switch("none")
        wait_for(lambda: live(capture)() and capture.meter.counters.connections == 2, 3.5)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("login", ["digest", "basic"])
def test_odd_credentials_work(kind: str, login: str) -> None:
    with simulated_camera(user="op@site", password="p@ss w/rd:%ä", login=login) as camera:  # noqa: S106
        source = Source.parse(getattr(camera, kind), username="op@site", password="p@ss w/rd:%ä")  # noqa: S106
        with capturing(source) as (capture, _):
            wait_for(live(capture), 2)
            wait_for(lambda: capture.meter.counters.frames > 3, 2)


@pytest.mark.parametrize("login", ["digest", "basic"])
@pytest.mark.parametrize("username", ["plant.op", None])
def test_wrong_credentials_are_told_apart(login: str, username: str | None) -> None:
    with simulated_camera(user="plant.op", password="right", login=login) as camera:  # noqa: S106
        source = Source.parse(camera.mjpeg_url, username=username, password=username and "wrong")
        with capturing(source) as (capture, slot):
            wait_for(lambda: capture.state is CaptureState.UNAUTHORISED, 2)
            assert capture.reason == "the camera refuses the credentials (401)"
            assert slot.newest() is None


def test_damaged_pictures_are_counted_and_never_put_into_the_slot(camera: CameraThread) -> None:
    with capturing(Source.parse(camera.mjpeg_url)) as (capture, _):
        wait_for(live(capture), 2)
        camera.switch("corrupt=0.5")
        wait_for(lambda: capture.meter.counters.damaged > 3, 5)
        camera.switch("none")
        before = capture.meter.counters.frames
        wait_for(lambda: capture.meter.counters.frames > before + 10, 3)


def test_a_change_of_size_is_followed(camera: CameraThread) -> None:
    with capturing(Source.parse(camera.mjpeg_url)) as (capture, _):
        wait_for(live(capture), 2)
        camera.switch("resize=160x120")
        wait_for(lambda: capture.meter.size == (160, 120), 3)
        assert capture.meter.counters.connections == 1


def test_of_a_stream_only_as_many_pictures_are_decoded_as_are_wanted(camera: CameraThread) -> None:
    options = dataclasses.replace(QUICK, decode_every=0.3)
    with capturing(Source.parse(camera.mjpeg_url), options) as (capture, slot):
        wait_for(live(capture), 2)
        wait_for(lambda: capture.meter.counters.frames >= 4, 3)
        assert capture.meter.fps < 4
        frame = slot.newest()
        assert frame is not None
        assert time.monotonic() - frame.monotonic < 0.5


@pytest.mark.parametrize(
    "damaged", [picture()[:2000], picture()[:2000] + b"\xff\xd9", b"", b"<html>", b"GIF89a"], ids=str
)
def test_what_is_no_whole_picture_is_damage(damaged: bytes) -> None:
    bodies = itertools.chain([damaged], itertools.repeat(picture()))

    async def snapshot(_: web.Request) -> web.StreamResponse:
        return web.Response(body=next(bodies), content_type="image/jpeg")

    with serving(snapshot) as url, capturing(Source.parse(url)) as (capture, _):
        wait_for(live(capture), 3)
        assert (capture.meter.counters.damaged, capture.meter.counters.connections) == (1, 1)


def test_snapshots_may_be_png() -> None:
    async def snapshot(_: web.Request) -> web.StreamResponse:
        return web.Response(body=picture(".png"), content_type="image/png")

    with serving(snapshot) as url:
        first = next(read_source(Source.parse(url), QUICK, Witness()))
    assert isinstance(first, av.VideoFrame)
    assert np.array_equal(first.to_ndarray(format="rgb24"), Scene(160, 120)(0))


def test_a_stream_without_lengths_is_read() -> None:
    async def stream(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": 'multipart/x-mixed-replace;boundary="--b"'})
        await response.prepare(request)
        for _ in range(5):
            await response.write(b"--b\r\nContent-Type: image/jpeg\r\n\r\n" + picture() + b"\r\n")
        await response.write(b"--b--\r\n")
        return response

    with serving(stream) as url:
        assert len(list(read_source(Source.parse(url), QUICK, Witness()))) == 5


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (lambda: web.Response(text="<html>", content_type="text/html"), "text/html, not with pictures"),
        (lambda: web.Response(status=404), "no such address"),
        (lambda: web.Response(status=403), "forbids"),
        (lambda: web.Response(status=418), "HTTP status 418"),
        (lambda: web.Response(status=302, headers={"Location": "/elsewhere"}), "points to another address"),
    ],
)
def test_other_answers_are_reasons(answer: Callable[[], web.Response], reason: str) -> None:
    async def respond(_: web.Request) -> web.StreamResponse:
        return answer()

    with serving(respond) as url:
        assert reason in reason_of(url)


def test_a_connection_cut_within_a_picture_is_told() -> None:
    async def cut(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "image/jpeg", "Content-Length": "100000"})
        await response.prepare(request)
        await response.write(picture()[:1000])
        assert request.transport is not None
        request.transport.close()
        return response

    with serving(cut) as url:
        assert reason_of(url) == "the camera cut the connection"


def test_a_certificate_that_nobody_vouches_for_is_told_with_the_cure(tmp_path: Path) -> None:
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=camera"]
    subprocess.run([*command, "-keyout", str(key), "-out", str(certificate)], check=True, capture_output=True)
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(certificate, key)

    async def snapshot(_: web.Request) -> web.StreamResponse:
        return web.Response(body=picture(), content_type="image/jpeg")

    with serving(snapshot, tls) as url:
        assert "certificate cannot be verified" in reason_of(url)


def test_a_camera_that_trickles_is_lost_in_time() -> None:
    """Bytes that keep coming are no picture."""

    async def trickle(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "image/jpeg"})
        await response.prepare(request)
        while True:
            await response.write(b"\xff")
            await asyncio.sleep(0.05)

    with serving(trickle) as url:
        assert reason_of(url) == "nothing came for 1 s"


@pytest.mark.parametrize("kind", ["image/jpeg", "multipart/x-mixed-replace; boundary=b"])
def test_a_picture_without_end_is_cut_off(monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    monkeypatch.setattr("camera_worker.sources.http.MOST_PACKET_BYTES", 100_000)

    async def flood(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": kind})
        await response.prepare(request)
        await response.write(b"--b\r\n\r\n")
        while True:
            await response.write(b"\xff" * 10_000)

    with serving(flood) as url:
        assert "too large" in reason_of(url)


def test_nobody_listening_is_told_without_the_address() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    assert reason_of(f"http://op:hunter2@127.0.0.1:{port}/cam") == "connection refused"


def test_a_camera_that_speaks_no_tls_is_a_reason(camera: CameraThread) -> None:
    assert "does not speak TLS" in reason_of(camera.mjpeg_url.replace("http:", "https:"))
