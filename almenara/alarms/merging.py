"""Alarms of other stores, as the plant-wide record keeps them: what was reported, and what people did here since."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from almenara.alarms.records import AlarmRecord, EvidenceFile
from almenara.alarms.vocabulary import Phase, Verdict

_ACKNOWLEDGED = {Phase.UNACKNOWLEDGED: Phase.ACKNOWLEDGED, Phase.RETURNED_UNACKNOWLEDGED: Phase.NORMAL}
"""A latched alarm is not known to be one before its store says so."""


def merge(known: AlarmRecord, incoming: AlarmRecord) -> AlarmRecord:
    """The alarm after a report of it.

    The report of its own store wins, one that is not newer than what is known changes nothing. An acknowledgement or a
    verdict that was given here for the same raise stays until that store reports one, and a file that is known stays
    where this record has it.
    """
    if incoming.revision <= known.revision:
        return known
    merged = incoming.model_copy(update={"evidence": placed(incoming.evidence, known.evidence)})
    if incoming.idempotency_key != known.idempotency_key:
        return merged
    if incoming.acknowledged_at is None and known.acknowledged_at is not None:
        merged = merged.model_copy(
            update={
                "phase": _ACKNOWLEDGED.get(incoming.phase, incoming.phase),
                "acknowledged_at": known.acknowledged_at,
                "acknowledged_by": known.acknowledged_by,
                "comment": known.comment,
            }
        )
    return merged if merged.verdict is not None else merged.model_copy(update={"verdict": known.verdict})


def acknowledge(alarm: AlarmRecord, user: str, comment: str, verdict: Verdict | None, at: datetime) -> AlarmRecord:
    """The alarm as its own store will have it after an acknowledgement; if it has one, only the verdict is noted."""
    if alarm.phase in _ACKNOWLEDGED:
        update = {"acknowledged_at": at, "acknowledged_by": user, "comment": comment}
        alarm = alarm.model_copy(update={"phase": _ACKNOWLEDGED[alarm.phase], **update})
    return alarm if verdict is None else alarm.model_copy(update={"verdict": verdict})


def placed(evidence: Sequence[EvidenceFile], here: Sequence[EvidenceFile]) -> tuple[EvidenceFile, ...]:
    """The files of an alarm, each where this record has it if it is one of those `here`."""
    places = {(file.name, file.sha256): file for file in here}
    return tuple(places.get((file.name, file.sha256), file) for file in evidence)
