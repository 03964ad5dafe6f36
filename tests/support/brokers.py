"""Real receivers of alarms for machines: a Mosquitto broker, an Alertmanager, an HTTP server, and their listeners."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from asyncua.crypto import cert_gen
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID
from paho.mqtt.client import Client
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion

from almenara.processes import free_port
from tests.support.servers import running

PATIENCE = 15.0


def wait_for(what: Callable[[], Any], seconds: float = PATIENCE) -> Any:
    """The first true value of `what` within `seconds`."""
    deadline = time.monotonic() + seconds
    while not (value := what()):
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)
    return value


def mosquitto_program() -> str:
    """The broker's path; skips the test where there is none."""
    program = shutil.which("mosquitto") or shutil.which("/usr/sbin/mosquitto")
    if program is None:
        pytest.skip("this machine has no MQTT broker (mosquitto)")
    return program


@contextmanager
def mosquitto(folder: Path, *settings: str, port: int | None = None) -> Iterator[str]:
    """The address of a broker that keeps what is retained in `folder`; skips the test where there is none."""
    with mosquitto_process(folder, *settings, port=port) as (url, _):
        yield url


@contextmanager
def mosquitto_process(
    folder: Path, *settings: str, port: int | None = None
) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """As `mosquitto`, with its process."""
    program, port = mosquitto_program(), port or free_port()
    lines = [f"listener {port} 127.0.0.1", "persistence true", f"persistence_location {folder}/", "user root"]
    if not any(line.startswith("password_file") for line in settings):
        lines.append("allow_anonymous true")
    (folder / "mosquitto.conf").write_text("\n".join([*lines, *settings, ""]), encoding="utf-8")
    command = [program, "-c", str(folder / "mosquitto.conf")]
    with running(command, folder / "mosquitto.log", ready=lambda: _listens(port), seconds=15) as process:
        yield f"mqtt://127.0.0.1:{port}", process


def certificate(folder: Path, application: str) -> tuple[Path, Path]:
    """The PEM files of a certificate for localhost, which signed itself, and of its key."""
    key = cert_gen.generate_private_key()
    names = [x509.UniformResourceIdentifier(application), x509.DNSName("localhost")]
    usage = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
    made = cert_gen.generate_self_signed_app_certificate(key, "Almenara", {}, names, usage)
    (folder / "certificate.pem").write_bytes(made.public_bytes(Encoding.PEM))
    (folder / "key.pem").write_bytes(cert_gen.dump_private_key_as_pem(key))
    return folder / "certificate.pem", folder / "key.pem"


@contextmanager
def alertmanager(folder: Path) -> Iterator[str]:
    """The address of an Alertmanager that tells nobody; skips the test where there is none."""
    program = shutil.which("prometheus-alertmanager") or shutil.which("alertmanager")
    if program is None:
        pytest.skip("this machine has no Alertmanager (prometheus-alertmanager)")
    (folder / "alertmanager.yml").write_text("route: {receiver: nobody}\nreceivers: [{name: nobody}]\n", "utf-8")
    port = free_port()
    command = [program, f"--config.file={folder / 'alertmanager.yml'}", f"--storage.path={folder / 'data'}"]
    command += [f"--web.listen-address=127.0.0.1:{port}", "--cluster.listen-address="]
    address = f"http://127.0.0.1:{port}"
    with running(command, folder / "alertmanager.log", ready=lambda: _ready(f"{address}/-/ready"), seconds=30):
        yield address


@dataclass
class Listener:
    """A subscriber to everything on a broker."""

    url: str
    received: list[tuple[str, bytes, bool]] = field(default_factory=list)
    """Topic, payload, and whether it was retained from before."""

    def __post_init__(self) -> None:
        self._client = Client(CallbackAPIVersion.VERSION2, protocol=MQTTProtocolVersion.MQTTv5)
        self._subscribed = threading.Event()
        self._client.on_message = lambda _c, _d, m: self.received.append((m.topic, bytes(m.payload), m.retain))
        self._client.on_connect = lambda client, *_rest: client.subscribe("#", qos=1)
        self._client.on_subscribe = lambda *_rest: self._subscribed.set()

    def __enter__(self) -> Listener:
        host, port = self.url.rpartition("/")[2].rpartition("@")[2].split(":")
        self._client.connect(host, int(port))
        self._client.loop_start()
        assert self._subscribed.wait(PATIENCE)
        return self

    def __exit__(self, *_error: object) -> None:
        self._client.disconnect()
        self._client.loop_stop()

    def of(self, topic: str) -> list[bytes]:
        return [payload for name, payload, _ in list(self.received) if name == topic]

    def wait(self, topic: str, count: int = 1) -> bytes:
        """The newest message of a topic, once there are `count`."""
        wait_for(lambda: len(self.of(topic)) >= count)
        return self.of(topic)[-1]


@dataclass
class Request:
    method: str
    path: str
    body: Any
    authorization: str | None
    at: float = field(default_factory=time.monotonic)


@dataclass
class Receiver:
    """An HTTP server that answers everything with `status` and keeps what it was asked."""

    status: int = 200
    location: str = ""
    delay_seconds: float = 0.0
    requests: list[Request] = field(default_factory=list)

    def __enter__(self) -> Receiver:
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def answer(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                told = Request(self.command, self.path, json.loads(body or b"null"), self.headers["Authorization"])
                receiver.requests.append(told)
                time.sleep(receiver.delay_seconds)
                self.send_response(receiver.status)
                if receiver.location:
                    self.send_header("Location", receiver.location)
                self.end_headers()
                self.wfile.write(b"as you say")

            do_GET = do_POST = answer  # noqa: N815 - names of the standard library

            def log_message(self, *_arguments: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _ready(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=1) as answer:  # noqa: S310 - the server just started
            return bool(answer.status == 200)
    except OSError:
        return False
