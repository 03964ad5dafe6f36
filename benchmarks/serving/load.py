"""``python -m benchmarks.serving.load``: one request, sent again and again over kept-alive connections.

Of the standard library alone and as plain as it can be, since it shares the cores with the server that it measures.
Prints one line of JSON: answers, those that were not 200, seconds, latencies in milliseconds, its own CPU time.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import re
import time
from pathlib import Path

_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_PATIENCE_SECONDS = 60.0


class Connection(asyncio.Protocol):
    """Sends the request as soon as the last one has been answered."""

    def __init__(self, request: bytes, over: asyncio.Event) -> None:
        self.latencies: list[tuple[float, float]] = []
        self.failures: list[str] = []
        self.done = asyncio.get_running_loop().create_future()
        self._request, self._over = request, over
        self._answer = bytearray()
        self._length = -1
        self._sent = 0.0
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)  # noqa: S101  TCP
        self._transport = transport
        self._send()

    def data_received(self, data: bytes) -> None:
        self._answer += data
        if self._length < 0:
            head = self._answer.find(b"\r\n\r\n")
            if head < 0:
                return
            found = _LENGTH.search(self._answer, 0, head)
            if found is None:
                self._fail(f"an answer without a length: {bytes(self._answer[:200])!r}")
                return
            self._length = head + 4 + int(found[1])
        if len(self._answer) < self._length:
            return
        now = time.perf_counter()
        self.latencies.append((now, now - self._sent))
        if self._answer[9:12] != b"200":
            self.failures.append(bytes(self._answer[:400]).decode(errors="replace"))
        self._answer.clear()
        self._length = -1
        if self._over.is_set():
            self._close()
        else:
            self._send()

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.done.done():
            self._fail(f"the server closed the connection: {exc}")

    def _send(self) -> None:
        assert self._transport is not None  # noqa: S101  it is connected
        self._sent = time.perf_counter()
        self._transport.write(self._request)

    def _fail(self, reason: str) -> None:
        self.failures.append(reason)
        self._close()

    def _close(self) -> None:
        if not self.done.done():
            self.done.set_result(None)
        if self._transport is not None:
            self._transport.close()


async def load(port: int, request: bytes, connections: int, warm_up: float, seconds: float) -> dict[str, object]:
    """Load the server for a while; answers that came within the warm-up do not count."""
    loop, over = asyncio.get_running_loop(), asyncio.Event()
    made = [
        (await loop.create_connection(lambda: Connection(request, over), "127.0.0.1", port))[1]
        for _ in range(connections)
    ]
    await asyncio.sleep(warm_up)
    begin, cpu = time.perf_counter(), time.process_time()
    await asyncio.sleep(seconds)
    end, cpu = time.perf_counter(), time.process_time() - cpu
    over.set()
    async with asyncio.timeout(_PATIENCE_SECONDS):
        await asyncio.gather(*(each.done for each in made))
    counted = sorted(latency for each in made for at, latency in each.latencies if begin <= at <= end)
    failures = [failure for each in made for failure in each.failures]
    return {
        "answers": len(counted),
        "all_answers": sum(len(each.latencies) for each in made),
        "failures": len(failures),
        "first_failure": failures[0] if failures else None,
        "seconds": end - begin,
        "p50_ms": _quantile(counted, 0.5),
        "p99_ms": _quantile(counted, 0.99),
        "client_cpu_s": cpu,
    }


def _quantile(ordered: list[float], share: float) -> float | None:
    return 1e3 * ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else None


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.serving.load", description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--request", type=Path, required=True, help="file with the whole HTTP/1.1 request")
    parser.add_argument("--connections", type=int, default=1)
    parser.add_argument("--warm-up", type=float, default=0.5, help="seconds")
    parser.add_argument("--seconds", type=float, default=3.0)
    told = parser.parse_args()
    request = told.request.read_bytes()
    print(json.dumps(asyncio.run(load(told.port, request, told.connections, told.warm_up, told.seconds))))


if __name__ == "__main__":
    main()
