"""A server that answers what a test tells it to, where a real one cannot be made to fail so."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from almenara.doctor import Place
from almenara.settings import Settings


@dataclass
class Told:
    """Status and body by path; a path that is not named is answered 404.

    Attributes:
        hosts: names in the header Host that are accepted, others are refused with 403; all of them when empty.
    """

    answers: dict[str, tuple[int, str]] = field(default_factory=dict)
    hosts: set[str] = field(default_factory=set)
    url: str = ""


@pytest.fixture
def told() -> Iterator[Told]:
    script = Told()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, body = script.answers.get(self.path.partition("?")[0], (404, ""))
            if script.hosts and self.headers["Host"].partition(":")[0] not in script.hosts:
                status, body = 403, "Invalid Host header"
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body.encode())

        def log_message(self, *_: Any) -> None:
            """Quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    script.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    yield script
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def place(told: Told) -> Place:
    """One at which every service is the told one."""
    settings = Settings(mlflow_tracking_uri=told.url)
    return Place(settings, {}, api_url=told.url, worker_url=told.url)
