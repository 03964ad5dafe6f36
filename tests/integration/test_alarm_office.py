"""What a process with alarms runs, whole: channels of alarms.yaml, the heartbeat, `test-channel`, and a full disk."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import cv2
import numpy as np
import pytest
from typer.testing import CliRunner

from almenara.alarms import AlarmStore, Priority, Rule
from almenara.alarms.config import AlarmsConfig
from almenara.alarms.office import AlarmOffice
from almenara.cli import app
from almenara.configuration.loading import parse_config
from almenara.contracts import ModelRef, Observation, VisionVerdict
from almenara.errors import ConfigurationError
from almenara.processes import free_port
from camera_worker.alarming import AlarmDesk
from camera_worker.config import CameraConfig
from camera_worker.states import Scored
from tests.support.alarms import observation
from tests.support.camera import wait_for

pytestmark = pytest.mark.slow

NOON = datetime(2026, 3, 4, 12, tzinfo=UTC)
PICTURE = cv2.imencode(".jpg", np.full((48, 64, 3), 90, np.uint8))[1].tobytes()
VERDICT = VisionVerdict(
    model=ModelRef(name="wall", version="3"), label="anomaly", score=9, anomaly=0.9, p_value=0.01, threshold=5
)


class Receiver:
    """A web server that remembers what it was sent: (path, body)."""

    def __init__(self, server: ThreadingHTTPServer) -> None:
        self.port = server.server_address[1]
        self.status = 200
        self.received: list[tuple[str, bytes]] = []

    def at(self, path: str) -> list[bytes]:
        return [body for sent_to, body in self.received if sent_to == path]


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            made.received.append((self.path, self.rfile.read(int(self.headers.get("Content-Length") or 0))))
            self.send_response(made.status)
            self.send_header("Content-Length", "0")
            self.end_headers()

        do_GET = do_POST  # noqa: N815 - name of the library

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - name of the library
            return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    made = Receiver(server)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    yield made
    server.shutdown()
    server.server_close()
    thread.join(5)


def config(text: str) -> AlarmsConfig:
    return parse_config(text, AlarmsConfig, name="alarms.yaml", environment={})


def office(folder: Path, text: str = "", **options: object) -> AlarmOffice:
    return AlarmOffice(f"sqlite:///{folder / 'alarms.db'}", folder, config=config(text), **options)  # type: ignore[arg-type]


def raise_alarm(store: AlarmStore, source: str, priority: Priority) -> None:
    rule = Rule(on_delay_seconds=0, priority=priority)
    store.observe(observation(0.9, source=source, at=datetime.now(UTC)), rule, now=time.monotonic())


def logged(folder: Path) -> list[str]:
    """Sources of the messages in the alarm log."""
    log = folder / "alarms" / "alarms.log"
    return [json.loads(line)["alarm"]["source"] for line in log.read_text().splitlines()] if log.exists() else []


def test_a_channel_gets_what_is_urgent_enough_and_the_log_gets_all(tmp_path: Path, receiver: Receiver) -> None:
    hook = f"channels:\n  - {{name: hook, type: apprise, url: 'json://127.0.0.1:{receiver.port}/hook', at_least: high}}"
    with office(tmp_path, hook) as made:
        raise_alarm(made.store, "calm", "low")
        raise_alarm(made.store, "urgent", "critical")
        wait_for(lambda: len(logged(tmp_path)) == 2, 10, "both in the log")
        wait_for(lambda: receiver.at("/hook"), 10, "the webhook")
        wait_for(lambda: not made.store.pending_deliveries(), 10, "an empty outbox")
    assert sorted(logged(tmp_path)) == ["calm", "urgent"]
    (body,) = receiver.at("/hook")
    assert b"urgent" in body


def test_the_heartbeat_stops_while_something_is_blind(tmp_path: Path, receiver: Receiver) -> None:
    blind: list[str] = []
    beat = f"heartbeat: {{url: 'http://127.0.0.1:{receiver.port}/beat', every: 1s}}"
    with office(tmp_path, beat, blind=lambda: blind[0] if blind else None):
        wait_for(lambda: len(receiver.at("/beat")) >= 2, 10, "two beats")
        blind.append("outflow: the camera is offline")
        time.sleep(1.2)  # a beat may be on its way
        count = len(receiver.at("/beat"))
        time.sleep(2.5)
        assert len(receiver.at("/beat")) == count
        blind.clear()
        wait_for(lambda: len(receiver.at("/beat")) > count, 10, "a beat")


def test_messages_that_do_not_arrive_are_a_reason_for_no_heartbeat(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = office(tmp_path)
    assert made.unhealthy() is None
    reasons = set()
    for seconds in (61.0, 121.0):  # the log says it once: the reason stays the same
        monkeypatch.setattr(AlarmStore, "overdue", lambda *_, late=seconds: late)
        reasons.add(made.unhealthy())
    assert reasons == {"messages are late"}
    made.store.close()


def test_a_channel_that_cannot_be_is_refused_by_its_name_and_without_its_secret(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="shift") as refused:
        office(tmp_path, "channels:\n  - {name: shift, type: apprise, url: 'nothing://user:hunter2@host'}")
    assert "hunter2" not in str(refused.value)


def test_stores_that_share_a_bucket_have_their_own_places_in_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MINIO_ACCESS_KEY", "almenara")
    monkeypatch.setenv("MINIO_SECRET_KEY", "not-a-secret")
    bucket = f"evidence: {{url: 's3://evidence/line-2', endpoint: 'http://127.0.0.1:{free_port()}'}}"
    for origin, place in (("worker-1", "worker-1"), ("", "record")):
        made = office(tmp_path, bucket, origin=origin)
        (file,) = made.evidence.save("a-camera", {"frame.jpg": PICTURE})
        assert file.uri.startswith(f"s3://evidence/line-2/{place}/")
        made.store.close()


@pytest.fixture
def command(tmp_path: Path, receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """`almenara alarms test-channel` with a file whose channel `hook` leads to the receiver."""
    monkeypatch.setenv("ALMENARA_VAR_DIR", str(tmp_path))
    file = tmp_path / "alarms.yaml"
    file.write_text(f"channels:\n  - {{name: hook, type: apprise, url: 'json://127.0.0.1:{receiver.port}/hook'}}")
    return ["alarms", "test-channel", "--config", str(file)]


def test_a_test_of_a_channel_sends_one_message(command: list[str], receiver: Receiver) -> None:
    result = CliRunner().invoke(app, [*command, "hook"])
    assert (result.exit_code, len(receiver.received)) == (0, 1)
    assert "hook: the message was taken in" in result.output


def test_a_test_of_a_channel_that_fails_says_so(command: list[str], receiver: Receiver) -> None:
    receiver.status = 500
    result = CliRunner().invoke(app, [*command, "hook"])
    assert result.exit_code == 1
    assert "hook: the message did not arrive" in result.output


def test_the_log_can_be_tested_too(command: list[str], tmp_path: Path) -> None:
    assert CliRunner().invoke(app, [*command, "log"]).exit_code == 0
    assert logged(tmp_path) == ["test"]


def test_a_channel_that_is_not_in_the_file_is_told_with_those_that_are(command: list[str]) -> None:
    result = CliRunner().invoke(app, [*command, "fax"])
    assert result.exit_code != 0
    assert "There is no channel 'fax'; there are: log, hook." in str(result.exception)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 48 MiB."""
    if os.geteuid() != 0:
        pytest.skip("only root can mount a small disk to fill")
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=48m", "tmpfs", disk], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip(f"no small disk can be mounted here: {mounted.stderr.decode().strip()}")
    try:
        yield disk
    finally:
        subprocess.run(["umount", "--lazy", disk], check=True)


def fill(disk: Path) -> None:
    with contextlib.suppress(OSError), (disk / "filling").open("wb", buffering=0) as file:
        while True:
            file.write(bytes(2**16))
    with contextlib.suppress(OSError), (disk / "filling").open("ab", buffering=0) as file:
        while True:
            file.write(b"0")


def test_on_a_full_disk_an_alarm_goes_out_without_picture_and_says_so(small_disk: Path, receiver: Receiver) -> None:
    hook = f"channels:\n  - {{name: hook, type: apprise, url: 'json://127.0.0.1:{receiver.port}/hook'}}"
    camera = CameraConfig.model_validate({"name": "outflow", "source": "rtsp://cam/1", "alarm": {"on_delay": "0s"}})
    with AlarmDesk(small_disk, config=config(hook)) as desk:
        wait_for((small_disk / "alarms" / "reserve").exists, 10, "the reserve")
        fill(small_disk)
        alarms = desk.sink(camera)
        for second in range(3):
            seen = Observation(source="outflow", kind="vision", anomaly=0.9, reason="a broom", observed_at=NOON)
            alarms.observe(seen, time.monotonic() + second, Scored("outflow", NOON, PICTURE, VERDICT, 0.1, 0.05))
        wait_for(lambda: receiver.at("/hook"), 15, "the message")
        (alarm,) = desk.store.alarms()
    assert alarm.evidence == ()
    assert "the disk is full" in alarm.note
    assert b"the disk is full" in receiver.at("/hook")[0]
