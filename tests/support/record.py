"""A plant-wide record that misbehaves as a test wants: it speaks the worker's four requests over real HTTP."""

from __future__ import annotations

import contextlib
import hashlib
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from almenara.alarms.records import Directive, Directives, Report, Silence


@dataclass
class RecordServer:
    """What was handed over, and how requests are answered.

    Attributes:
        status: of every answer; 200 answers as the record does.
        evidence_status: of the answers to evidence.
        hangs_up: whether it ends each connection after its answer, without notice.
        refused: keys of transitions that make it answer 422.
        reports: as they arrived, repetitions included.
        evidence: (alarm, file name) -> content, its SHA-256 verified.
    """

    status: int = 200
    evidence_status: int = 200
    hangs_up: bool = False
    refused: set[str] = field(default_factory=set)
    reports: list[Report] = field(default_factory=list)
    directives: tuple[Directive, ...] = ()
    silences: tuple[Silence, ...] = ()
    wanted: tuple[str, ...] = ()
    confirmed: list[str] = field(default_factory=list)
    evidence: dict[tuple[str, str], bytes] = field(default_factory=dict)
    keys: set[str | None] = field(default_factory=set)
    origins: set[str] = field(default_factory=set)
    url: str = ""

    def answer(self, method: str, path: str, body: bytes, headers: dict[str, str]) -> tuple[int, bytes]:
        self.keys.add(headers.get("X-API-Key"))
        if self.status != 200:
            return self.status, json.dumps({"detail": "As the test wants it."}).encode()
        if method == "PUT":
            if self.evidence_status != 200:
                return self.evidence_status, b""
            return self._keep(path, body, headers), b""
        if method == "GET":
            self.origins.add(path.partition("origin=")[2])
            open_ones = tuple(each for each in self.directives if each.id not in self.confirmed)
            answer = Directives(directives=open_ones, silences=self.silences, evidence_wanted=self.wanted)
            return 200, answer.model_dump_json().encode()
        document = json.loads(body)
        self.origins.add(document["origin"])
        if path.endswith("/confirm"):
            if len(document["ids"]) > 1000:
                return 422, json.dumps({"detail": "ids: at most 1000"}).encode()
            self.confirmed += document["ids"]
            return 200, b"{}"
        reports = [Report.model_validate_json(json.dumps(report)) for report in document["reports"]]
        if any(report.transition.key in self.refused for report in reports):
            return 422, json.dumps({"detail": "a report is malformed"}).encode()
        self.reports += reports
        return 200, json.dumps({"accepted": len(reports)}).encode()

    def _keep(self, path: str, body: bytes, headers: dict[str, str]) -> int:
        *_, alarm_id, _, name = path.split("/")
        if hashlib.sha256(body).hexdigest() != headers["X-Content-SHA256"]:
            return 422
        self.evidence[alarm_id, name] = body
        self.wanted = tuple(each for each in self.wanted if each != alarm_id)
        return 200


@contextlib.contextmanager
def record_server() -> Iterator[RecordServer]:
    """A record on a free loopback port."""
    record = RecordServer()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _serve(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            status, answer = record.answer(self.command, self.path, body, dict(self.headers))
            self.send_response(status)
            if 300 <= status < 400:
                self.send_header("Location", f"{record.url}/elsewhere")
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)
            self.close_connection = record.hangs_up

        do_GET = do_POST = do_PUT = _serve  # noqa: N815 - names of the library

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - name of the library
            return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    record.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield record
    finally:
        server.shutdown()
        server.server_close()
        thread.join(5)
