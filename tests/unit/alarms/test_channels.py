"""The log channel: one line a message, on the disk, whatever happened before."""

from __future__ import annotations

import fcntl
import json
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from almenara.alarms import AlarmRecord, LogChannel, Message, Notification, Phase
from almenara.alarms.channels import log
from tests.support.alarms import MODEL, START
from tests.support.data import ROOT

WRITE_MANY = """
import sys
from almenara.alarms import LogChannel, Message
message = Message.model_validate_json(sys.stdin.read())
channel = LogChannel(sys.argv[1], largest_bytes=20_000, kept=100)
for _ in range(150):
    channel.send(message)
"""


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
        evidence=(),
        raised_at=START,
        idempotency_key="key-1",
    )
    return Notification(key="key-1", event="raised", at=START, alarm=alarm)


@pytest.fixture
def message(notification: Notification) -> Message:
    return Message(key=notification.key, notifications=(notification,))


def test_message_is_one_line_of_json_with_its_key(tmp_path: Path, message: Message, notification: Notification) -> None:
    path = tmp_path / "logs" / "alarms.log"
    LogChannel(path).send(message)
    [line] = path.read_text(encoding="utf-8").splitlines()
    assert json.loads(line)["key"] == "key-1"
    assert Notification.model_validate_json(line) == notification


def test_messages_are_appended(tmp_path: Path, message: Message, notification: Notification) -> None:
    path = tmp_path / "alarms.log"
    for _ in range(3):
        LogChannel(path).send(message)
    assert path.read_text(encoding="utf-8").splitlines() == [notification.model_dump_json()] * 3


def test_message_after_a_line_that_was_cut_short_has_a_line_of_its_own(
    tmp_path: Path, message: Message, notification: Notification
) -> None:
    path = tmp_path / "alarms.log"
    path.write_text('{"key":"half', encoding="utf-8")
    LogChannel(path).send(message)
    cut, whole = path.read_text(encoding="utf-8").splitlines()
    assert cut == '{"key":"half'
    assert Notification.model_validate_json(whole) == notification


def test_message_is_on_the_disk_before_send_returns(
    tmp_path: Path, message: Message, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[int] = []
    fsync = os.fsync

    def record(descriptor: int) -> None:
        if stat.S_ISREG(os.fstat(descriptor).st_mode):
            synced.append(os.fstat(descriptor).st_size)
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", record)
    path = tmp_path / "alarms.log"
    LogChannel(path).send(message)
    assert synced == [path.stat().st_size]


def test_disk_that_takes_no_more_is_a_failure(message: Message) -> None:
    full = Path("/dev/full")
    if not full.exists():
        pytest.skip("this system has no /dev/full")
    with pytest.raises(OSError, match="No space left"):
        LogChannel(full).send(message)


def test_file_that_would_grow_too_large_is_put_aside(tmp_path: Path, message: Message) -> None:
    path = tmp_path / "alarms.log"
    length = len(message.notifications[0].model_dump_json().encode()) + 1
    channel = LogChannel(path, largest_bytes=2 * length, kept=2)
    for _ in range(9):
        channel.send(message)
    sizes = {file.name: file.stat().st_size for file in tmp_path.iterdir()}
    assert sizes == {"alarms.log": length, "alarms.log.1": 2 * length, "alarms.log.2": 2 * length}


def test_message_larger_than_a_file_is_written_all_the_same(tmp_path: Path, message: Message) -> None:
    channel = LogChannel(tmp_path / "alarms.log", largest_bytes=10)
    channel.send(message)
    channel.send(message)
    assert len(list(tmp_path.iterdir())) == 2


def test_processes_that_share_the_file_lose_no_line_while_it_rotates(tmp_path: Path, message: Message) -> None:
    path = tmp_path / "alarms.log"
    writers = [
        subprocess.Popen([sys.executable, "-c", WRITE_MANY, str(path)], stdin=subprocess.PIPE, text=True, cwd=ROOT)
        for _ in range(3)
    ]
    for writer in writers:
        assert writer.stdin is not None
        writer.stdin.write(message.model_dump_json())
        writer.stdin.close()
    assert [writer.wait(60) for writer in writers] == [0, 0, 0]
    files = list(tmp_path.iterdir())
    lines = [line for file in files for line in file.read_text(encoding="utf-8").splitlines()]
    assert lines == [message.notifications[0].model_dump_json()] * 450
    assert len(files) > 5
    assert all(file.stat().st_size <= 20_000 for file in files)


def test_file_that_another_process_does_not_let_go_of_is_a_failure(
    tmp_path: Path, message: Message, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log, "SEND_SECONDS", 0.1)
    path = tmp_path / "alarms.log"
    with path.open("ab") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(TimeoutError, match="is locked by another process"):
            LogChannel(path).send(message)


def test_name_of_new_file_is_on_the_disk_before_send_returns(
    tmp_path: Path, message: Message, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[Path] = []
    monkeypatch.setattr(log, "sync", synced.append)
    channel = LogChannel(tmp_path / "alarms.log")
    channel.send(message)
    channel.send(message)
    channel.close()
    assert synced == [tmp_path]
