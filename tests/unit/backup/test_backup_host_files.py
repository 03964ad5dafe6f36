"""The machine's own files: the plant's configuration comes back, nothing of yours is lost, passwords are asked for."""

from __future__ import annotations

import stat
from datetime import UTC, datetime
from pathlib import Path

import pytest

from almenara.backup.archive import Archive, ArchiveWriter, Manifest
from almenara.backup.host_files import copy_configuration, copy_secrets, restore_configuration, restore_secrets


def silent(stage: str, done: int, total: int) -> None:
    pass


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """Of docker-compose.yaml."""
    directory = tmp_path / "platform"
    for name, text in {
        "deploy/cameras.yaml": "cameras: {}",
        "deploy/alarms.yaml": "language: es",
        "deploy/compose.tls.yaml": "services: {}",
        ".env": "POSTGRES_PASSWORD=geheim",
        "cameras.env": "LINE_2=geheim",
    }.items():
        (directory / name).parent.mkdir(parents=True, exist_ok=True)
        (directory / name).write_text(text)
    return directory


def backed_up(directory: Path, folder: Path) -> Path:
    path = directory.parent / "backup.tar"
    with ArchiveWriter(path, silent) as archive:
        copy_configuration(archive, folder, directory)
        copy_secrets(archive, directory)
        archive.finish(Manifest(id="one", kind="composed", made_at=datetime.now(UTC), release="0", needed_bytes=1))
        archive.complete()
    return path


def test_a_missing_configuration_is_put_back(directory: Path, tmp_path: Path) -> None:
    with Archive(backed_up(directory, directory / "deploy")) as archive:
        assert restore_configuration(archive, tmp_path / "site") == []
    assert (tmp_path / "site/alarms.yaml").read_text() == "language: es"


def test_files_of_the_release_are_no_configuration(directory: Path, tmp_path: Path) -> None:
    with Archive(backed_up(directory, directory / "deploy")) as archive:
        restore_configuration(archive, tmp_path / "site")
    assert {path.name for path in (tmp_path / "site").iterdir()} == {"alarms.yaml", "cameras.yaml"}


def test_of_a_folder_of_the_plant_everything_is_configuration(directory: Path, tmp_path: Path) -> None:
    site = tmp_path / "plant"
    (site / "certificates").mkdir(parents=True)
    (site / "certificates/ca.pem").write_text("ca")
    with Archive(backed_up(directory, site)) as archive:
        restore_configuration(archive, tmp_path / "site")
    assert (tmp_path / "site/certificates/ca.pem").read_text() == "ca"


def test_a_file_that_differs_is_kept_under_another_name(directory: Path) -> None:
    path, alarms = backed_up(directory, directory / "deploy"), directory / "deploy/alarms.yaml"
    alarms.write_text("language: en")
    with Archive(path) as archive:
        assert restore_configuration(archive, directory / "deploy") == [alarms]
    assert alarms.read_text() == "language: es"
    assert alarms.with_name("alarms.yaml.before-restore").read_text() == "language: en"


def test_secrets_are_written_where_they_are_missing_for_their_owner_alone(directory: Path, tmp_path: Path) -> None:
    new = tmp_path / "new"
    with Archive(backed_up(directory, directory / "deploy")) as archive:
        restore_secrets(archive, new)
    assert (new / ".env").read_text() == "POSTGRES_PASSWORD=geheim"
    assert stat.S_IMODE((new / ".env").stat().st_mode) == 0o600
    assert (new / "cameras.env").exists()
    assert not (new / "alarms.env").exists()


def test_secrets_that_are_there_stay(directory: Path) -> None:
    path = backed_up(directory, directory / "deploy")
    (directory / ".env").write_text("POSTGRES_PASSWORD=another")
    with Archive(path) as archive:
        restore_secrets(archive, directory)
    assert (directory / ".env").read_text() == "POSTGRES_PASSWORD=another"
