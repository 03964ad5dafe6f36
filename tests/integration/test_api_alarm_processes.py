"""Three API processes and a worker on one PostgreSQL, one process killed: they do what one process does alone."""

from __future__ import annotations

import itertools
import json
import os
import signal
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest

from almenara.alarms import AlarmStore, Change, Phase, Rule, Transition
from almenara.alarms.forwarding import CURSOR, Forwarder
from almenara.contracts import Observation
from almenara.evidence import LocalEvidence
from tests.support.api import (
    RunningApi,
    cache_champions,
    faulty_signal,
    healthy_features,
    healthy_signal,
    running_api,
    wait_until,
)
from tests.support.packages import classifier_candidate, novelty_candidate
from tests.support.postgresql import postgresql_server

pytestmark = pytest.mark.slow

WINDOWS = int(os.environ.get("ALMENARA_TEST_WINDOWS", "600"))
"""Posted in each run; 10,000 for the full count."""
RAISES = 2  # a third within a minute would be chattering, whose end only the clock decides
BURSTS = 4  # before each raise, too short to become an alarm
CLIENTS = 6
REPEATED = 10
ASSET = "pump-1"
WORKER = "worker-1"
AT_ONCE = Rule(on_delay_seconds=0, off_delay_seconds=0, cooldown_seconds=0)
POSTED: dict[str, str | int] = {"sampling_rate_hz": 12_000, "shaft_rpm": 1772, "bearing": "6205-2RS", "asset": ASSET}
DELAYS = {"ON_DELAY": "2", "OFF_DELAY": "0.2", "COOLDOWN": "0"}


class Clients:
    """Post windows to several services at once; what one of them does not answer goes to the next."""

    def __init__(self, apis: Sequence[RunningApi]) -> None:
        self._apis = apis
        self._turn = itertools.count()
        self.unanswered = 0
        self.posted = 0
        self.repeated = 0

    def post(self, body: bytes) -> None:
        """A window; every tenth is sent once more, which changes nothing."""
        key = str(uuid.uuid4())
        first = self._send(body, key)
        if self.posted % REPEATED == 0:
            again = self._send(body, key)
            assert (again.headers.get("idempotent-replayed"), again.content) == ("true", first.content)
            self.repeated += 1
        self.posted += 1

    def _send(self, body: bytes, key: str) -> httpx.Response:
        for _ in range(2 * len(self._apis)):
            api = self._apis[next(self._turn) % len(self._apis)]
            try:
                answer = api.http.post(
                    "/v1/vibration/bearing/predict",
                    content=body,
                    params=POSTED,
                    headers={"content-type": "application/octet-stream", "Idempotency-Key": key},
                )
            except httpx.TransportError:
                self.unanswered += 1
                continue
            assert answer.status_code == 200, answer.text
            return answer
        raise AssertionError("no service answers")

    def acknowledge(self) -> None:
        for api in self._apis:
            try:
                [alarm] = api.http.get("/v1/alarms", params={"source": ASSET, "limit": 1}).json()
                api.http.post(f"/v1/alarms/{alarm['id']}/acknowledge", json={"user": "maria"}).raise_for_status()
            except httpx.TransportError:
                continue
            return
        raise AssertionError("no service answers")


class Worker:
    """A worker with a store of its own: faults come and go before its cameras until `stop`, and it reports them."""

    def __init__(self, folder: Path, api: RunningApi) -> None:
        self._api = api
        self.store = AlarmStore(f"sqlite:///{folder / 'worker.db'}", origin=WORKER, monotonic=time.monotonic)
        evidence = LocalEvidence(folder / "worker-evidence")
        self._forwarder = Forwarder(self.store, str(api.http.base_url), api_key=None, origin=WORKER, evidence=evidence)
        self._stop = threading.Event()
        self._watching = threading.Thread(target=self._watch)
        self._watching.start()
        self._forwarder.start()

    @property
    def log(self) -> list[Transition]:
        return self.store.transitions(limit=100_000)

    def stop(self) -> None:
        """No more faults, and all of them are reported."""
        self._stop.set()
        self._watching.join()
        last, _ = self.store.changes_after(0, 100_000)[-1]
        wait_until(lambda: self.store.cursor(CURSOR) == last, 30, self._api.log)

    def close(self) -> None:
        self._stop.set()
        self._watching.join()
        self._forwarder.stop(30)
        self.store.close()

    def _watch(self) -> None:
        anomalies = itertools.cycle((0.9, 0.9, 0.0, 0.0))
        for number, anomaly in enumerate(anomalies):
            seen = Observation(
                source=f"camera-{number % 2}", kind="vision", anomaly=anomaly, observed_at=datetime.now(UTC)
            )
            self.store.observe(seen, AT_ONCE, now=time.monotonic())
            if self._stop.wait(0.1):
                return


@contextmanager
def working(folder: Path, api: RunningApi) -> Iterator[Worker]:
    worker = Worker(folder, api)
    try:
        yield worker
    finally:
        worker.close()


def drive(apis: Sequence[RunningApi], store: AlarmStore, disturb: Callable[[], None]) -> Clients:
    """Bursts, and faults that last, each between healthy times; `disturb` happens while the first alarm is pending.

    A time lasts until the alarm has followed, so that what happens does not depend on the machine's speed.
    """
    clients = Clients(apis)
    healthy = [healthy_signal(seed).tobytes() for seed in range(40, 48)]
    faulty = [faulty_signal(seed).tobytes() for seed in range(8)]
    length = WINDOWS // (RAISES * (BURSTS + 2))

    def last(bodies: Sequence[bytes], settled: Phase, meanwhile: Callable[[], None] = lambda: None) -> None:
        for _ in range(100):
            posts = [pool.submit(clients.post, bodies[n % len(bodies)]) for n in range(length)]
            meanwhile()
            for post in posts:
                post.result()
            if store.phase(ASSET) is settled:
                return
            meanwhile = _nothing
        raise AssertionError(f"{ASSET} is {store.phase(ASSET)}, not {settled}")

    with ThreadPoolExecutor(CLIENTS) as pool:
        last(healthy, Phase.NORMAL)
        for number in range(RAISES):
            for _ in range(BURSTS):
                clients.post(faulty[0])
                last(healthy, Phase.NORMAL)
            last(faulty, Phase.UNACKNOWLEDGED, _nothing if number else disturb)
            if number:
                clients.acknowledge()
            last(healthy, Phase.NORMAL if number else Phase.RETURNED_UNACKNOWLEDGED)
            if not number:
                clients.acknowledge()
    return clients


def _nothing() -> None:
    return


@pytest.fixture
def champions(tmp_path: Path) -> Callable[[str], Path]:
    candidates = [classifier_candidate(), novelty_candidate(healthy_features(), ASSET)]

    def make(name: str) -> Path:
        cache_champions(tmp_path / name, candidates)
        return tmp_path / name

    return make


def start(stack: ExitStack, folder: Path, url: str) -> RunningApi:
    delays = {f"ALMENARA_VIBRATION_{name}_SECONDS": value for name, value in DELAYS.items()}
    return stack.enter_context(running_api(folder, {"ALMENARA_ALARMS_URL": url, **delays}))


def log_of(store: AlarmStore) -> list[Transition]:
    return store.transitions(ASSET, limit=100_000)


def steps(log: Sequence[Transition]) -> list[tuple[Change, Phase]]:
    return [(each.change, each.phase) for each in log]


def told(apis: Sequence[RunningApi]) -> Iterator[tuple[str, str]]:
    """Key and event of every message in the logs of all processes."""
    for api in apis:
        path = api.log.parent / "alarms" / "alarms.log"
        for line in path.read_text().splitlines() if path.exists() else ():
            message = json.loads(line)
            yield message["key"], message["event"]


@pytest.mark.timeout(1800)
def test_three_processes_of_which_one_is_killed_and_a_worker_log_and_tell_what_one_process_does(
    tmp_path: Path, champions: Callable[[str], Path]
) -> None:
    with ExitStack() as stack:
        alone_url = f"sqlite:///{tmp_path / 'alone.db'}"
        alone = start(stack, champions("alone"), alone_url)
        store = stack.enter_context(AlarmStore(alone_url))
        drive([alone], store, _nothing)
        expected = steps(log_of(store))
    changes = Counter(change for change, _ in expected)
    assert (changes[Change.CANCELLED], changes[Change.RAISED], changes[Change.RETURNED]) == (RAISES * BURSTS, 2, 2)

    with ExitStack() as stack:
        url = stack.enter_context(postgresql_server())
        apis = [start(stack, champions(f"api-{number}"), url) for number in range(3)]
        store = stack.enter_context(AlarmStore(url))
        worker = stack.enter_context(working(tmp_path, apis[1]))
        clients = drive(apis, store, lambda: os.killpg(apis[0].process.pid, signal.SIGKILL))
        log = log_of(store)
        worker.stop()
        record = [each for each in store.transitions(limit=100_000) if each.origin == WORKER]
        alarms, own = ({each.id: each.phase for each in s.alarms(limit=100_000)} for s in (store, worker.store))
        wait_until(lambda: not store.pending_deliveries(), 60, apis[1].log)
        messages = list(told(apis))
        reported = worker.log

    assert clients.posted >= WINDOWS
    assert clients.unanswered > 0, "the kill met no request"
    assert clients.repeated >= WINDOWS // REPEATED // 2
    assert steps(log) == expected
    assert all(later.previous is earlier.phase for earlier, later in itertools.pairwise(log))
    to_tell = {(each.key, str(each.change)) for each in log if each.change in (Change.RAISED, Change.RETURNED)}
    assert set(messages) == to_tell, "what is told twice comes with the same key, and a worker tells its own alarms"
    assert Counter(each.change for each in reported)[Change.RAISED] >= RAISES
    assert [each.key for each in record] == [each.key for each in reported]
    assert own.items() <= alarms.items()
