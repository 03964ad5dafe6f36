"""`almenara backup --var-dir` while alarms are raised, and `almenara restore`: whole, verified, refused when unfit."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from mlflow import MlflowClient

from almenara.alarms import AlarmStore
from tests.support.alarms import Clock, observe
from tests.support.data import ROOT

pytestmark = pytest.mark.slow

# Raises and ends alarms without a pause, until it is killed; says when the first is written.
WRITER = """
import sys
from almenara.alarms import AlarmStore
from tests.support.alarms import Clock, observe
clock = Clock()
with AlarmStore(sys.argv[1], wall_clock=clock.wall) as store:
    while True:
        for anomaly in (0.9, 0.9, 0.1, 0.1):
            clock.forward(60)
            observe(store, clock, anomaly)
        print("written", flush=True)
"""


def almenara(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "almenara", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)


@contextmanager
def writing(database: Path) -> Iterator[None]:
    """A process that writes alarms meanwhile."""
    command = [sys.executable, "-c", WRITER, f"sqlite:///{database}"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE) as child:
        try:
            assert child.stdout is not None
            assert child.stdout.readline() == b"written\n"
            yield
        finally:
            child.kill()


@pytest.fixture(scope="module")
def var(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An embedded installation: a registry with a run and its artifact, an alarm, a file of evidence."""
    var = tmp_path_factory.mktemp("installation") / "var"
    (var / "mlflow").mkdir(parents=True)
    (var / "evidence/outflow").mkdir(parents=True)
    (var / "evidence/outflow/frame.jpg").write_bytes(b"a frame")
    client = MlflowClient(f"sqlite:///{var / 'mlflow/mlflow.db'}")
    run = client.create_run(client.create_experiment("bearings", (var / "mlflow/artifacts").as_uri()))
    client.log_text(run.info.run_id, "trained", "notes.txt")
    client.set_terminated(run.info.run_id)
    (var / "alarms").mkdir()
    clock = Clock()
    with AlarmStore(f"sqlite:///{var / 'alarms/api.db'}", wall_clock=clock.wall) as store:
        for _ in range(4):
            clock.forward(60)
            observe(store, clock, 0.9)
    return var


@pytest.fixture(scope="module")
def archive(var: Path) -> Path:
    """Made while another process raised alarms."""
    file = var.parent / "backup.tar"
    with writing(var / "alarms/worker.db"):
        done = almenara("backup", file, "--var-dir", var, "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1])["kind"] == "embedded"
    return file


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "var"


def rows(database: Path, query: str) -> list[tuple[object, ...]]:
    with closing(sqlite3.connect(database)) as connection:
        return connection.execute(query).fetchall()


def alarms_in(var: Path) -> int:
    [(count,)] = rows(var / "alarms/api.db", "SELECT count(*) FROM alarms")
    return int(str(count))


def test_everything_is_restored_to_an_empty_place(archive: Path, target: Path) -> None:
    done = almenara("restore", archive, "--var-dir", target)
    assert done.returncode == 0, done.stderr
    assert alarms_in(target) == 1
    assert (target / "evidence/outflow/frame.jpg").read_bytes() == b"a frame"
    assert [file.read_text() for file in target.glob("mlflow/artifacts/*/artifacts/notes.txt")] == ["trained"]
    client = MlflowClient(f"sqlite:///{target / 'mlflow/mlflow.db'}")
    assert client.get_experiment_by_name("bearings") is not None


def test_a_database_that_was_written_meanwhile_is_whole(archive: Path, target: Path) -> None:
    assert almenara("restore", archive, "--var-dir", target).returncode == 0
    database = target / "alarms/worker.db"
    assert rows(database, "PRAGMA integrity_check") == [("ok",)]
    assert rows(database, "SELECT count(*) FROM alarms")[0][0]
    orphans = "SELECT key FROM alarm_transitions WHERE alarm_id NOT IN (SELECT id FROM alarms)"
    assert rows(database, orphans) == []


def test_another_place_is_told_since_artifacts_name_the_first(archive: Path, target: Path, var: Path) -> None:
    done = almenara("restore", archive, "--var-dir", target)
    assert str(var) in done.stdout


def test_a_folder_that_is_not_empty_is_left_alone_without_replace(archive: Path, target: Path) -> None:
    (target / "evidence").mkdir(parents=True)
    (target / "evidence/mine.jpg").write_bytes(b"mine")
    done = almenara("restore", archive, "--var-dir", target)
    assert done.returncode == 2
    assert "is not empty" in done.stderr
    assert [path.name for path in target.rglob("*")] == ["evidence", "mine.jpg"]


def test_replace_gives_up_what_was_there(archive: Path, target: Path) -> None:
    (target / "evidence").mkdir(parents=True)
    (target / "evidence/mine.jpg").write_bytes(b"mine")
    assert almenara("restore", archive, "--var-dir", target, "--replace").returncode == 0
    assert not (target / "evidence/mine.jpg").exists()
    assert alarms_in(target) == 1


def test_an_interrupted_restoration_is_run_again_without_replace(archive: Path, target: Path) -> None:
    assert almenara("restore", archive, "--var-dir", target).returncode == 0
    manifest = almenara("restore", archive, "--var-dir", target, "--replace", "--json").stdout.splitlines()[-1]
    (target / ".almenara-restoring").write_text(json.loads(manifest)["id"])
    (target / "alarms").rename(target / ".almenara-new")
    done = almenara("restore", archive, "--var-dir", target)
    assert done.returncode == 0, done.stderr
    assert alarms_in(target) == 1
    assert not list(target.glob(".almenara-*"))


def test_a_damaged_archive_touches_nothing(archive: Path, target: Path, tmp_path: Path) -> None:
    content = bytearray(archive.read_bytes())
    content[len(content) // 2] ^= 1
    damaged = tmp_path / "damaged.tar"
    damaged.write_bytes(content)
    done = almenara("restore", damaged, "--var-dir", target, "--replace")
    assert done.returncode == 2
    assert "Nothing was changed" in done.stderr
    assert not target.exists()


def test_a_backup_of_a_newer_release_is_refused(var: Path, target: Path, tmp_path: Path) -> None:
    newer = tmp_path / "newer"
    (newer / "alarms").mkdir(parents=True)
    AlarmStore(f"sqlite:///{newer / 'alarms/api.db'}").close()
    with closing(sqlite3.connect(newer / "alarms/api.db")) as connection, connection:
        connection.execute("UPDATE alarm_revision SET version_num = '9999'")
    assert almenara("backup", tmp_path / "newer.tar", "--var-dir", newer).returncode == 0
    done = almenara("restore", tmp_path / "newer.tar", "--var-dir", target)
    assert done.returncode == 2
    assert "9999" in done.stderr
    assert not target.exists()


def test_a_folder_in_use_is_not_restored(archive: Path, target: Path) -> None:
    (target / "alarms").mkdir(parents=True)
    with writing(target / "alarms/worker.db"):
        done = almenara("restore", archive, "--var-dir", target, "--replace")
    assert done.returncode == 2
    assert "Stop the services" in done.stderr
    assert not (target / "evidence").exists()


def test_an_archive_inside_the_folder_is_refused(var: Path) -> None:
    done = almenara("backup", var / "backup.tar", "--var-dir", var)
    assert done.returncode == 2
    assert "Name another place" in done.stderr


def test_where_there_is_no_platform_both_ways_are_named(tmp_path: Path) -> None:
    done = almenara("backup", tmp_path / "backup.tar", "--project-directory", tmp_path)
    assert done.returncode == 2
    assert "--var-dir" in done.stderr
    assert list(tmp_path.iterdir()) == []
