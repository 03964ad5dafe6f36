"""`almenara alarms` against a real API that has alarms of its own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pytest

from almenara.alarms import AlarmStore, Phase, Rule
from almenara.contracts import Observation
from almenara.processes import answers, free_port
from tests.support.api import NOWHERE, running_api, wait_until
from tests.support.data import ROOT
from tests.support.servers import running

pytestmark = pytest.mark.slow

KEY = "a-key-of-the-test"
RULE = Rule(on_delay_seconds=0, off_delay_seconds=0)


@dataclass
class Plant:
    """A running API and the store that its process shares with the test."""

    url: str
    store: AlarmStore

    @property
    def environment(self) -> dict[str, str]:
        return {**os.environ, "ALMENARA_API_URL": self.url, "ALMENARA_API_KEY": KEY, "COLUMNS": "200", "TZ": "UTC"}

    def run(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "almenara", "alarms", *arguments],
            cwd=ROOT,
            env={**self.environment, **environment},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def json(self, *arguments: str) -> dict[str, object]:
        done = self.run(*arguments, "--json")
        assert done.returncode == 0, done.stderr
        found = json.loads(done.stdout.splitlines()[-1])
        assert isinstance(found, dict)
        return found

    def observe(self, source: str, anomaly: float, rule: Rule = RULE) -> None:
        seen = Observation(
            source=source, kind="vibration", anomaly=anomaly, reason="BPFO at 8 dB", observed_at=datetime.now(UTC)
        )
        self.store.observe(seen, rule, now=time.monotonic())

    def raise_alarm(self, source: str, rule: Rule = RULE) -> str:
        self.observe(source, 0.9, rule)
        return self.store.alarms(limit=1)[0].id


@pytest.fixture(scope="module")
def plant(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Plant]:
    var = tmp_path_factory.mktemp("var")
    with (
        running_api(var, {"ALMENARA_API_KEY": KEY}, ready=False) as api,
        AlarmStore(f"sqlite:///{var / 'alarms' / 'api.db'}") as store,
    ):
        yield Plant(str(api.http.base_url), store)


@contextmanager
def watching(plant: Plant, folder: Path, *arguments: str) -> Iterator[tuple[subprocess.Popen[bytes], Path]]:
    """`almenara alarms watch` in the background, ended with Ctrl-C."""
    out = folder / "watched"
    with out.open("w") as file:
        child = subprocess.Popen(
            [sys.executable, "-u", "-m", "almenara", "alarms", "watch", *arguments],
            cwd=ROOT,
            env=plant.environment,
            stdout=file,
            stderr=subprocess.STDOUT,
            preexec_fn=_take_interrupts,  # noqa: PLW1509  one call
        )
        try:
            yield child, out
        finally:
            child.send_signal(signal.SIGINT)
            try:
                child.wait(10)
            finally:
                child.kill()


def _take_interrupts() -> None:
    """A test run that a shell put into the background ignores SIGINT, and its children would too."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def test_alarms_are_listed_in_local_time_with_short_ids(plant: Plant) -> None:
    alarm = plant.raise_alarm("line-1/pump")
    done = plant.run("list", "--source", "line-1/*", "--standing")
    raised = plant.store.alarm(alarm).raised_at
    assert done.returncode == 0, done.stderr
    for shown in (alarm[:8], f"{raised:%Y-%m-%d %H:%M:%S}", "line-1/pump", "unacknowledged", "BPFO at 8 dB"):
        assert shown in done.stdout


@pytest.mark.parametrize(
    ("options", "fits"),
    [
        (["--phase", "acknowledged", "--phase", "unacknowledged"], True),
        (["--phase", "latched"], False),
        (["--kind", "vibration", "--priority", "high", "--since", "1h"], True),
        (["--kind", "vision"], False),
        (["--over"], False),
    ],
)
def test_list_is_filtered(plant: Plant, options: list[str], fits: bool) -> None:
    source = f"filter/{len(options)}-{options[-1]}"
    plant.raise_alarm(source)
    listed = plant.json("list", "--source", source, *options)
    assert bool(listed["alarms"]) is fits


def test_list_says_when_there_are_more(plant: Plant) -> None:
    plant.raise_alarm("more/1")
    assert "Only the newest 1 are shown" in plant.run("list", "--limit", "1").stdout
    assert "No alarm fits" in plant.run("list", "--source", "nobody").stdout


def test_alarm_is_acknowledged_by_the_beginning_of_its_id_with_verdict_and_comment(plant: Plant) -> None:
    alarm = plant.raise_alarm("ack/pump")
    done = plant.run("ack", alarm[:8], "--true-alarm", "--comment", "bearing changed", "--user", "eva")
    assert done.returncode == 0, done.stderr
    record = plant.store.alarm(alarm)
    assert (record.phase, record.acknowledged_by) == (Phase.ACKNOWLEDGED, "eva")
    assert (record.verdict, record.comment) == ("true_alarm", "bearing changed")


def test_several_alarms_are_acknowledged_under_the_login_name(plant: Plant) -> None:
    alarms = [plant.raise_alarm(f"several/{number}") for number in range(2)]
    assert plant.run("ack", *alarms, LOGNAME="night-shift").returncode == 0
    assert {plant.store.alarm(alarm).acknowledged_by for alarm in alarms} == {"night-shift"}


def test_beginning_that_fits_none_or_several_is_refused(plant: Plant) -> None:
    done = plant.run("ack", "not-an-id")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("almenara: No alarm begins with 'not-an-id'.")
    for first in range(17):  # of so many ids two begin alike
        plant.raise_alarm(f"beginning/{first}")
    beginnings = Counter(alarm.id[0] for alarm in plant.store.alarms(limit=1000))
    common, number = beginnings.most_common(1)[0]
    assert f"{number} begin with {common!r}" in plant.run("ack", common).stderr


def test_empty_id_acknowledges_nothing(plant: Plant) -> None:
    plant.raise_alarm("beginning/none")
    assert "No alarm begins with ''" in plant.run("ack", "").stderr


def test_alarm_is_shown_with_its_history(plant: Plant) -> None:
    alarm = plant.raise_alarm("show/pump")
    plant.store.acknowledge(alarm, "eva", "seen [bold]")
    shown = plant.run("show", alarm)
    assert shown.returncode == 0, shown.stderr
    for words in ("show/pump", "by eva", "seen [bold]", "raised", "acknowledged"):
        assert words in shown.stdout
    told = plant.json("show", alarm)
    assert isinstance(told["history"], list)
    assert [each["change"] for each in told["history"]] == ["raised", "acknowledged"]


def test_latched_alarm_is_reset(plant: Plant) -> None:
    latching = RULE.model_copy(update={"latch": True})
    alarm = plant.raise_alarm("latch/pump", latching)
    plant.store.acknowledge(alarm, "eva")
    plant.observe("latch/pump", 0.1, latching)
    assert plant.store.alarm(alarm).phase is Phase.LATCHED
    assert plant.run("reset", alarm[:8]).returncode == 0
    assert plant.store.alarm(alarm).phase is Phase.NORMAL


def test_reset_of_what_is_not_latched_is_a_sentence(plant: Plant) -> None:
    alarm = plant.raise_alarm("latch/no")
    done = plant.run("reset", alarm)
    assert done.returncode == 2
    assert "only a latched one can be reset" in done.stderr
    assert "Traceback" not in done.stderr


def test_source_is_shelved_and_unshelved(plant: Plant) -> None:
    plant.raise_alarm("shelf/pump")
    done = plant.run("shelve", "shelf/pump", "2h", "--comment", "cleaning")
    assert done.returncode == 0, done.stderr
    [status] = [each for each in plant.store.sources() if each.source == "shelf/pump"]
    assert done.stdout.strip() == f"shelf/pump is shelved until {status.shelved_until:%Y-%m-%d %H:%M:%S}."
    assert plant.store.phase("shelf/pump") is Phase.SHELVED
    assert plant.json("unshelve", "shelf/pump")["phase"] == "unacknowledged"
    assert plant.store.phase("shelf/pump") is Phase.UNACKNOWLEDGED


def test_source_is_taken_out_of_service_listed_and_returned(plant: Plant) -> None:
    assert plant.run("out-of-service", "service/no").stderr.startswith("almenara: There is no source service/no.")
    alarm = plant.raise_alarm("service/pump")
    done = plant.run("out-of-service", "service/pump", "--comment", "dismantled", "--user", "eva")
    assert done.returncode == 0, done.stderr
    assert "service/pump is out of service" in done.stdout
    listed = plant.run("sources").stdout
    [line] = [line for line in listed.splitlines() if "service/pump" in line]
    assert all(word in line for word in ("the API", "out of service", alarm[:8]))
    sources = plant.json("sources")["sources"]
    assert isinstance(sources, list)
    assert {each["source"]: each["phase"] for each in sources}["service/pump"] == "out_of_service"
    assert plant.json("in-service", "service/pump")["phase"] == "unknown"
    assert plant.store.phase("service/pump") is Phase.UNKNOWN
    last = plant.store.transitions("service/pump")[-2:]
    assert [each.change for each in last] == ["removed_from_service", "returned_to_service"]
    assert last[0].user == "eva"


def test_silence_is_planned_listed_and_ended(plant: Plant) -> None:
    planned = plant.json("silence", "line-7/*", "4h", "--starts", "2040-03-02 06:00:00", "--user", "eva")
    assert (planned["starts_at"], planned["ends_at"]) == ("2040-03-02T06:00:00Z", "2040-03-02T10:00:00Z")
    assert "line-7/*" in plant.run("silences").stdout
    identity = str(planned["id"])
    assert plant.json("silences", "--end", identity[:8], "--user", "eva") == {"silences": []}
    assert "No silence" in plant.run("silences").stdout


def test_silence_from_now_on(plant: Plant) -> None:
    planned = plant.json("silence", "line-8/*", "1h")
    length = datetime.fromisoformat(str(planned["ends_at"])) - datetime.fromisoformat(str(planned["starts_at"]))
    assert length.total_seconds() == 3600


def test_kpis_are_shown_beside_their_targets(plant: Plant) -> None:
    plant.raise_alarm("kpi/pump")
    done = plant.run("kpi", "--operators", "2")
    assert done.returncode == 0, done.stderr
    for words in ("alarms an operator and hour", "about 6, at most 12", "Sources with most alarms"):
        assert words in done.stdout
    assert "when the record begins" in done.stdout
    told = plant.json("kpi", "--hours", "1")
    first = plant.store.changes_after(0, 1)[0][1].transition.at
    assert (told["operators"], datetime.fromisoformat(str(told["known_since"]))) == (1, first)


def test_watch_shows_what_stands_and_then_what_happens(plant: Plant, tmp_path: Path) -> None:
    plant.raise_alarm("watch/first")
    with watching(plant, tmp_path) as (child, out):
        wait_until(lambda: "watch/first" in out.read_text(), 30)
        wait_until(lambda: _happens(plant, "watch/second", out), 30)
        line = next(line for line in out.read_text().splitlines() if "watch/second raised" in line)
        assert line.endswith(": BPFO at 8 dB")
    assert child.returncode == 0


def test_watch_prints_json_lines(plant: Plant, tmp_path: Path) -> None:
    with watching(plant, tmp_path, "--json") as (_, out):
        wait_until(lambda: _happens(plant, "watch/json", out), 30)
        reports = [json.loads(line) for line in out.read_text().splitlines()]
    assert {"transition", "alarm"} <= set(reports[0])


def _happens(plant: Plant, source: str, out: Path) -> bool:
    """Raise it and let it return, once a second, until the stream, which begins at some time, has told of a raise."""
    plant.observe(source, 0.9)
    plant.observe(source, 0.1)
    until = time.monotonic() + 1
    while time.monotonic() < until:
        if any(source in line and "raised" in line for line in out.read_text().splitlines()):
            return True
        time.sleep(0.05)
    return False


def test_wrong_key_is_a_sentence(plant: Plant) -> None:
    done = plant.run("list", ALMENARA_API_KEY="another")
    assert (done.returncode, done.stdout) == (2, "")
    assert "ALMENARA_API_KEY" in done.stderr
    assert "another" not in done.stderr


def test_wrong_filter_is_a_sentence(plant: Plant) -> None:
    done = plant.run("list", "--phase", "asleep")
    assert done.returncode == 2
    assert "phase" in done.stderr
    assert "Traceback" not in done.stderr


def test_what_only_the_api_refuses_is_told_in_its_words(plant: Plant) -> None:
    done = plant.run("shelve", "line-*", "1h")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("almenara: There is no source line-*. Give the whole name of one source, no pattern")


def test_watch_goes_on_after_the_api_was_away(tmp_path: Path) -> None:
    port, log = free_port(), tmp_path / "api.log"
    url = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", "almenara_api", "--port", str(port)]
    environment = {"ALMENARA_VAR_DIR": str(tmp_path), "MLFLOW_TRACKING_URI": NOWHERE, "ALMENARA_API_KEY": KEY}

    def start() -> AbstractContextManager[subprocess.Popen[bytes]]:
        return running(command, log, ready=lambda: answers(f"{url}/health/live"), environment=environment)

    with AlarmStore(f"sqlite:///{tmp_path / 'alarms' / 'api.db'}") as store:
        plant = Plant(url, store)
        with ExitStack() as stack:
            with start():
                _, out = stack.enter_context(watching(plant, tmp_path))
                wait_until(lambda: _happens(plant, "before", out), 30)
            wait_until(lambda: "Trying again" in out.read_text(), 30)
            plant.observe("meanwhile", 0.9)
            stack.enter_context(start())
            wait_until(lambda: "meanwhile raised" in out.read_text(), 30)
            assert (out.read_text().count("Trying again"), out.read_text().count("answers again")) == (1, 1)
