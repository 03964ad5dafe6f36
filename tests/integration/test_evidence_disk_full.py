"""A disk that is really full: evidence stops in time, and the reserve lets a database commit."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

import pytest
from sqlalchemy import create_engine, event, text
from sqlalchemy.exc import OperationalError

from almenara.contracts import ModelRef, VisionVerdict
from almenara.errors import NoEvidenceError
from almenara.evidence import DiskReserve, LocalEvidence, committing
from camera_worker.evidence import save_evidence

pytestmark = pytest.mark.slow

SIZE = 1 << 20
VERDICT = VisionVerdict(
    model=ModelRef(name="wall", version="3"), label="anomaly", score=9, anomaly=0.9, p_value=0.01, threshold=5
)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 8 MiB of its own."""
    if os.geteuid() != 0:
        pytest.skip("only root can mount a small disk")
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(tmp_path)], capture_output=True, text=True, check=False
    )
    if mounted.returncode:
        pytest.skip(f"no small disk can be mounted here: {mounted.stderr.strip()}")
    yield tmp_path
    subprocess.run(["umount", "--lazy", str(tmp_path)], check=True)


def fill(disk: Path) -> None:
    """Takes every byte that is left."""
    with (disk / "ballast").open("ab", buffering=0) as ballast, suppress(OSError):
        while ballast.write(bytes(1 << 16)):
            pass
    assert os.statvfs(disk).f_bavail == 0


def test_evidence_says_that_the_disk_is_full_and_leaves_nothing(disk: Path) -> None:
    store = LocalEvidence(disk / "evidence", leave_free=0)
    store.save("before", {"frame.jpg": b"frame"})
    fill(disk)
    with pytest.raises(NoEvidenceError, match=r"^no picture: the disk is full$"):
        save_evidence(store, "outflow", datetime.now(UTC), bytes(1 << 16), VERDICT)
    assert [found.name for found in store.stored()] == ["before"]
    assert not list(store.folder.glob(".*"))


def test_evidence_stops_while_there_is_room_for_alarms(disk: Path) -> None:
    store = LocalEvidence(disk / "evidence", leave_free=2 * SIZE)
    with suppress(OSError):
        for number in range(100):
            store.save(f"outflow-{number}", {"frame.jpg": bytes(SIZE // 2)})
    assert 2 * SIZE <= shutil.disk_usage(disk).free < 3 * SIZE
    assert len(store.stored()) < 100


@pytest.mark.parametrize("journal", ["wal", "delete"])
def test_a_database_commits_on_a_full_disk_by_means_of_the_reserve(disk: Path, journal: str) -> None:
    reserve = DiskReserve(disk / "reserve", SIZE)
    assert reserve.restore()
    engine = create_engine(f"sqlite:///{disk / 'alarms.db'}")
    event.listen(engine, "connect", lambda raw, _: raw.execute(f"PRAGMA journal_mode={journal}").close())
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE alarms (id INTEGER PRIMARY KEY, said BLOB)"))
    fill(disk)

    def commit() -> None:
        with engine.begin() as connection:
            connection.execute(text("INSERT INTO alarms (said) VALUES (zeroblob(20000))"))

    with pytest.raises(OperationalError, match="full"):
        commit()
    committing(reserve, commit)
    with engine.connect() as connection:
        assert connection.execute(text("SELECT count(*) FROM alarms")).scalar() == 1
    assert not reserve.restore(), "the disk still is full"
    (disk / "ballast").unlink()
    assert reserve.restore()
    engine.dispose()


def test_a_first_connection_on_a_full_disk_gets_through_too(disk: Path) -> None:
    """SQLite then cannot make the files beside the database and says that in another way."""
    reserve = DiskReserve(disk / "reserve", SIZE)
    assert reserve.restore()
    url = f"sqlite:///{disk / 'alarms.db'}"

    def commit() -> None:
        engine = create_engine(url)
        event.listen(engine, "connect", lambda raw, _: raw.execute("PRAGMA journal_mode=wal").close())
        try:
            with engine.begin() as connection:
                connection.execute(text("CREATE TABLE IF NOT EXISTS alarms (id INTEGER PRIMARY KEY)"))
                connection.execute(text("INSERT INTO alarms DEFAULT VALUES"))
        finally:
            engine.dispose()

    commit()
    fill(disk)
    with pytest.raises(OperationalError):
        commit()
    committing(reserve, commit)
    assert not reserve.release(), "it was given up"
