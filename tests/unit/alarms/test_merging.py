"""Merging what another store reports of its alarm with what people did at the record."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from almenara.alarms import AlarmRecord, Phase
from almenara.alarms.merging import acknowledge, merge
from tests.support.alarms import START, evidence_file

EARLIER = AlarmRecord(
    id="7",
    origin="worker-1",
    revision=3,
    source="outflow-1",
    kind="vision",
    priority="high",
    phase=Phase.UNACKNOWLEDGED,
    score=0.9,
    peak=0.9,
    reason="foreign object",
    model=None,
    evidence=(evidence_file(),),
    raised_at=START,
    idempotency_key="first",
)


def later(**values: Any) -> AlarmRecord:
    return EARLIER.model_copy(update={"revision": 4, "peak": 0.95, **values})


def test_newer_report_wins() -> None:
    report = later(phase=Phase.RETURNED_UNACKNOWLEDGED, cleared_at=START)
    assert merge(EARLIER, report) == report


def test_report_that_is_not_newer_changes_nothing() -> None:
    known = later(phase=Phase.ACKNOWLEDGED)
    assert merge(known, EARLIER) is known
    assert merge(known, later(peak=1.0)) is known


def test_acknowledgement_that_was_given_here_survives_a_report_of_the_same_raise() -> None:
    known = acknowledge(EARLIER, "eva", "seen", "false_alarm", START)
    merged = merge(known, later())
    assert (merged.phase, merged.acknowledged_by, merged.comment) == (Phase.ACKNOWLEDGED, "eva", "seen")
    assert (merged.acknowledged_at, merged.verdict, merged.peak) == (START, "false_alarm", 0.95)


def test_alarm_that_was_acknowledged_here_and_returned_there_has_ended() -> None:
    known = acknowledge(EARLIER, "eva", "", None, START)
    assert merge(known, later(phase=Phase.RETURNED_UNACKNOWLEDGED)).phase is Phase.NORMAL


def test_alarm_that_was_raised_again_is_not_acknowledged_any_more() -> None:
    known = acknowledge(EARLIER, "eva", "seen", "true_alarm", START)
    assert merge(known, later(idempotency_key="second")) == later(idempotency_key="second")


def test_acknowledgement_that_its_own_store_reports_wins() -> None:
    known = acknowledge(EARLIER, "eva", "seen", None, START)
    there = {"acknowledged_by": "juan", "acknowledged_at": START + timedelta(seconds=1), "verdict": "true_alarm"}
    assert merge(known, later(phase=Phase.LATCHED, **there)) == later(phase=Phase.LATCHED, **there)


def test_verdict_that_was_given_here_survives_an_acknowledgement_without_one() -> None:
    known = acknowledge(EARLIER, "eva", "", "false_alarm", START)
    assert merge(known, later(phase=Phase.ACKNOWLEDGED, acknowledged_at=START)).verdict == "false_alarm"


def test_file_that_this_record_has_already_stays_where_it_is() -> None:
    copy = evidence_file().model_copy(update={"uri": "/record/frame.jpg"})
    strip = evidence_file("strip.jpg")
    merged = merge(EARLIER.model_copy(update={"evidence": (copy,)}), later(evidence=(evidence_file(), strip)))
    assert merged.evidence == (copy, strip)


def test_file_with_another_content_is_another_file() -> None:
    changed = evidence_file(content="1")
    assert merge(EARLIER, later(evidence=(changed,))).evidence == (changed,)


def test_second_acknowledgement_only_notes_the_verdict() -> None:
    first = acknowledge(EARLIER, "eva", "seen", None, START)
    second = acknowledge(first, "juan", "no", "false_alarm", START + timedelta(seconds=9))
    assert second == first.model_copy(update={"verdict": "false_alarm"})


@st.composite
def histories(draw: st.DrawFn) -> list[AlarmRecord]:
    """An alarm as its store reports it, once after each of its changes."""
    alarm, reports = EARLIER.model_copy(update={"revision": 0}), []
    for revision in range(1, draw(st.integers(1, 8)) + 1):
        phase = draw(st.sampled_from([Phase.UNACKNOWLEDGED, Phase.ACKNOWLEDGED, Phase.RETURNED_UNACKNOWLEDGED]))
        again = draw(st.booleans())
        acknowledged = alarm.acknowledged_at is not None and not again
        if phase is Phase.ACKNOWLEDGED or acknowledged:
            facts = {"phase": Phase.ACKNOWLEDGED, "acknowledged_at": START, "acknowledged_by": "juan"}
        else:
            facts = {"phase": phase, "acknowledged_at": None, "acknowledged_by": None}
        key = f"raise-{revision}" if again else alarm.idempotency_key
        files = (evidence_file(content=draw(st.sampled_from("0123"))),)
        alarm = alarm.model_copy(update={**facts, "revision": revision, "idempotency_key": key, "evidence": files})
        reports.append(alarm)
    return reports


@given(histories(), st.data())
def test_reports_in_any_order_and_number_end_in_the_last(reports: list[AlarmRecord], data: st.DataObject) -> None:
    repeated = data.draw(st.lists(st.sampled_from(reports), max_size=10))
    shuffled = data.draw(st.permutations([*repeated, reports[-1]]))
    known = shuffled[0]
    for report in shuffled[1:]:
        known = merge(known, report)
    assert known == reports[-1]


@given(histories(), st.data())
def test_acknowledgement_given_here_is_never_lost_to_a_report_of_the_same_raise(
    reports: list[AlarmRecord], data: st.DataObject
) -> None:
    place = data.draw(st.integers(0, len(reports) - 1))
    known = acknowledge(reports[place], "eva", "seen", None, START)
    for report in data.draw(st.permutations(reports)):
        if report.idempotency_key == known.idempotency_key:
            known = merge(known, report)
            assert known.acknowledged_at is not None
