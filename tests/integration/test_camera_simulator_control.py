"""The simulated camera's control port, its care for clients, and what is left when they are gone."""

from __future__ import annotations

import gc
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from almenara.errors import ConfigurationError, InputError
from camera_worker.simulator import CONTROL_HELP, FaultKind, command, rtsp_server
from tests.support.camera import CameraThread, LoopThread, Scene, simulated_camera, wait_for
from tests.support.viewers import RtspClient, Watcher, refused, shown, status


@pytest.fixture
def camera() -> Iterator[CameraThread]:
    with simulated_camera() as running:
        yield running


def test_a_fault_ends_by_itself_after_its_time(camera: CameraThread) -> None:
    port = camera.camera.control_port
    assert command("away for 400ms", port).startswith("ok fault=away")
    assert refused(camera.url)
    took = wait_for(lambda: not refused(camera.url), 2)
    assert took > 0.2
    assert status(camera)["fault"] == "none"


def test_a_later_fault_is_not_ended_by_an_earlier_one(camera: CameraThread) -> None:
    camera.switch("black for 200ms")
    camera.switch("stall")
    time.sleep(0.4)
    assert status(camera)["fault"] == "stall"


def test_away_may_be_said_twice_and_anything_brings_it_back(camera: CameraThread) -> None:
    for fault in ("away", "away", "black"):
        camera.switch(fault)
    wait_for(lambda: not refused(camera.url) and not refused(camera.mjpeg_url), 2)


def test_a_camera_that_comes_back_waits_for_its_port(camera: CameraThread) -> None:
    camera.switch("away")
    wait_for(lambda: refused(camera.url), 2)
    with socket.create_server(("127.0.0.1", camera.port)):
        camera.switch("none")
        time.sleep(0.3)
        assert status(camera)["fault"] == "none"
    wait_for(lambda: not refused(camera.url), 2)
    assert shown(camera.url, 1)


def test_commands_answer_and_name_mistakes(camera: CameraThread) -> None:
    port = camera.camera.control_port
    assert command("help", port) == CONTROL_HELP.strip()
    with pytest.raises(InputError, match="'explode' is no fault"):
        command("explode", port)
    camera.stop()
    with pytest.raises(ConfigurationError, match=f"takes commands on port {port}"):
        command("status", port)
    camera.start()


def test_help_lists_every_fault() -> None:
    assert all(f"\n  {kind}" in CONTROL_HELP for kind in FaultKind)


def fault_command(*words: str) -> subprocess.CompletedProcess[str]:
    arguments = [sys.executable, "-m", "camera_worker", "fault", *words]
    return subprocess.run(arguments, capture_output=True, text=True, timeout=60, check=False)


def test_the_fault_command_switches_and_answers(camera: CameraThread) -> None:
    answered = fault_command("stall", "for", "1m", "--port", str(camera.camera.control_port))
    assert (answered.returncode, answered.stdout) == (0, "ok fault=stall clients=0 packets=0\n")
    assert camera.camera.fault.lasting == 60


def test_the_fault_command_says_in_a_sentence_that_nobody_listens() -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = str(free.getsockname()[1])
    answered = fault_command("stall", "--port", port)
    assert answered.returncode == 2
    assert answered.stderr.startswith(f"camera-worker: No simulated camera takes commands on port {port}")
    assert len(answered.stderr.splitlines()) == 1


def udp_port() -> socket.socket:
    receiver = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    receiver.bind(("127.0.0.1", 0))
    receiver.settimeout(2)
    return receiver


def test_udp_packets_come_from_an_even_port_beside_an_rtcp_port(camera: CameraThread) -> None:
    client = RtspClient(camera)
    with client.connection, udp_port() as media:
        port = media.getsockname()[1]
        answer = client.ask("SETUP", Transport=f"RTP/AVP;unicast;client_port={port}-{port + 1}")
        server, control = (int(part) for part in answer.split("server_port=")[1].split("\r")[0].split("-"))
        assert (server % 2, control) == (0, server + 1)
        assert "200 OK" in client.ask("PLAY")
        packet, sender = media.recvfrom(2000)
        assert sender == ("127.0.0.1", server)
        assert packet[0] == 0x80
        assert "200 OK" in client.ask("GET_PARAMETER")
        assert "200 OK" in client.ask("TEARDOWN")
    wait_for(lambda: free(server) and free(control), 2, "both ports free")


def test_udp_packets_come_no_faster_than_a_network_brings_them() -> None:
    grain = np.random.default_rng(0).integers(0, 256, (720, 1280, 3), dtype=np.uint8)
    with simulated_camera(lambda _: grain, width=1280, height=720) as camera:
        client = RtspClient(camera)
        with client.connection, udp_port() as media:
            port = media.getsockname()[1]
            client.ask("SETUP", Transport=f"RTP/AVP;unicast;client_port={port}-{port + 1}")
            client.ask("PLAY")
            size, start = len(media.recv(2000)), time.monotonic()
            while not (packet := media.recv(2000))[1] & 0x80:  # the marker of a picture's last packet
                size += len(packet)
            seconds = time.monotonic() - start
    assert size > 300_000
    assert 8 * size / seconds < 150e6


def free(port: int) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0 and not bound(port)


def bound(port: int) -> bool:
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.bind(("127.0.0.1", port))
    except OSError:
        return True
    return False


@pytest.mark.parametrize("wish", ["RTP/AVP;multicast;client_port=5000-5001", "RTP/AVP;unicast;client_port=0-1", "RAW"])
def test_other_transports_are_refused(camera: CameraThread, wish: str) -> None:
    client = RtspClient(camera)
    with client.connection:
        assert "461" in client.ask("SETUP", Transport=wish)
        assert "455" in client.ask("PLAY")


def test_a_silent_udp_client_is_cut_off_and_one_that_reports_is_not(
    camera: CameraThread, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rtsp_server, "_SESSION_SECONDS", 1.0)
    silent, reporting = RtspClient(camera), RtspClient(camera)
    with silent.connection, reporting.connection, udp_port() as media, udp_port() as control:
        ports = f"{media.getsockname()[1]}-{control.getsockname()[1]}"
        for client in (silent, reporting):
            answer = client.ask("SETUP", Transport=f"RTP/AVP;unicast;client_port={ports}")
            client.ask("PLAY")
        server = int(answer.split("server_port=")[1].split("\r")[0].split("-")[1])
        start = time.monotonic()
        while time.monotonic() - start < 2.0:
            control.sendto(b"\x80\xc9\0\1\0\0\0\0", ("127.0.0.1", server))
            time.sleep(0.2)
        with pytest.raises(ConnectionResetError):
            silent.connection.recv(100)
        assert "200 OK" in reporting.ask("OPTIONS")


def descriptors() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


@pytest.mark.slow
def test_nothing_is_left_of_a_thousand_connections(camera: CameraThread) -> None:
    def come_and_go(rounds: int) -> None:
        for number in range(rounds):
            client = RtspClient(camera)
            with client.connection:
                transport = ("RTP/AVP/TCP;interleaved=0-1", "RTP/AVP;unicast;client_port=50000-50001")[number % 2]
                client.ask("SETUP", Transport=transport)
                if number % 3:
                    client.ask("PLAY")
            if number % 4 == 0:
                socket.create_connection(("127.0.0.1", camera.http_port), 2).close()

    def settled() -> tuple[int, int]:
        wait_for(lambda: status(camera)["clients"] == "0", 3)
        time.sleep(1.0)
        gc.collect()
        return descriptors(), threading.active_count()

    come_and_go(20)
    before = settled()
    come_and_go(1000)
    assert settled() == before


def test_the_camera_ends_cleanly_with_everybody_watching() -> None:
    with LoopThread() as loop:
        gc.collect()
        before = descriptors()
        camera = CameraThread(loop, Scene())
        watchers = [Watcher(camera.url), Watcher(camera.url, "udp"), Watcher(camera.mjpeg_url)]
        wait_for(lambda: all(watcher.pictures > 3 for watcher in watchers), 5)
        start = time.monotonic()
        camera.stop()
        assert time.monotonic() - start < 2
        wait_for(lambda: all(watcher.ended for watcher in watchers), 3)
        wait_for(lambda: descriptors() == before, 3)
