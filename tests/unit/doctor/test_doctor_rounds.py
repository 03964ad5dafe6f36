"""Every check is made, whatever becomes of the others, and nothing that it says holds a secret."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from almenara.doctor import Finding, Place, diagnose
from almenara.doctor.findings import clock, disk, ok
from almenara.errors import ConfigurationError
from almenara.settings import Settings

HERE = Place(Settings(), {})
GB = 1e9


def well(_: Place) -> Iterator[Finding]:
    yield ok("well", "It is.")


def failing(_: Place) -> Iterator[Finding]:
    yield ok("failing", "It began.")
    raise RuntimeError("a fault of ours")


def refused(_: Place) -> Iterator[Finding]:
    raise ConfigurationError("The address is none.", "Correct it.")
    yield


def lacking(_: Place) -> Iterator[Finding]:
    raise ModuleNotFoundError(name="psycopg2")
    yield


def test_a_check_that_fails_keeps_what_it_found_and_stops_no_other() -> None:
    found = diagnose(HERE, [("failing", failing), ("refused", refused), ("lacking", lacking), ("well", well)])
    assert [(each.subject, each.state) for each in found] == [
        ("failing", "ok"),
        ("failing", "problem"),
        ("refused", "problem"),
        ("lacking", "problem"),
        ("well", "ok"),
    ]
    assert "RuntimeError: a fault of ours" in found[1].fact
    assert (found[2].fact, found[2].remedy) == ("The address is none.", "Correct it.")
    assert "psycopg2 is not installed" in found[3].fact


def test_a_check_that_hangs_is_told_in_time_beside_what_it_had_found() -> None:
    over = threading.Event()

    def hanging(_: Place) -> Iterator[Finding]:
        yield ok("hanging", "It answers.")
        over.wait(30)

    found = diagnose(HERE, [("hanging", hanging), ("well", well)], seconds=0.2)
    over.set()
    assert [(each.subject, each.state) for each in found] == [("hanging", "ok"), ("hanging", "problem"), ("well", "ok")]
    assert found[1].fact == "There was no answer in time."


@pytest.mark.parametrize(
    "name", ["PGPASSWORD", "MINIO_SECRET_KEY", "MLFLOW_TRACKING_PASSWORD", "MLFLOW_TRACKING_TOKEN"]
)
def test_a_secret_of_the_environment_is_never_told(name: str) -> None:
    def talkative(_: Place) -> Iterator[Finding]:
        raise RuntimeError("the server said: hunter2-hunter2 is wrong\nat http://user:swordfish@host/?key=sesame")
        yield

    settings = Settings(alarms_url="postgresql+psycopg2://almenara:open%20up@nowhere/alarms")
    (finding,) = diagnose(Place(settings, {name: "hunter2-hunter2"}), [("talkative", talkative)])
    assert "*** is wrong at http://***@host/?key=***" in finding.fact
    assert "open up" not in Place(settings, {}).clean("it said: open up")


@pytest.mark.parametrize(
    ("free", "size", "state"),
    [(0.4, 100, "problem"), (1.9, 10, "warning"), (9, 100, "warning"), (11, 100, "ok"), (2.1, 20, "ok")],
)
def test_a_disk_is_told_before_it_is_full(free: float, size: float, state: str) -> None:
    finding = disk("disk", free * GB, size * GB)
    assert finding.state == state
    assert bool(finding.remedy) == (state != "ok")


@pytest.mark.parametrize(
    ("offset", "state", "words"),
    [
        (4.9, "ok", "within 5 s"),
        (-4.9, "ok", "within 5 s"),
        (6, "warning", "6 s ahead of"),
        (-60, "warning", "60 s behind"),
        (901, "problem", "901 s ahead of"),
    ],
)
def test_a_clock_that_is_apart_is_told_with_the_side(offset: float, state: str, words: str) -> None:
    finding = clock("clock", offset)
    assert (finding.state, words in finding.fact) == (state, True)
