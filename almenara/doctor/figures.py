"""What the services tell of themselves at /metrics: late messages, waiting evidence, full disks."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from almenara.doctor import web
from almenara.doctor.findings import Finding, disk, ok, problem, warning
from almenara.doctor.place import Place

_LATE_SECONDS, _WAITING_SECONDS = 60.0, 300.0
_FIGURE = re.compile(r"^almenara_(\w+) (\S+)$", re.MULTILINE)


def of_api(place: Place) -> Iterator[Finding]:
    """Of the API and the plant-wide record."""
    yield from _of_service("API's alarms", place.api)


def of_worker(place: Place) -> Iterator[Finding]:
    """Of the camera worker."""
    yield from _of_service("worker's alarms", place.worker)


def _of_service(subject: str, url: str) -> Iterator[Finding]:
    try:
        answer = web.get(url, "/metrics")
    except web.NoAnswerError:
        return  # the check of the service says so
    told = {name: float(value) for name, value in _FIGURE.findall(answer.text)} if answer.status == 200 else {}
    if "alarm_store_up" not in told:
        return  # a proxy shows no figures, and a worker without alerts has none
    found = list(_wrong(subject, told))
    yield from found or [ok(subject, "No message is late, no evidence waits, and there is room on the disk.")]


def _wrong(subject: str, told: Mapping[str, float]) -> Iterator[Finding]:
    if not told["alarm_store_up"]:
        yield problem(subject, "Its alarm database does not answer.", "See its log, and the lines of the databases.")
    if (late := told.get("outbox_late_seconds", 0)) > _LATE_SECONDS:
        fact = f"The oldest message of an alarm is {late:.0f} s late."
        yield problem(subject, fact, "Its log says why; try the channel: almenara alarms test-channel NAME")
    if (late := told.get("record_late_seconds", 0)) > _LATE_SECONDS:
        fact = f"The plant-wide record has lacked news of it for {late:.0f} s."
        yield problem(subject, fact, "See the lines of the API, and api.url and api.key in cameras.yaml.")
    if (waits := told.get("evidence_waiting_seconds", 0)) > _WAITING_SECONDS:
        fact = f"Evidence has waited for object storage for {waits:.0f} s."
        yield warning(subject, fact, "See the lines of the object storage; it goes out when that takes it.")
    if told.get("heartbeat_withheld"):
        fact = "Something is wrong that holds the heartbeat back."
        yield warning(subject, fact, "Its log says what.")
    if "disk_free_bytes" in told and "disk_size_bytes" in told:
        room = disk(f"{subject}: disk", told["disk_free_bytes"], told["disk_size_bytes"])
        if room.state != "ok":
            yield room
