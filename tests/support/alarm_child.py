"""What a plant runs, and alarms in it, until it is killed: ``python alarm_child.py DIRECTORY DATABASE SEED``.

Its channels are those of ``DIRECTORY/alarms.yaml``. It prints the id of each alarm after its commit. When the file
``raise`` is gone from the directory it delivers what is left, prints an empty line, and ends when its input does.
"""

from __future__ import annotations

import logging
import random
import sys
import time
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from paho.mqtt.client import Client

import almenara.alarms.office
from almenara.alarms import Deliverer, Rule
from almenara.alarms.channels import mqtt
from almenara.alarms.config import load_alarms_config
from almenara.alarms.office import AlarmOffice
from almenara.contracts import Observation

RULE = Rule(on_delay_seconds=0, off_delay_seconds=0, cooldown_seconds=0)
STANDING = 12
SHAPES = ((0.9,), (0.9, 0.0), (0.9, 0.0, 0.9), (0.9, 0.0, 0.9, 0.0))
PATIENCE_SECONDS, RECONNECT_SECONDS = 0.2, 0.1
"""Of MQTT: one cut is mended by the client's library, two in a row are by the deliverer."""

impatient_deliverer = partial(
    Deliverer, lease_seconds=1.0, poll_seconds=0.1, first_retry_seconds=0.02, longest_retry_seconds=0.2
)


class QuickClient(Client):
    def reconnect_delay_set(self, *_seconds: int) -> None:
        self._reconnect_min_delay = self._reconnect_max_delay = RECONNECT_SECONDS  # type: ignore[assignment]


def observe(office: AlarmOffice, source: str, anomaly: float) -> None:
    seen = Observation(source=source, kind="vision", anomaly=anomaly, observed_at=datetime.now(UTC))
    for transition in office.store.observe(seen, RULE, now=time.monotonic()):
        if transition.raised:
            sys.stdout.write(f"{transition.alarm_id}\n")
            sys.stdout.flush()


def take_care(office: AlarmOffice) -> None:
    """End the oldest alarms, so that a dozen stand."""
    for alarm in list(office.standing())[STANDING:]:
        if alarm.phase.active:
            observe(office, alarm.source, 0.0)
        office.acknowledge(alarm.id, "ana", "")


def main(directory: Path, url: str, seed: int) -> None:
    config = load_alarms_config(directory / "alarms.yaml")
    with AlarmOffice(url, directory, config=config) as office:
        number = 0
        while (directory / "raise").exists():
            number += 1
            for anomaly in SHAPES[number % len(SHAPES)]:
                observe(office, f"line-{seed}/camera-{number}", anomaly)
            take_care(office)
            time.sleep(random.random() * 0.3)
        while office.store.pending_deliveries():
            time.sleep(0.1)
        sys.stdout.write("\n")
        sys.stdout.flush()
        sys.stdin.read()


if __name__ == "__main__":
    logging.disable(logging.ERROR)  # failing is the receivers' purpose
    setattr(almenara.alarms.office, "Deliverer", impatient_deliverer)  # noqa: B010 - a class to mypy
    setattr(mqtt, "_SEND_SECONDS", PATIENCE_SECONDS)  # noqa: B010 - a constant to mypy
    setattr(mqtt, "Client", QuickClient)  # noqa: B010 - a class to mypy
    main(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]))
