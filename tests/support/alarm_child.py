"""A process that raises alarms and delivers them until it is killed: ``python alarm_child.py DIRECTORY SEED ADDRESS``.

It prints the id of each alarm after its commit. It posts every message as JSON to ``ADDRESS/CHANNEL``: ``hook`` takes
everything, ``people`` three messages a second. When the file ``raise`` is gone from the directory it delivers what is
left and ends.
"""

from __future__ import annotations

import logging
import random
import sys
import threading
import time
import urllib.request
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from almenara.alarms import AlarmStore, Deliverer, Message, Rule
from almenara.alarms.channels import Pace
from almenara.alarms.ticking import Ticker
from almenara.contracts import Observation

RULE = Rule(on_delay_seconds=0, off_delay_seconds=0, cooldown_seconds=0)


@dataclass(frozen=True)
class HookChannel:
    name: str
    address: str
    pace: Pace | None = None

    def send(self, message: Message) -> None:
        body = message.model_dump_json().encode()
        request = urllib.request.Request(f"{self.address}/{self.name}", data=body)  # noqa: S310 - http, by the parent
        with urllib.request.urlopen(request, timeout=5):  # noqa: S310
            pass

    def close(self) -> None:
        """Nothing is open between two messages."""


def observe(store: AlarmStore, source: str, anomaly: float) -> None:
    seen = Observation(source=source, kind="vision", anomaly=anomaly, observed_at=datetime.now(UTC))
    for transition in store.observe(seen, RULE, now=time.monotonic()):
        if transition.raised:
            sys.stdout.write(f"{transition.alarm_id}\n")
            sys.stdout.flush()


def main(directory: Path, seed: int, address: str) -> None:
    store = AlarmStore(f"sqlite:///{directory / 'alarms.db'}", channels=("hook", "people"), monotonic=time.monotonic)
    channels = [HookChannel("hook", address), HookChannel("people", address, Pace(limit=3, window_seconds=1))]
    deliverer = Deliverer(store, channels, poll_seconds=0.01, first_retry_seconds=0.02, longest_retry_seconds=0.2)
    for work in (deliverer, Ticker(store, every_seconds=0.1)):
        threading.Thread(target=work.run, args=(threading.Event(),), daemon=True).start()
    number = 0
    while (directory / "raise").exists():
        number += 1
        source = f"camera-{seed}-{number}"
        for anomaly in (0.9, 0.0, 0.9)[: 1 + number % 3]:
            observe(store, source, anomaly)
        time.sleep(random.random() * 0.04)
    while store.pending_deliveries():
        time.sleep(0.02)


if __name__ == "__main__":
    logging.disable(logging.WARNING)  # failing is the receivers' purpose
    main(Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3])
