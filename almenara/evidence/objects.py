"""Evidence in object storage: saved to a local folder at once, moved to the bucket as soon as that answers."""

from __future__ import annotations

import errno
import io
import logging
import os
import random
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath
from urllib.parse import urlsplit
from uuid import uuid4

import urllib3
from minio.error import MinioException, S3Error

from almenara.alarms.records import EvidenceFile
from almenara.errors import ConfigurationError
from almenara.evidence.base import MOST_BYTES, Stored, check, check_name, is_name, path_part
from almenara.evidence.local import LocalEvidence
from almenara.object_storage import object_storage
from almenara.redaction import redact, redact_address

logger = logging.getLogger(__name__)

_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS = 1.0, 60.0
_GONE = {"NoSuchKey", "NoSuchObject"}


class ObjectEvidence:
    """An `EvidenceStore` in a bucket, which other stores may share.

    An alarm waits for the local folder only: a thread moves what is there to the bucket, and tries again for as long
    as the bucket is away. URIs are those in the bucket from the beginning; until a file has arrived, only processes
    that share the folder can read it. The keys are MINIO_ACCESS_KEY and MINIO_SECRET_KEY of the environment.

    Args:
        url: ``s3://bucket/prefix``; all evidence below can be read.
        folder: for what is on its way, of this store alone.
        owner: name of this store; its evidence lies in a folder called so below the prefix.
        endpoint: ``http://host:port`` of the storage; by default Amazon's.

    Raises ConfigurationError: an address or a key is missing or malformed.
    """

    def __init__(self, url: str, folder: Path, *, owner: str, endpoint: str | None = None) -> None:
        address = urlsplit(url)
        if address.scheme != "s3" or not address.netloc:
            raise ConfigurationError(f"{redact_address(url)} is no place for evidence.", "Write s3://BUCKET/PREFIX.")
        self._bucket = address.netloc
        prefix = address.path.strip("/")
        self._shared = f"{prefix}/" if prefix else ""
        self._prefix = f"{self._shared}{path_part(owner)}/"
        self._outgoing = LocalEvidence(folder)
        self._storage = object_storage(endpoint or "https://s3.amazonaws.com")
        self._over = threading.Event()

    def start(self) -> None:
        """Begins to move what is in the folder, until `close`; what is left then is for the next start."""
        threading.Thread(target=self._run, name="evidence-upload", daemon=True).start()

    def close(self) -> None:
        self._over.set()

    def save(self, name: str, files: Mapping[str, bytes]) -> tuple[EvidenceFile, ...]:
        saved = self._outgoing.save(f"{name}-{uuid4().hex[:8]}", files)
        return tuple(self._addressed(file) for file in saved)

    def read(self, file: EvidenceFile) -> bytes:
        key = self._key(file, self._shared)
        if file.size > MOST_BYTES:
            raise OSError(errno.EFBIG, os.strerror(errno.EFBIG), file.uri)
        if key.startswith(self._prefix):
            path = self._outgoing.folder / key.removeprefix(self._prefix)
            with suppress(FileNotFoundError):
                return self._outgoing.read(file.model_copy(update={"uri": str(path)}))
        return check(file, self._get(key, file.size + 1))

    def replace(self, file: EvidenceFile, content: bytes) -> EvidenceFile:
        place = PurePosixPath(self._key(file, self._prefix).removeprefix(self._prefix))
        return self._addressed(self._outgoing.add(place.parent.as_posix(), file, content))

    def stored(self) -> list[Stored]:
        found: dict[str, list[Stored]] = {}
        for stored in (*self._outgoing.stored(), *self._in_bucket()):
            found.setdefault(stored.name, []).append(stored)
        return [
            Stored(
                name=name,
                files=tuple(sorted({file for part in parts for file in part.files})),
                size=sum(part.size for part in parts),
                saved_at=min(part.saved_at for part in parts),
            )
            for name, parts in found.items()
        ]

    def delete(self, stored: Stored) -> None:
        check_name(stored.name)
        self._outgoing.delete(stored)
        with _as_oserror(stored.name):
            for file in stored.files:
                self._storage.remove_object(self._bucket, f"{self._prefix}{stored.name}/{file}")

    def remove_leftovers(self, before: float) -> None:
        self._outgoing.remove_leftovers(before)

    def upload(self) -> str:
        """Moves what is in the folder to the bucket; returns why some of it stayed, or an empty text."""
        reason = ""
        for stored in self._outgoing.stored():
            for file in stored.files:
                try:
                    self._move(stored.name, file)
                except FileNotFoundError:
                    continue  # another process moved it, or it was deleted
                except S3Error as error:
                    reason = f"{error.message or error.code} ({error.code})"
                except OSError as error:
                    reason = f"{file} cannot be read: {error}"
                except (MinioException, urllib3.exceptions.HTTPError) as error:
                    return redact(str(error))
        return redact(reason)

    def _run(self) -> None:
        reason, pause = "", _PAUSE_SECONDS
        while not self._over.is_set():
            before = reason
            try:
                reason = self.upload()
            except Exception as error:  # noqa: BLE001 - whatever it is, evidence must not wait for a restart
                reason = redact(str(error))
            pause = min(2 * pause, _LONGEST_PAUSE_SECONDS) if reason else _PAUSE_SECONDS
            if reason and not before:
                logger.warning("Evidence waits in a folder, the bucket %s does not take it: %s", self._bucket, reason)
            elif before and not reason:
                logger.info("The bucket %s has all the evidence that waited.", self._bucket)
            self._over.wait(pause * random.uniform(0.8, 1.2))  # noqa: S311 - jitter

    def _move(self, name: str, file: str) -> None:
        path = self._outgoing.folder / name / file
        content = path.read_bytes()
        self._storage.put_object(self._bucket, f"{self._prefix}{name}/{file}", io.BytesIO(content), len(content))
        path.unlink(missing_ok=True)

    def _get(self, key: str, most: int) -> bytes:
        with _as_oserror(f"s3://{self._bucket}/{key}"):
            response = self._storage.get_object(self._bucket, key)
            try:
                return bytes(response.read(most))
            finally:
                response.close()
                response.release_conn()

    def _in_bucket(self) -> Iterator[Stored]:
        with _as_oserror(f"s3://{self._bucket}/{self._prefix}"):
            for item in self._storage.list_objects(self._bucket, prefix=self._prefix, recursive=True):
                place = PurePosixPath(item.object_name.removeprefix(self._prefix))
                if len(place.parts) > 1:
                    yield Stored(place.parent.as_posix(), (place.name,), item.size, item.last_modified.timestamp())

    def _addressed(self, file: EvidenceFile) -> EvidenceFile:
        """A file of the folder as it is called in the bucket."""
        place = Path(file.uri).relative_to(self._outgoing.folder).as_posix()
        return file.model_copy(update={"uri": f"s3://{self._bucket}/{self._prefix}{place}"})

    def _key(self, file: EvidenceFile, prefix: str) -> str:
        """The file's key in the bucket, which begins with `prefix`; raises FileNotFoundError when it does not."""
        bucket = f"s3://{self._bucket}/"
        key = file.uri.removeprefix(bucket)
        if not file.uri.startswith(f"{bucket}{prefix}") or not all(map(is_name, key.removeprefix(prefix).split("/"))):
            raise FileNotFoundError(errno.ENOENT, "it is not in this evidence store", file.uri)
        return key


@contextmanager
def _as_oserror(place: str) -> Iterator[None]:
    try:
        yield
    except S3Error as error:
        number = errno.ENOENT if error.code in _GONE else errno.EIO
        raise OSError(number, redact(error.message or str(error.code)), place) from error
    except (MinioException, urllib3.exceptions.HTTPError) as error:
        raise OSError(errno.EIO, f"object storage does not answer: {redact(str(error))}", place) from error
