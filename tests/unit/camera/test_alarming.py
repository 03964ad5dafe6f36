"""The alarm desk: how it ends."""

from __future__ import annotations

import logging
import sqlite3
from pathlib import Path

import pytest

from camera_worker.alarming import AlarmDesk


def open_files(folder: Path) -> list[str]:
    """Files under `folder` that this process holds open."""
    links = []
    for descriptor in Path("/proc/self/fd").iterdir():
        try:
            links.append(str(descriptor.readlink()))
        except OSError:  # the one that lists the folder
            continue
    return [link for link in links if link.startswith(str(folder))]


def test_a_desk_whose_outbox_fails_at_the_end_says_so_and_closes_its_store(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING), AlarmDesk(tmp_path) as desk:
        assert desk.store.alarms() == []
        assert open_files(tmp_path)
        with sqlite3.connect(tmp_path / "alarms" / "worker.db") as database:
            database.execute("DROP TABLE alarm_deliveries")
        database.close()
    assert "could not be told and stay in the outbox: no such table: alarm_deliveries" in caplog.text
    assert open_files(tmp_path) == []
