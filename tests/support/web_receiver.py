"""An HTTP server that takes what webhooks, push services and SMS gateways are sent, or fails as told."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

NO_ANSWER = 0
"""In place of a status: the request was taken, and the connection ends without a word."""


@dataclass(frozen=True)
class Request:
    """One request; header names in lower case."""

    path: str
    query: dict[str, list[str]]
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class Receiver:
    """Answers with the statuses of `failures` first and with 200 and `answer` afterwards."""

    port: int = 0
    requests: list[Request] = field(default_factory=list)
    failures: list[int] = field(default_factory=list)
    answer: Any = field(default_factory=dict)

    def take(self, request: Request) -> tuple[int, bytes]:
        self.requests.append(request)
        if self.failures:
            return self.failures.pop(0), b'{"error": "no room"}'
        return 200, json.dumps(self.answer).encode()


@contextmanager
def web_receiver(answer: Any = None, *, receiver: Receiver | None = None) -> Iterator[Receiver]:
    """A receiver on a free loopback port."""
    taking = receiver or Receiver(answer=answer or {})

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            place = urlsplit(self.path)
            length = int(self.headers.get("Content-Length", "0"))
            body = self.rfile.read(length)
            if len(body) < length:  # the sender died on the way
                return
            headers = {name.lower(): value for name, value in self.headers.items()}
            status, content = taking.take(Request(place.path, parse_qs(place.query), headers, body))
            if status == NO_ANSWER:
                return
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # the sender is gone
                self.send_response(status)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

        def log_message(self, *_: Any) -> None:
            """Quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    taking.port = server.server_port
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield taking
    finally:
        server.shutdown()
        server.server_close()
        thread.join(5)


@contextmanager
def mute_server() -> Iterator[int]:
    """The port of a server that takes connections and never says a word."""
    with socket.create_server(("127.0.0.1", 0), backlog=8) as listener:
        yield int(listener.getsockname()[1])


@contextmanager
def dribbling_server() -> Iterator[int]:
    """The port of a server that sends one byte of its answer every half second, and so never lets a read time out."""
    over = threading.Event()

    def dribble(listener: socket.socket) -> None:
        with contextlib.suppress(OSError):
            connection, _ = listener.accept()
            with connection:
                connection.sendall(b"HTTP/1.1 200 OK\r\nX-Slow: ")
                while not over.wait(0.5):
                    connection.sendall(b".")

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=dribble, args=(listener,), daemon=True)
        thread.start()
        yield int(listener.getsockname()[1])
        over.set()
        thread.join(5)
