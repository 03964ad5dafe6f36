"""Question 4: does anything grow while connections break and openings fail for weeks?"""

from __future__ import annotations

import contextlib
import json
import re
import socketserver
import threading
from collections.abc import Iterator

from almenara.processes import free_port
from benchmarks.camera.processes import Simulator
from benchmarks.harness import Bench, Child, Result, module

MOST_GROWTH_MIB = 2.0

_ANSWERS = ("", "RTSP/1.0 503 Service Unavailable\r\nCSeq: 1\r\n\r\n", "RTSP/1.0 401 Unauthorized\r\nCSeq: 1\r\n\r\n")
_MOST_REQUEST_BYTES = 4096
_PATIENCE_SECONDS = 900.0


def leaks(bench: Bench) -> list[Result]:
    """Resident memory, threads and descriptors of a process that reads cameras, after a warm-up and at the end.

    The process drives the worker's readers and its capture thread alone: without supervisor, scoring and alarms.
    """
    opens, cuts = bench.repeat(10_000, 200), bench.repeat(1_000, 20)
    with _failing_cameras() as failing, Simulator({"fps": 30}) as simulator:
        arguments = ["--failing", *failing, "--opens", str(opens), "--camera", simulator.url]
        arguments += ["--control", str(simulator.control_port), "--reconnects", str(cuts)]
        with Child(module("benchmarks.camera.leaking", *arguments), name="the process that may leak") as child:
            phases = {}
            for done, phase in enumerate(("failed_opens", "reconnects")):
                bench.progress.step(done, 2)
                beginning = re.compile(f'{{"phase": "{phase}"')
                line = child.need(beginning.match, seconds=_PATIENCE_SECONDS, log=False)
                phases[phase] = json.loads(line.text)["grown"]
    figures = {f"{phase}_{what}": grown for phase, told in phases.items() for what, grown in told.items()}
    memory = sum(max(0.0, told["mib"]) for told in phases.values())
    constant = all(told[what] <= 0 for told in phases.values() for what in ("threads", "descriptors"))
    met = memory <= MOST_GROWTH_MIB and constant
    target = f"<= {MOST_GROWTH_MIB:g} MiB over {cuts} reconnects and {opens} failed opens; no thread, no descriptor"
    return [Result("leaks", target, figures, met)]


@contextlib.contextmanager
def _failing_cameras() -> Iterator[list[str]]:
    """Addresses of cameras that end the connection, answer 503, answer 401, and one where nobody listens."""
    servers = [_server(answer.encode()) for answer in _ANSWERS]
    for server in servers:
        threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        ports = [*(server.server_address[1] for server in servers), free_port()]
        yield [f"rtsp://127.0.0.1:{port}/cam" for port in ports]
    finally:
        for server in servers:
            server.shutdown()
            server.server_close()


def _server(answer: bytes) -> socketserver.TCPServer:
    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            with contextlib.suppress(ConnectionError):
                if answer and self.request.recv(_MOST_REQUEST_BYTES):
                    self.request.sendall(answer)

    return socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler)
