"""A process that raises alarms and delivers them until it is killed: ``python alarm_child.py DIRECTORY SEED``.

It prints the id of each alarm after its commit. Its channel appends keys to a file and fails in 40 of 100 attempts,
half of them after the message has arrived, as a receiver does whose answer is lost.
"""

from __future__ import annotations

import logging
import os
import random
import sys
import threading
import time
from datetime import UTC, datetime
from pathlib import Path

from almenara.alarms import AlarmStore, Deliverer, Notification, Rule
from almenara.contracts import Observation

RULE = Rule(on_delay_seconds=0, off_delay_seconds=0, cooldown_seconds=0)


class UnreliableChannel:
    name = "log"

    def __init__(self, path: Path, seed: int) -> None:
        self._path = path
        self._random = random.Random(seed)

    def send(self, notification: Notification) -> None:
        fate = self._random.random()
        if fate < 0.2:
            raise ConnectionError("receiver is away")
        with self._path.open("ab", buffering=0) as file:
            file.write(f"{notification.key} {notification.event} {notification.alarm.id}\n".encode())
            os.fsync(file.fileno())
        if fate < 0.4:
            raise ConnectionError("the receiver's answer was lost")


def main(directory: Path, seed: int) -> None:
    store = AlarmStore(f"sqlite:///{directory / 'alarms.db'}")
    channel = UnreliableChannel(directory / "received", seed)
    deliverer = Deliverer(
        store, [channel], lease_seconds=0.5, poll_seconds=0.01, first_retry_seconds=0.02, longest_retry_seconds=0.2
    )
    threading.Thread(target=deliverer.run, args=(threading.Event(),), daemon=True).start()
    number = seed * 1_000_000
    while (directory / "raise").exists():
        number += 1
        observation = Observation(source=f"camera-{number}", kind="vision", anomaly=0.9, observed_at=datetime.now(UTC))
        for transition in store.observe(observation, RULE, now=time.monotonic()):
            if transition.raised:
                sys.stdout.write(f"{transition.alarm_id}\n")
                sys.stdout.flush()
        if number % 3 == 0:
            store.observe(observation.model_copy(update={"anomaly": 0.0}), RULE, now=time.monotonic())
        time.sleep(random.random() * 0.04)
    while store.pending_deliveries():
        time.sleep(0.02)


if __name__ == "__main__":
    logging.disable(logging.WARNING)  # failing is this channel's purpose
    main(Path(sys.argv[1]), int(sys.argv[2]))
