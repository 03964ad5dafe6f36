"""Assets under watch: what is posted again is answered as before, and kept once."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import update
from sqlalchemy.exc import OperationalError

from almenara.alarms import Phase, tables
from almenara.errors import InputError
from almenara.settings import Settings
from almenara_api.assets import Answer
from almenara_api.repeats import Claim, RepeatedError
from almenara_api.trend import OvertakenError
from tests.support.api import wait_until
from tests.support.postgresql import postgresql_server
from tests.support.watched import CLAIM, WINDOW, Watched, ago, verdict, watching


def test_a_repeat_gets_the_first_answer_and_moves_no_alarm(watch: Watched) -> None:
    first = watch.post(0.2, claim=CLAIM)
    again = watch.post(0.9, claim=CLAIM)
    assert (first.outcome, again.outcome) == ("kept", "replayed")
    assert again.content == first.content
    assert watch.alarms() == []
    assert len(watch.trend()) == 1


def test_a_repeat_of_a_list_moves_no_alarm_either(tmp_path: Path) -> None:
    at_once = Settings(
        var_dir=tmp_path,
        vibration_on_delay_seconds=0,
        vibration_off_delay_seconds=0,
        vibration_cooldown_seconds=0,
    )
    with watching(at_once) as watch:
        first = watch.post(0.9, 0.1, claim=CLAIM)
        assert watch.phase() is Phase.RETURNED_UNACKNOWLEDGED
        again = watch.post(0.9, 0.1, claim=CLAIM)
        assert (again.content, again.outcome) == (first.content, "replayed")
        assert watch.phase() is Phase.RETURNED_UNACKNOWLEDGED
        assert len(watch.trend()) == 2


def test_another_request_with_the_same_key_moves_no_alarm_either(watch: Watched) -> None:
    watch.post(0.2, claim=CLAIM)
    with pytest.raises(InputError) as refused:
        watch.post(0.9, claim=Claim(CLAIM.id, "3" * 64))
    assert refused.value.code == "idempotency-mismatch"
    assert watch.alarms() == []
    assert watch.office.unhealthy() is None, "the database has not failed"


def test_repeats_at_the_same_moment_raise_one_alarm_and_agree(watch: Watched) -> None:
    with ThreadPoolExecutor(4) as pool:
        answers = [future.result() for future in [pool.submit(watch.post, 0.9, claim=CLAIM) for _ in range(4)]]
    assert sorted(str(each.outcome) for each in answers) == ["kept", *["replayed"] * 3]
    assert len({each.content for each in answers}) == 1
    assert len(watch.alarms()) == len(watch.trend()) == 1


def test_nothing_is_kept_of_a_request_whose_alarm_cannot_be_written(
    watch: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise OperationalError("INSERT", {}, Exception("disk I/O error"))

    with monkeypatch.context() as broken:
        broken.setattr(watch.watch.answers, "add", fail)
        with pytest.raises(OperationalError):
            watch.post(0.9, claim=CLAIM)
    assert watch.alarms() == []
    assert watch.trend() == []
    assert "disk I/O error" in str(watch.office.unhealthy())
    assert watch.post(0.9, claim=CLAIM).outcome == "kept"
    assert len(watch.alarms()) == 1
    assert watch.office.unhealthy() is None


@pytest.mark.parametrize("refusal", [RepeatedError, OvertakenError])
def test_a_refused_window_leaves_no_trace_of_an_alarm(watch: Watched, refusal: type[Exception]) -> None:
    def refuse(_: object) -> None:
        raise refusal

    with pytest.raises(refusal):
        watch.observe("pump-1", WINDOW, verdict(0.9), also=refuse)
    assert watch.alarms() == []
    assert watch.office.store.pending_deliveries() == []


@pytest.mark.slow
def test_two_services_on_one_postgresql_keep_each_request_once(tmp_path: Path) -> None:
    requests, assets = 200, 6

    def post(watch: Watched, number: int) -> Answer:
        told: dict[str, Any] = {"asset": f"pump-{number % assets}", "channel": f"sensor {number % 4}"}
        if number > requests / 2:
            told["measured_at"] = ago(0)
        anomaly = 0.9 if number < assets else None if number % 5 == 0 else 0.1
        return watch.post(anomaly, claim=Claim(f"{number:064}", "2"), **told)

    with ExitStack() as stack:
        url = stack.enter_context(postgresql_server())
        folders = (tmp_path / "a", tmp_path / "b")
        settings = [Settings(var_dir=folder, alarms_url=url, vibration_on_delay_seconds=0) for folder in folders]
        watches = [stack.enter_context(watching(each)) for each in settings]
        pool = stack.enter_context(ThreadPoolExecutor(8))
        futures = [[pool.submit(post, watch, number) for watch in watches] for number in range(requests)]
        answers = [[future.result() for future in pair] for pair in futures]
        kept = [len(watches[0].watch.trend.readings(f"pump-{number}")) for number in range(assets)]
        alarms = watches[1].alarms()
    for pair in answers:
        assert [each.outcome for each in pair].count("replayed") == 1
        assert pair[0].content == pair[1].content
    assert sum(kept) == requests
    assert len(alarms) == assets


def test_what_is_old_is_forgotten_in_the_background(tmp_path: Path) -> None:
    with watching(Settings(var_dir=tmp_path, trend_rows=2, repeat_seconds=60)) as watch:
        for number in range(4):
            watch.post(None, claim=Claim(str(number), "2"))
        with watch.office.store.engine.begin() as connection:
            connection.execute(update(tables.asset_answers).values(at=ago(120)))
        watch.watch.start()
        wait_until(lambda: len(watch.trend()) == 2 and not watch.answers(), 30)
        watch.watch.close()


def test_what_is_old_is_forgotten_though_the_rest_cannot_be_counted(
    watch: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail() -> list[str]:
        raise OperationalError("SELECT", {}, Exception("canceling statement due to statement timeout"))

    watch.post(None, claim=CLAIM)
    monkeypatch.setattr(watch.watch.trend, "overfull", fail)
    with pytest.raises(OperationalError):
        watch.watch.prune(datetime.now(UTC) + timedelta(days=10_000))
    assert watch.trend() == []
    assert watch.answers() == 0
