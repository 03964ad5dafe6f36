"""Kills and failing receivers: no alarm is lost, none is told out of order, and what comes twice shows it by its key.

The process that is killed is what a plant runs, with every kind of channel to a real receiver of it.
``ALMENARA_SOAK_KILLS=200`` kills as many times as the acceptance asks for.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import subprocess
import sys
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from asyncua.ua.object_ids import ObjectIds
from sqlalchemy import select

from almenara.alarms import AlarmRecord, AlarmStore, Change, tables
from almenara.alarms.channels.opcua_conditions import node_id
from almenara.processes import free_port
from tests.support.brokers import Listener, mosquitto, wait_for
from tests.support.data import ROOT
from tests.support.mail import html_of
from tests.support.opcua import Watcher, operator, until
from tests.support.postgresql import postgresql_server
from tests.support.unreliable import Fate, unreliable_http, unreliable_smtp, unreliable_way
from tests.support.web_receiver import Request

pytestmark = pytest.mark.slow

CHILD = ROOT / "tests" / "support" / "alarm_child.py"
KILLS = int(os.environ.get("ALMENARA_SOAK_KILLS", "6"))
LONGEST_LIFE_SECONDS = 3.0
"""From the first alarm on; in every fifth life from when the client of OPC UA is there, which takes seconds."""
LATE_SECONDS = 120.0 + 5 * KILLS
"""What has not been told by then never will be."""
REFERENCE = 8
"""Characters of a key that end the texts of SMS and push."""
NAME_ALL = {"mail", "hook"}
"""Whose digests name everything; the texts of SMS and push count what has no room."""
TOLD = {Change.RAISED, Change.RAISED_AGAIN, Change.RETURNED}
PUBLISHES = (31, 4, 5)
"""Of forty are answered, refused, unanswered; a notification takes two, and so fails four times in ten."""
CONDITION, REFRESHING, REFRESHED = (
    node_id(kind)
    for kind in (ObjectIds.AlarmConditionType, ObjectIds.RefreshStartEventType, ObjectIds.RefreshEndEventType)
)
CHANNELS = """channels:
  - {{name: mail, type: apprise, url: "mailto://127.0.0.1:{mail}?from=alarms@plant.example&to=shift@plant.example",
     rate: {{limit: 5, window: 1s}}}}
  - {{name: hook, type: apprise, url: "json://127.0.0.1:{hook}/alarms", rate: {{limit: 1000, window: 100ms}}}}
  - {{name: sms, type: apprise, url: "smseagle://token123456@127.0.0.1:{sms}/+34600111222",
     rate: {{limit: 1000, window: 100ms}}}}
  - {{name: push, type: apprise, url: "ntfy://127.0.0.1:{push}/plant", rate: {{limit: 1000, window: 100ms}}}}
  - {{name: bus, type: mqtt, url: "mqtt://127.0.0.1:{bus}"}}
  - {{name: scada, type: opcua, endpoint: "{scada}"}}
"""


@dataclass(frozen=True)
class Arrival:
    """What a receiver can know of a message: its key, or the beginning of it, and all that it says."""

    key: str
    content: str


@dataclass
class Receivers:
    """Real ones of every kind; how often each refused and did not answer is in `fates`."""

    folder: Path
    fates: dict[str, Fate]
    scada: str

    def __post_init__(self) -> None:
        self.watcher = Watcher(self.scada)

    @contextmanager
    def open(self) -> Iterator[None]:
        taken = {"result": [{"message_id": 1, "status": "ok"}]}
        with ExitStack() as stack:
            self._mail = stack.enter_context(unreliable_smtp(self.fates["mail"]))
            self._web = {
                name: stack.enter_context(unreliable_http(self.fates[name], answer))
                for name, answer in (("hook", None), ("sms", taken), ("push", None))
            }
            broker = stack.enter_context(mosquitto(self.folder))
            way = stack.enter_context(unreliable_way(int(broker.rpartition(":")[2]), self.fates["bus"]))
            self._listener = stack.enter_context(Listener(broker))
            stack.enter_context(self.watcher)
            ports = {name: receiver.port for name, receiver in self._web.items()}
            text = CHANNELS.format(mail=self._mail.port, bus=way, scada=self.scada, **ports)
            (self.folder / "alarms.yaml").write_text(text, encoding="utf-8")
            yield

    def arrivals(self) -> dict[str, list[Arrival]]:
        """What arrived on each channel but OPC UA, in order."""
        mails = (Arrival(mail["Idempotency-Key"], mail["Subject"] + html_of(mail)) for mail in self._mail.received)
        return {
            "mail": list(mails),
            **{name: [OF_WEB[name](request) for request in web.requests] for name, web in self._web.items()},
            "bus": [_of_json(told) for topic, told, _ in self._listener.received if "/alarms/" in topic],
            "log": list(_logged(self.folder / "alarms" / "alarms.log")),
        }

    def states(self) -> dict[str, str]:
        """The key that each source's newest state on the broker has."""
        told = [json.loads(state) for topic, state, _ in self._listener.received if "/state/" in topic]
        return {state["source"]: state["key"] for state in told}


def _of_hook(request: Request) -> Arrival:
    body = request.json()
    assert request.headers["idempotency-key"] == body["idempotency_key"]
    return Arrival(body["idempotency_key"], json.dumps(body))


def _of_sms(request: Request) -> Arrival:
    text = request.json()["params"]["message"]
    return Arrival(text.rpartition("#")[2], text)


def _of_push(request: Request) -> Arrival:
    body = request.json()
    return Arrival(body["message"].rpartition(": ")[2], body["title"] + body["message"])


def _of_json(told: bytes) -> Arrival:
    return Arrival(json.loads(told)["key"], told.decode())


def _logged(path: Path) -> Iterator[Arrival]:
    """Whole lines: one that a kill cut short has told nothing."""
    for line in path.read_bytes().split(b"\n"):
        with contextlib.suppress(json.JSONDecodeError):
            yield _of_json(line)


OF_WEB = {"hook": _of_hook, "sms": _of_sms, "push": _of_push}


@dataclass(frozen=True)
class Record:
    """What the database says in the end."""

    alarms: dict[str, AlarmRecord]
    position: dict[str, int]
    """Of every transition, in the order of their commits."""
    to_tell: dict[str, AlarmRecord]
    deliveries: dict[str, list[tuple[str, str]]]
    """Of each channel, in order: the notification's key, and that of the message that it went out with."""

    @property
    def standing(self) -> dict[str, AlarmRecord]:
        """By source."""
        return {alarm.source: alarm for alarm in self.alarms.values() if alarm.stands}

    @classmethod
    def read(cls, url: str) -> Record:
        rows = tables.deliveries.c
        columns = select(rows.channel, rows.key, rows.batch).order_by(rows.id)
        deliveries = defaultdict(list)
        with AlarmStore(url) as store:
            assert store.pending_deliveries() == store.dead_deliveries() == []
            alarms = {alarm.id: alarm for alarm in store.alarms(limit=1_000_000)}
            logged = store.transitions(limit=1_000_000)
            with store._engine.connect() as connection:
                for channel, key, batch in connection.execute(columns):
                    deliveries[channel].append((key, batch or key))
        to_tell = {t.key: alarms[t.alarm_id] for t in logged if t.alarm_id and t.change in TOLD}
        return cls(alarms, {t.key: number for number, t in enumerate(logged)}, to_tell, deliveries)


@contextmanager
def child(folder: Path, url: str, seed: int) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, str(CHILD), str(folder), url, str(seed)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT)
    too_late = threading.Timer(LATE_SECONDS, process.kill)
    too_late.start()
    try:
        yield process
    finally:
        too_late.cancel()
        process.kill()
        process.wait()


def kill_again_and_again(folder: Path, url: str, watcher: Watcher) -> set[str]:
    """Ids of the alarms that were announced before a kill."""
    (folder / "raise").touch()
    announced: set[str] = set()
    pauses = random.Random(7)
    for seed in range(KILLS):
        with child(folder, url, seed) as process:
            assert process.stdout is not None
            announced.add(process.stdout.readline().strip())
            if seed % 5 == 1:
                wait_for(partial(watcher.connected_after, watcher.sessions), 30)
            time.sleep(LONGEST_LIFE_SECONDS * pauses.random() ** 2)  # a kill comes at any time, often early
            process.kill()
            announced |= {line.strip() for line in process.stdout if line.endswith("\n")}
    (folder / "raise").unlink()
    return announced


def deliver_the_rest(folder: Path, url: str, scada: str) -> tuple[Record, dict[str, Any]]:
    """The database once everything has been told, and what a client of OPC UA then finds standing, by source."""
    with child(folder, url, KILLS) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "\n", "not everything was told in time"
        record = Record.read(url)
        standing = asyncio.run(shown(scada, len(record.standing)))
        process.communicate(timeout=30)
        assert process.returncode == 0
    return record, standing


async def shown(scada: str, count: int) -> dict[str, Any]:
    """The conditions that a refresh brings; `count` of them, as soon as those that people have ended are gone."""
    deadline = time.monotonic() + 15
    while True:
        async with operator(scada) as client:
            await client.refresh()
            await until(lambda: any(each.EventType == REFRESHED for each in client.events))
            found = {each.SourceName: each for each in client.events if is_condition(each) and each.Retain}
        if len(found) == count or time.monotonic() > deadline:
            return found


def is_condition(event: Any) -> bool:
    return bool(event.EventType == CONDITION)


def assert_told(channel: str, arrivals: Sequence[Arrival], record: Record, length: int = 36) -> Counter[str]:
    """Everything arrived, recognisable and in order; how often the same came again, and how often in a digest."""
    rows = record.deliveries[channel]
    assert sorted(key for key, _ in rows) == sorted(record.to_tell), f"not everything was to be told on {channel}"
    tells: dict[str, set[str]] = defaultdict(set)
    for key, message in rows:
        tells[message].add(key)
    # What was tried alone, and may have arrived, goes with a digest and its key when a flood has come in between.
    known = {key[:length]: {key} for key, _ in rows} | {message[:length]: keys for message, keys in tells.items()}
    assert len(known) == len({each for row in rows for each in row}), f"two messages on {channel} look the same"
    contents: dict[str, str] = {}
    first: dict[str, int] = {}
    last: dict[str, int] = defaultdict(lambda: -1)
    copies = Counter(same=0, in_digest=0)
    for arrival in arrivals:
        assert arrival.key in known, f"nobody sent this on {channel}: {arrival}"
        if arrival.key in contents:
            assert contents[arrival.key] == arrival.content, "one key, two messages"
            copies["same"] += 1
            continue
        contents[arrival.key] = arrival.content
        copies["in_digest"] += len(known[arrival.key] & first.keys())
        alone = len(known[arrival.key]) == 1
        if not alone and channel in NAME_ALL:
            assert all(key[:REFERENCE] in arrival.content for key in known[arrival.key])
        for key in sorted(known[arrival.key] - first.keys(), key=record.position.__getitem__):
            alarm = record.to_tell[key]
            assert alarm.source in arrival.content or not (alone or channel in NAME_ALL)
            assert last[alarm.id] < record.position[key], f"told out of order on {channel}"
            first[key] = last[alarm.id] = record.position[key]
    assert set(first) == set(record.to_tell), f"not everything was told on {channel}"
    assert {message[:length] for message in tells} <= set(contents), f"a message is missing on {channel}"
    return copies


def assert_shown(events: Sequence[Any], record: Record) -> int:
    """Every event has a known key, and what was told came in order; how many events there were.

    A refresh shows what stands, which may be further than what has been told.
    """
    refreshing = False
    last: dict[str, tuple[int, set[str]]] = defaultdict(lambda: (-1, set()))
    for event in events:
        if not is_condition(event):
            refreshing = event.EventType == REFRESHING
            continue
        key, _, followed = event.EventId.decode().partition("/")
        assert key in record.position, f"nobody sent {event.EventId!r}"
        newest, seen = last[event.SourceName]
        if not refreshing and not followed and key not in seen:
            assert newest < record.position[key], "told out of order over OPC UA"
            last[event.SourceName] = record.position[key], seen | {key}
    return sum(map(is_condition, events))


def assert_stands(standing: dict[str, Any], record: Record) -> None:
    """What OPC UA shows is what stands, each with a key of its alarm."""
    assert set(standing) == set(record.standing)
    for source, event in standing.items():
        key, alarm = event.EventId.decode().partition("/")[0], record.standing[source]
        assert record.to_tell[key].id == alarm.id
        assert event.__dict__["ActiveState/Id"] == alarm.phase.active


@contextmanager
def database(kind: str, folder: Path) -> Iterator[str]:
    if kind == "sqlite":
        yield f"sqlite:///{folder / 'alarms.db'}"
        return
    with postgresql_server() as url:
        yield url


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_kills_and_failing_receivers_lose_no_alarm_and_keep_the_order(kind: str, tmp_path: Path) -> None:
    fates = {name: Fate(number) for number, name in enumerate(("mail", "hook", "sms", "push"))}
    fates["bus"] = Fate(4, *PUBLISHES)
    receivers = Receivers(tmp_path, fates, f"opc.tcp://127.0.0.1:{free_port()}/almenara")
    begin = time.monotonic()
    with database(kind, tmp_path) as url, receivers.open():
        announced = kill_again_and_again(tmp_path, url, receivers.watcher)
        killed = time.monotonic()
        record, standing = deliver_the_rest(tmp_path, url, receivers.scada)
        newest = {record.to_tell[key].source: key for key, _ in record.deliveries["bus"]}
        wait_for(lambda: receivers.states() == newest)
    arrivals = receivers.arrivals()
    sys.stdout.write(
        f"\n{kind}: {KILLS} kills in {killed - begin:.0f} s, {time.monotonic() - killed:.0f} s for the rest; "
        f"{len(record.alarms)} alarms, {len(record.to_tell)} notifications a channel; "
        f"{ {name: len(told) for name, told in arrivals.items()} } arrivals; attempts"
        f" { {name: dict(fate.met) for name, fate in fates.items()} }; {receivers.watcher.sessions} OPC UA sessions\n"
    )
    assert announced <= set(record.alarms), "an alarm that was announced is not in the database"
    assert len(record.alarms) >= KILLS
    short = {"sms": REFERENCE, "push": REFERENCE}
    copies = {name: assert_told(name, told, record, short.get(name, 36)) for name, told in arrivals.items()}
    assert all(copies[name].total() for name in fates), f"no duplicate came, so that none was recognised: {copies}"
    assert all(fate.met[outcome] for fate in fates.values() for outcome in ("refused", "unanswered"))
    assert any(message.endswith("-digest") for _, message in record.deliveries["mail"])
    assert_stands(standing, record)
    events = assert_shown(receivers.watcher.events, record)
    assert receivers.watcher.sessions > 1
    duplicates = {name: dict(found) for name, found in copies.items()}
    sys.stdout.write(f"duplicates {duplicates}; OPC UA: {events} events, {len(standing)} stand\n")
