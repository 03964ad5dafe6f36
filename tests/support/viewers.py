"""Those who watch a simulated camera, other than the worker: over RTSP, over HTTP, and by hand."""

from __future__ import annotations

import socket
import threading
import urllib.request
from itertools import islice

import av
import cv2
import numpy as np
from numpy.typing import NDArray

from camera_worker.simulator import command
from tests.support.camera import CameraThread


def open_stream(url: str, transport: str = "tcp", patience: float = 2.0) -> av.container.InputContainer:
    options = {"analyzeduration": "0", "probesize": "32768"}
    if url.startswith("rtsp"):
        options["rtsp_transport"] = transport
    return av.open(url, options=options, timeout=(patience, patience))


def shown(url: str, count: int, transport: str = "tcp") -> list[NDArray[np.uint8]]:
    """The first pictures of a stream."""
    with open_stream(url, transport) as container:
        frames = islice(container.decode(video=0), count)
        return [np.asarray(frame.to_ndarray(format="rgb24"), dtype=np.uint8) for frame in frames]


def fetch(url: str, patience: float = 2.0) -> bytes:
    with urllib.request.urlopen(url, timeout=patience) as answer:  # noqa: S310 - the camera's own address
        body: bytes = answer.read()
        return body


def snapshot(camera: CameraThread) -> NDArray[np.uint8]:
    body = np.frombuffer(fetch(camera.snapshot_url), np.uint8)
    return np.asarray(cv2.imdecode(body, cv2.IMREAD_COLOR_RGB), dtype=np.uint8)


def status(camera: CameraThread) -> dict[str, str]:
    answer = command("status", camera.camera.control_port)
    return dict(part.split("=") for part in answer.removeprefix("ok ").split())


def refused(url: str) -> bool:
    host, port = url.split("/")[2].split(":")
    try:
        socket.create_connection((host, int(port)), 1).close()
    except ConnectionRefusedError:
        return True
    return False


class Watcher:
    """Somebody who watches a stream in a thread until it ends or fails."""

    def __init__(self, url: str, transport: str = "tcp", patience: float = 1.0) -> None:
        self.pictures = self.corrupt = 0
        self.sizes: set[tuple[int, int]] = set()
        self.newest = np.zeros((1, 1, 3), np.uint8)
        self.error: Exception | None = None
        self._url, self._transport, self._patience = url, transport, patience
        self._leave = False
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    @property
    def ended(self) -> bool:
        return not self._thread.is_alive()

    def leave(self) -> None:
        self._leave = True
        self._thread.join(5)

    def _watch(self) -> None:
        try:
            with open_stream(self._url, self._transport, self._patience) as container:
                for packet in container.demux(video=0):
                    self._look(packet)
                    if self._leave:
                        return
        except Exception as error:  # noqa: BLE001 - for the test to judge
            self.error = error

    def _look(self, packet: av.Packet[av.VideoStream]) -> None:
        try:
            frames = packet.decode()
        except av.FFmpegError:
            self.corrupt += 1
            return
        for frame in frames:
            self.corrupt += frame.is_corrupt
            self.pictures += 1
            self.sizes.add((frame.width, frame.height))
            self.newest = np.asarray(frame.to_ndarray(format="rgb24"), dtype=np.uint8)


class RtspClient:
    """A client that says what the test wants."""

    def __init__(self, camera: CameraThread) -> None:
        self.connection = socket.create_connection(("127.0.0.1", camera.port), 3)
        self._url, self._number = camera.url, 0

    def ask(self, method: str, **headers: str) -> str:
        self._number += 1
        lines = [f"{method} {self._url} RTSP/1.0", f"CSeq: {self._number}"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        self.connection.sendall("\r\n".join([*lines, "", ""]).encode())
        return self.connection.recv(4096).decode("latin-1")
