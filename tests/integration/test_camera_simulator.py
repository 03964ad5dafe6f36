"""The simulated camera seen by other clients than the worker: over TCP, UDP and HTTP, through its faults."""

from __future__ import annotations

import asyncio
import time
import urllib.error
from collections.abc import Callable, Iterator
from itertools import islice

import aiohttp
import av
import cv2
import numpy as np
import pytest

from camera_worker.simulator.scenes import read_timecode, timecode
from tests.support.camera import CameraThread, Scene, simulated_camera, wait_for
from tests.support.viewers import Watcher, fetch, open_stream, refused, shown, snapshot, status

TRANSPORTS = ("tcp", "udp")


@pytest.fixture
def camera() -> Iterator[CameraThread]:
    with simulated_camera() as running:
        yield running


def watching(url: Callable[[CameraThread], str], transport: str, camera: CameraThread) -> Watcher:
    watcher = Watcher(url(camera), transport)
    wait_for(lambda: watcher.pictures > 3, 5, "a picture")
    return watcher


WAYS = [
    pytest.param(lambda camera: camera.url, "tcp", id="tcp"),
    pytest.param(lambda camera: camera.url, "udp", id="udp"),
    pytest.param(lambda camera: camera.mjpeg_url, "", id="mjpeg"),
]
Way = Callable[[CameraThread], str]


@pytest.mark.parametrize(("url", "transport"), WAYS)
def test_the_scene_arrives(camera: CameraThread, url: Way, transport: str) -> None:
    pictures = shown(url(camera), 5, transport)
    assert {picture.shape for picture in pictures} == {(240, 320, 3)}
    assert np.abs(pictures[-1].astype(int) - Scene(noise=0)(0)).mean() < 12


@pytest.mark.parametrize(("url", "transport"), WAYS)
def test_a_timecode_tells_the_age_of_a_picture(url: Way, transport: str) -> None:
    scene = timecode(seed=1, width=1280, height=720)
    with (
        simulated_camera(scene, width=1280, height=720) as camera,
        open_stream(url(camera), transport) as container,
    ):
        ages = []
        for frame in islice(container.decode(video=0), 20):
            taken = read_timecode(np.asarray(frame.to_ndarray(format="rgb24"), dtype=np.uint8))
            assert taken is not None
            ages.append(time.monotonic() - taken / 1000)
    assert min(ages) >= 0
    assert sorted(ages)[10] < 0.3


def test_a_snapshot_is_a_picture_of_now() -> None:
    with simulated_camera(timecode(seed=1, width=640, height=480), width=640, height=480) as camera:
        for _ in range(3):
            asked = time.monotonic() * 1000
            taken = read_timecode(snapshot(camera))
            assert taken is not None
            assert asked - 1 <= taken <= time.monotonic() * 1000 + 1


def test_clients_of_every_kind_share_one_camera(camera: CameraThread) -> None:
    watchers = [Watcher(camera.url), Watcher(camera.url, "udp"), Watcher(camera.mjpeg_url), Watcher(camera.url)]
    wait_for(lambda: all(watcher.pictures > 5 for watcher in watchers), 5)
    assert status(camera)["clients"] == "4"
    for watcher in watchers:
        watcher.leave()
    wait_for(lambda: status(camera)["clients"] == "0", 3)


@pytest.mark.parametrize(("url", "transport"), WAYS)
@pytest.mark.parametrize("login", ["digest", "basic"])
def test_login(url: Way, transport: str, login: str) -> None:
    with simulated_camera(user="plant.op", password="p@ss:%", login=login) as camera:  # noqa: S106
        with pytest.raises(av.error.HTTPUnauthorizedError):
            shown(url(camera), 1, transport)
        with pytest.raises(av.error.HTTPUnauthorizedError):
            shown(url(camera).replace("//", "//plant.op:wrong@"), 1, transport)
        assert shown(url(camera).replace("//", "//plant.op:p%40ss%3A%25@"), 1, transport)


def test_login_by_another_http_client() -> None:
    async def fetch_with_digest(url: str) -> bytes:
        login = aiohttp.DigestAuthMiddleware("op", "secret")
        async with aiohttp.ClientSession(middlewares=[login]) as session, session.get(url) as answer:
            return await answer.read()

    with simulated_camera(user="op", password="secret") as camera:  # noqa: S106
        assert asyncio.run(fetch_with_digest(camera.snapshot_url)).startswith(b"\xff\xd8")


def test_without_a_key_frame_on_play_a_viewer_waits_for_the_next_one() -> None:
    for on_play in (True, False):
        with simulated_camera(keyframe_interval=2.5, keyframe_on_play=on_play) as camera:
            first = watching(lambda it: it.url, "tcp", camera)
            start = time.monotonic()
            with open_stream(camera.url, patience=5) as container:
                frames = (frame for packet in container.demux(video=0) for frame in packet.decode())
                next(frame for frame in frames if frame.key_frame)
            waited = time.monotonic() - start
            first.leave()
        assert (waited < 0.7) is on_play


@pytest.mark.parametrize(("url", "transport"), WAYS)
@pytest.mark.parametrize("fault", ["reset", "refuse", "unauthorised", "away"])
def test_faults_that_cut_streams(camera: CameraThread, url: Way, transport: str, fault: str) -> None:
    watcher = watching(url, transport, camera)
    camera.switch(fault)
    wait_for(lambda: watcher.ended, 3, f"the end by {fault}")


@pytest.mark.parametrize(("url", "transport"), WAYS)
def test_a_stall_leaves_the_connection_and_sends_nothing(camera: CameraThread, url: Way, transport: str) -> None:
    watcher = Watcher(url(camera), transport, patience=20.0)
    wait_for(lambda: watcher.pictures > 3, 5)
    camera.switch("stall")
    time.sleep(0.3)
    before = watcher.pictures
    time.sleep(0.7)
    assert watcher.pictures == before
    assert not watcher.ended
    camera.switch("none")
    wait_for(lambda: watcher.pictures > before + 3, 3)
    watcher.leave()


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        ("refuse", av.error.HTTPServerError),
        ("unauthorised", av.error.HTTPUnauthorizedError),
        ("away", av.error.ConnectionRefusedError),
        ("slow", av.FFmpegError),
    ],
)
@pytest.mark.parametrize(("url", "transport"), WAYS)
def test_faults_that_who_comes_meets(
    camera: CameraThread, url: Way, transport: str, fault: str, error: type[Exception]
) -> None:
    camera.switch(fault)
    time.sleep(0.1)
    with pytest.raises(error):
        open_stream(url(camera), transport, patience=0.5)
    camera.switch("none")
    wait_for(lambda: not refused(url(camera)), 2)
    assert shown(url(camera), 1, transport)


def test_a_camera_without_udp_says_so_and_serves_tcp(camera: CameraThread) -> None:
    camera.switch("udp=off")
    with pytest.raises(OSError, match="Protocol not supported"):
        open_stream(camera.url, "udp")
    assert shown(camera.url, 1, "tcp")


@pytest.mark.parametrize(("url", "transport"), WAYS)
def test_pictures_that_are_black_frozen_or_blurred(camera: CameraThread, url: Way, transport: str) -> None:
    watcher = watching(url, transport, camera)
    sharpness = cv2.Laplacian(watcher.newest, cv2.CV_64F).std()
    camera.switch("black")
    wait_for(lambda: watcher.newest.max() < 24, 3, "black")
    camera.switch("blur")
    wait_for(lambda: watcher.newest.max() > 60, 3, "a picture")
    wait_for(lambda: cv2.Laplacian(watcher.newest, cv2.CV_64F).std() < sharpness / 5, 3, "blur")
    camera.switch("freeze")
    time.sleep(1.0)
    before, frames = watcher.newest, watcher.pictures
    wait_for(lambda: watcher.pictures > frames + 5, 3)
    assert np.abs(watcher.newest.astype(int) - before).mean() < 0.5
    camera.switch("none")
    wait_for(lambda: np.abs(watcher.newest.astype(int) - before).mean() > 1.5, 3, "movement")
    watcher.leave()


@pytest.mark.parametrize(("url", "transport"), WAYS)
def test_a_new_size_is_sent(camera: CameraThread, url: Way, transport: str) -> None:
    watcher = watching(url, transport, camera)
    camera.switch("resize=160x120")
    wait_for(lambda: (160, 120) in watcher.sizes, 3)
    watcher.leave()


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("fault", ["drop=0.2", "corrupt=0.2"])
def test_lost_and_damaged_packets_show(camera: CameraThread, transport: str, fault: str) -> None:
    watcher = watching(lambda it: it.url, transport, camera)
    camera.switch(fault)
    wait_for(lambda: watcher.corrupt > 3, 5)
    watcher.leave()


def test_pictures_are_left_out_over_http(camera: CameraThread) -> None:
    watcher = Watcher(camera.mjpeg_url, patience=20.0)
    wait_for(lambda: watcher.pictures > 3, 5)
    camera.switch("drop=1")
    time.sleep(0.2)
    before = watcher.pictures
    time.sleep(0.5)
    assert watcher.pictures == before
    camera.switch("drop=0.5")
    wait_for(lambda: watcher.pictures > before + 3, 3)
    watcher.leave()


def test_corrupted_snapshots_are_told_by_a_careful_decoder(camera: CameraThread) -> None:
    decoder = av.CodecContext.create("mjpeg", "r")
    decoder.options = {"err_detect": "explode"}
    assert decoder.decode(av.Packet(fetch(camera.snapshot_url)))
    camera.switch("corrupt=1")
    for _ in range(20):
        with pytest.raises(av.FFmpegError):
            decoder.decode(av.Packet(fetch(camera.snapshot_url)))


@pytest.mark.parametrize(("fault", "code"), [("refuse", 503), ("unauthorised", 401)])
def test_snapshots_are_refused(camera: CameraThread, fault: str, code: int) -> None:
    camera.switch(fault)
    with pytest.raises(urllib.error.HTTPError) as caught:
        fetch(camera.snapshot_url)
    caught.value.close()
    assert caught.value.code == code


@pytest.mark.parametrize("fault", ["stall", "slow", "drop=1"])
def test_snapshots_that_do_not_come(camera: CameraThread, fault: str) -> None:
    camera.switch(fault)
    with pytest.raises(TimeoutError):
        fetch(camera.snapshot_url, patience=0.5)
    camera.switch("none")
    assert fetch(camera.snapshot_url)
