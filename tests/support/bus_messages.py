"""Messages about one alarm, as channels for machines get them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from almenara.alarms.records import AlarmRecord, EvidenceFile, Message, MessageEvent, Notification
from almenara.alarms.vocabulary import Phase
from almenara.contracts import ModelRef

RAISED_AT = datetime(2026, 3, 1, 6, 0, 2, tzinfo=UTC)
ALARM_ID = "7f6c1d5e-52a9-4d3b-9a34-0f4f6f1e2a10"
PHASES = {"raised": Phase.UNACKNOWLEDGED, "reminder": Phase.UNACKNOWLEDGED, "returned": Phase.RETURNED_UNACKNOWLEDGED}


def alarm(source: str = "line-2/outflow-1", *, raised_at: datetime = RAISED_AT, **changes: Any) -> AlarmRecord:
    image = EvidenceFile(
        name="frame.jpg", uri="s3://evidence/frame.jpg", sha256="ab" * 32, size=48213, media_type="image/jpeg"
    )
    record = AlarmRecord(
        id=ALARM_ID,
        origin="worker-1",
        source=source,
        kind="vision",
        priority="high",
        phase=Phase.UNACKNOWLEDGED,
        score=0.86,
        peak=0.93,
        reason="foreign object",
        model=ModelRef(name="outflow", version="3", alias="champion"),
        evidence=(image,),
        raised_at=raised_at,
        idempotency_key="5d0c4e0e-raised",
    )
    return record.model_copy(update=changes)


def notification(event: MessageEvent = "raised", seconds: float = 0, **changes: Any) -> Notification:
    """`seconds` after the raise; of a return this is when the condition ended."""
    record = alarm(**changes)
    at = record.raised_at + timedelta(seconds=seconds)
    ended = {"cleared_at": at} if event == "returned" else {}
    record = record.model_copy(update={"phase": changes.get("phase", PHASES.get(event, record.phase)), **ended})
    return Notification(key=f"5d0c4e0e-{event}", event=event, at=at, alarm=record)


def message(event: MessageEvent = "raised", seconds: float = 0, **changes: Any) -> Message:
    told = notification(event, seconds, **changes)
    return Message(key=told.key, notifications=(told,))
