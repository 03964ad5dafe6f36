"""The log channel: one line a message, on the disk, whatever happened before."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from almenara.alarms import AlarmRecord, LogChannel, Notification, Phase
from tests.support.alarms import MODEL, START


@pytest.fixture
def notification() -> Notification:
    alarm = AlarmRecord(
        id="7f6c",
        source="línea 3",
        kind="vibration",
        priority="high",
        phase=Phase.UNACKNOWLEDGED,
        score=0.9,
        peak=0.9,
        reason="inner race\nBPFI",
        model=MODEL,
        evidence=("window.npz",),
        raised_at=START,
        idempotency_key="key-1",
    )
    return Notification(key="key-1", event="raised", at=START, alarm=alarm)


def test_message_is_one_line_of_json_with_its_key(tmp_path: Path, notification: Notification) -> None:
    path = tmp_path / "logs" / "alarms.log"
    LogChannel(path).send(notification)
    [line] = path.read_text(encoding="utf-8").splitlines()
    assert json.loads(line)["key"] == "key-1"
    assert Notification.model_validate_json(line) == notification


def test_messages_are_appended(tmp_path: Path, notification: Notification) -> None:
    path = tmp_path / "alarms.log"
    for _ in range(3):
        LogChannel(path).send(notification)
    assert path.read_text(encoding="utf-8").splitlines() == [notification.model_dump_json()] * 3


def test_message_after_a_line_that_was_cut_short_has_a_line_of_its_own(
    tmp_path: Path, notification: Notification
) -> None:
    path = tmp_path / "alarms.log"
    path.write_text('{"key":"half', encoding="utf-8")
    LogChannel(path).send(notification)
    cut, whole = path.read_text(encoding="utf-8").splitlines()
    assert cut == '{"key":"half'
    assert Notification.model_validate_json(whole) == notification


def test_message_is_on_the_disk_before_send_returns(
    tmp_path: Path, notification: Notification, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[int] = []
    fsync = os.fsync

    def record(descriptor: int) -> None:
        synced.append(os.fstat(descriptor).st_size)
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", record)
    path = tmp_path / "alarms.log"
    LogChannel(path).send(notification)
    assert synced == [path.stat().st_size]


def test_disk_that_takes_no_more_is_a_failure(notification: Notification) -> None:
    full = Path("/dev/full")
    if not full.exists():
        pytest.skip("this system has no /dev/full")
    with pytest.raises(OSError, match="No space left"):
        LogChannel(full).send(notification)
