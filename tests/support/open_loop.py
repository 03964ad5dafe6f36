"""Posts vibration windows in a process of its own: `python open_loop.py PORT closed|RATE SECONDS DEADLINE`, JSON out.

`closed` keeps 8 connections busy and so measures the capacity; a rate sends that many a second whatever comes back.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from dataclasses import dataclass, field

import numpy as np

HOST = "127.0.0.1"
MOST_CONNECTIONS = 200
_BODY = np.random.default_rng(0).normal(0, 1, 12_000).astype("<f4").tobytes()


@dataclass
class Load:
    """What was sent and how it was answered.

    Attributes:
        seconds: latency of every answer, by status.
        no_retry_after: refusals that did not say when to come again.
        unsent: that found every connection busy.
        broken: connections that ended without an answer.
    """

    port: int
    deadline: float
    seconds: dict[int, list[float]] = field(default_factory=dict)
    no_retry_after: int = 0
    unsent: int = 0
    broken: int = 0
    _idle: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = field(default_factory=list)
    _open: int = 0

    async def post(self) -> None:
        """Send one window."""
        while self._idle and self._idle[-1][0].at_eof():  # the service closes what is idle for some seconds
            self._idle.pop()[1].close()
            self._open -= 1
        if not self._idle and self._open >= MOST_CONNECTIONS:
            self.unsent += 1
            return
        try:
            reader, writer = self._idle.pop() if self._idle else await self._connect()
            begun = time.perf_counter()
            status, retry = await self._ask(reader, writer)
        except (OSError, EOFError):
            self.broken += 1
            self._open -= 1
            return
        self._idle.append((reader, writer))
        self.seconds.setdefault(status, []).append(time.perf_counter() - begun)
        self.no_retry_after += status == 503 and not retry

    async def closed(self, seconds: float, connections: int = 8) -> None:
        """Every connection sends its next window when the last was answered."""
        end = time.perf_counter() + seconds

        async def client() -> None:
            while time.perf_counter() < end:
                await self.post()

        await asyncio.gather(*(client() for _ in range(connections)))

    async def open(self, rate: float, seconds: float) -> None:
        """Send at a rate."""
        begun, tasks = time.perf_counter(), set[asyncio.Task[None]]()
        for number in range(round(rate * seconds)):
            due = begun + number / rate
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            task = asyncio.create_task(self.post())
            tasks.add(task)
            task.add_done_callback(tasks.discard)
        await asyncio.gather(*tasks)

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        self._open += 1
        return await asyncio.open_connection(HOST, self.port)

    async def _ask(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> tuple[int, bool]:
        writer.write(
            b"POST /v1/vibration/bearing/predict?sampling_rate_hz=12000&shaft_rpm=1772&bearing=6205-2RS HTTP/1.1\r\n"
            b"Host: api\r\nContent-Type: application/octet-stream\r\n"
            b"X-Request-Timeout: %f\r\nContent-Length: %d\r\n\r\n" % (self.deadline, len(_BODY))
        )
        writer.write(_BODY)
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        fields = dict(line.split(b": ", 1) for line in head.splitlines()[1:-1])
        await reader.readexactly(int(fields[b"content-length"]))
        return int(head.split()[1]), b"retry-after" in fields


def main(port: int, how: str, seconds: float, deadline: float) -> None:
    """Offer a load and print what came of it."""
    load = Load(port, deadline)
    begun = time.perf_counter()
    asyncio.run(load.closed(seconds) if how == "closed" else load.open(float(how), seconds))
    quantiles = {
        status: [len(each), *(round(float(value), 4) for value in np.quantile(each, (0.5, 0.99, 1)))]
        for status, each in load.seconds.items()
    }
    told = {"answers": quantiles, "seconds": time.perf_counter() - begun}
    sys.stdout.write(json.dumps(told | {key: getattr(load, key) for key in ("no_retry_after", "unsent", "broken")}))


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2], float(sys.argv[3]), float(sys.argv[4]))
