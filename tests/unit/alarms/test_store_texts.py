"""Texts that the plant-wide record cannot keep are refused at its door; an own alarm goes out all the same."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from almenara.alarms import AlarmStore, Phase
from almenara.alarms.records import AlarmRecord, Directive, Silence, Transition
from almenara.contracts import Contract
from almenara.errors import InputError
from tests.support.alarms import NOW_RULE, START, Clock, observation, observe, told

TRANSITION: dict[str, Any] = {
    "key": "k",
    "source": "s",
    "alarm_id": None,
    "change": "regained",
    "previous": "unknown",
    "phase": "normal",
    "at": START,
    "anomaly": None,
    "reason": "",
}
ALARM: dict[str, Any] = {
    "id": "a",
    "source": "s",
    "kind": "vision",
    "priority": "high",
    "phase": "unacknowledged",
    "score": 0.9,
    "peak": 0.9,
    "reason": "",
    "model": None,
    "evidence": (),
    "raised_at": START,
    "idempotency_key": "k",
}
SILENCE: dict[str, Any] = {"sources": "*", "starts_at": START, "ends_at": START, "user": "eva"}
DIRECTIVE: dict[str, Any] = {"id": "d", "origin": "w", "action": "shelve", "source": "s", "user": "eva", "at": START}
LIMITS = [
    *((Transition, TRANSITION, name, most) for name, most in (("key", 36), ("alarm_id", 36), ("origin", 100))),
    *((Transition, TRANSITION, name, most) for name, most in (("source", 200), ("user", 200), ("reason", 4000))),
    *((AlarmRecord, ALARM, name, most) for name, most in (("id", 36), ("idempotency_key", 36), ("source", 200))),
    *((AlarmRecord, ALARM, name, most) for name, most in (("acknowledged_by", 200), ("comment", 2000))),
    (AlarmRecord, ALARM, "reason", 4000),
    *((Silence, SILENCE, name, most) for name, most in (("sources", 200), ("user", 200), ("comment", 2000))),
    *((Directive, DIRECTIVE, name, most) for name, most in (("id", 36), ("source", 200), ("comment", 2000))),
]


@pytest.mark.parametrize(("contract", "fields", "name", "most"), LIMITS)
def test_text_that_no_column_takes_is_refused(
    contract: type[Contract], fields: dict[str, Any], name: str, most: int
) -> None:
    assert getattr(contract.model_validate(fields | {name: "x" * most}), name) == "x" * most
    for text in ("x" * (most + 1), "a\0b"):
        with pytest.raises(ValidationError, match=name):
            contract.model_validate(fields | {name: text})


def test_texts_may_have_lines(store: AlarmStore) -> None:
    assert Transition.model_validate(TRANSITION | {"reason": "one\ntwo\n"}).reason == "one\ntwo\n"


def test_revision_that_no_column_takes_is_refused() -> None:
    with pytest.raises(ValidationError, match="revision"):
        AlarmRecord.model_validate(ALARM | {"revision": 2**31})


def test_alarm_goes_out_whatever_its_reason_says(store: AlarmStore, clock: Clock) -> None:
    seen = observation(0.9, at=clock.wall()).model_copy(update={"reason": "a\0b" + "c" * 5000})
    store.observe(seen, NOW_RULE, now=clock.seconds)
    assert told(store) == ["raised"]
    assert store.alarms()[0].reason.startswith("abccc")


@pytest.mark.parametrize(("user", "comment"), [("e" * 201, ""), ("e\0va", ""), ("eva", "c" * 2001), ("eva", "\0")])
def test_person_is_told_what_cannot_be_kept(store: AlarmStore, clock: Clock, user: str, comment: str) -> None:
    observe(store, clock, 0.9)
    with pytest.raises(InputError, match="characters or one that is NUL"):
        store.acknowledge(store.alarms()[0].id, user, comment)
    with pytest.raises(InputError, match="characters or one that is NUL"):
        store.shelve("outflow-1", user, 60, comment)
    assert store.alarms()[0].phase is Phase.UNACKNOWLEDGED
