"""The archive of a backup: it appears whole or not at all, and what was changed in it is not restored."""

from __future__ import annotations

import hashlib
import io
import stat
import subprocess
import tarfile
from datetime import UTC, datetime
from pathlib import Path

import pytest

from almenara.backup.archive import CHECKSUMS, MANIFEST, Archive, ArchiveWriter, Manifest
from almenara.errors import InputError

CONTENT = bytes(range(256)) * 20


def silent(stage: str, done: int, total: int) -> None:
    pass


def manifest() -> Manifest:
    return Manifest(id="one", kind="embedded", made_at=datetime.now(UTC), release="0.1.0", needed_bytes=1)


def write(path: Path) -> Manifest:
    with ArchiveWriter(path, silent) as archive:
        with archive.part("databases/one.tar") as sink:
            for start in range(0, len(CONTENT), 1000):
                sink.write(CONTENT[start : start + 1000])
        with archive.part("empty") as sink:
            pass
        written = archive.finish(manifest())
        archive.complete()
    return written


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    path = tmp_path / "backup.tar"
    write(path)
    return path


def refusal(path: Path) -> InputError:
    with pytest.raises(InputError) as refused, Archive(path) as opened:
        opened.verify(silent)
    return refused.value


def test_parts_of_unknown_size_are_read_back(archive: Path) -> None:
    with Archive(archive) as opened:
        opened.verify(silent)
        assert b"".join(opened.blocks("databases/one.tar")) == CONTENT
        assert b"".join(opened.blocks("empty")) == b""


def test_manifest_names_size_and_hash_of_each_part(archive: Path) -> None:
    with Archive(archive) as opened:
        [first, second] = opened.manifest.parts
    assert (first.name, first.size, first.sha256) == (
        "databases/one.tar",
        len(CONTENT),
        hashlib.sha256(CONTENT).hexdigest(),
    )
    assert (second.name, second.size) == ("empty", 0)


def test_archive_is_checked_without_this_software(archive: Path, tmp_path: Path) -> None:
    with tarfile.open(archive) as tar:
        tar.extractall(tmp_path / "out", filter="data")
    subprocess.run(["sha256sum", "--check", "--strict", CHECKSUMS], cwd=tmp_path / "out", check=True)


def test_only_its_owner_can_read_it(archive: Path) -> None:
    assert stat.S_IMODE(archive.stat().st_mode) == 0o600


def test_a_backup_that_fails_leaves_nothing(tmp_path: Path) -> None:
    def failing() -> None:
        with ArchiveWriter(tmp_path / "backup.tar", silent) as archive, archive.part("one") as sink:
            sink.write(CONTENT)
            raise RuntimeError

    with pytest.raises(RuntimeError):
        failing()
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_backup_left_is_overwritten(tmp_path: Path) -> None:
    (tmp_path / ".backup.tar.partial").write_bytes(b"x" * 100_000)
    write(tmp_path / "backup.tar")
    assert [path.name for path in tmp_path.iterdir()] == ["backup.tar"]
    with Archive(tmp_path / "backup.tar") as opened:
        opened.verify(silent)


def test_two_backups_do_not_write_the_same_archive(tmp_path: Path) -> None:
    with ArchiveWriter(tmp_path / "backup.tar", silent), pytest.raises(InputError, match="Another backup"):
        write(tmp_path / "backup.tar")


def test_an_archive_that_is_there_is_not_overwritten(archive: Path) -> None:
    before = archive.read_bytes()
    with pytest.raises(InputError, match="is there already"):
        write(archive)
    assert archive.read_bytes() == before


@pytest.mark.parametrize("part", ["databases/one.tar", MANIFEST, CHECKSUMS])
def test_a_changed_byte_is_noticed(archive: Path, part: str) -> None:
    with tarfile.open(archive) as tar:
        place = tar.getmember(part).offset_data + 20
    content = bytearray(archive.read_bytes())
    content[place] ^= 1
    archive.write_bytes(content)
    refusal(archive)


@pytest.mark.parametrize("missing", [1400, 4000, 8000])
def test_an_archive_that_is_cut_off_is_refused(archive: Path, missing: int) -> None:
    content = archive.read_bytes()
    archive.write_bytes(content[:-missing])
    assert "cannot be restored" in str(refusal(archive)) or "no archive" in str(refusal(archive))


def test_a_part_that_no_checksum_names_is_refused(archive: Path) -> None:
    with tarfile.open(archive, "a") as tar:
        tar.addfile(tarfile.TarInfo("more"), io.BytesIO())
    assert "does not hold the parts" in str(refusal(archive))


def test_a_file_that_is_no_archive_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("no tar" * 1000)
    assert "no archive of a backup" in str(refusal(path))


def test_an_archive_of_a_newer_format_names_the_remedy(archive: Path, tmp_path: Path) -> None:
    newer = tmp_path / "newer.tar"
    with tarfile.open(archive) as old, tarfile.open(newer, "w") as tar:
        for member in old:
            source = old.extractfile(member)
            assert source is not None
            content = source.read()
            if member.name == MANIFEST:
                content = content.replace(b'"format": 1', b'"format": 2')
            tar.addfile(member, io.BytesIO(content))
    assert "newer one" in refusal(newer).remedy


def test_progress_ends_at_the_size_of_what_was_written(tmp_path: Path) -> None:
    told: dict[str, tuple[int, int]] = {}
    with ArchiveWriter(tmp_path / "backup.tar", lambda stage, done, total: told.update({stage: (done, total)})) as out:
        with out.part("one", expected=3 * len(CONTENT)) as sink:
            sink.write(CONTENT)
        out.finish(manifest())
    assert told["one"] == (len(CONTENT), len(CONTENT))
    assert told["verify"][0] == told["verify"][1] > 0
