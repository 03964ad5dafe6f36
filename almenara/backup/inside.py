"""What `almenara backup` and `restore` run inside a container: `python -m almenara.backup.inside ACTION`.

Actions that write or read a tar do so on standard output and input, and end with its size and SHA-256 on standard
error: the caller notices a stream that was cut off on its way.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Callable
from typing import IO, TYPE_CHECKING, Any, cast

from almenara.backup import folder
from almenara.errors import AlmenaraError, InputError
from almenara.settings import load_settings

if TYPE_CHECKING:
    from minio import Minio

TRAILER, WARNING = "almenara-stream:", "almenara-warning:"
_BLOCK = 2**16


class Meter:
    """A pipe that counts and hashes what passes.

    Attributes:
        size: bytes so far.
    """

    def __init__(self, pipe: IO[bytes]) -> None:
        self._pipe, self._digest = pipe, hashlib.sha256()
        self.size = 0

    def write(self, block: bytes) -> int:
        self._pipe.write(block)
        return self._count(block)

    def read(self, size: int = _BLOCK) -> bytes:
        block = self._pipe.read(size)
        self._count(block)
        return block

    def finish(self) -> None:
        """Reads the rest, or sends off what was written."""
        if self._pipe.readable():
            while self.read():
                pass
        else:
            self._pipe.flush()

    @property
    def sha256(self) -> str:
        return self._digest.hexdigest()

    def _count(self, block: bytes) -> int:
        self._digest.update(block)
        self.size += len(block)
        return len(block)


def trailer(size: int, sha256: str) -> str:
    """The last line on standard error of an action that streams."""
    return f"{TRAILER} {size} {sha256}"


def _survey() -> None:
    _answer(folder.survey(load_settings().var_dir).model_dump())


def _mark(backup: str) -> None:
    folder.mark(load_settings().var_dir, backup)


def _unmark() -> None:
    folder.unmark(load_settings().var_dir)


def _storage() -> Minio:
    from almenara.object_storage import object_storage

    return object_storage(connect_seconds=5, read_seconds=60, retries=3)


def _survey_buckets() -> None:
    from almenara.backup import buckets

    _answer(buckets.survey(_storage()))


def _remove_others() -> None:
    from almenara.backup import buckets

    wanted = {bucket: frozenset(keys) for bucket, keys in json.load(sys.stdin).items()}
    _answer(buckets.remove_others(_storage(), wanted))


def _databases(pipe: Meter) -> None:
    folder.write_databases(load_settings().var_dir, pipe)


def _files(pipe: Meter) -> None:
    folder.write_files(load_settings().var_dir, pipe)


def _objects(pipe: Meter) -> None:
    from almenara.backup import buckets

    buckets.write_objects(_storage(), pipe)


def _unpack(pipe: Meter, size: str) -> None:
    """Nothing is replaced unless all bytes have come."""
    var_dir = load_settings().var_dir
    folder.extract(var_dir, [cast("IO[bytes]", pipe)])
    pipe.finish()
    if pipe.size != int(size):
        raise InputError("backup-cut-off", f"{pipe.size} of {size} bytes have come.", "Run the command again.")
    folder.exchange(var_dir)


def _put_objects(pipe: Meter) -> None:
    from almenara.backup import buckets

    def warn(what: str) -> None:
        sys.stderr.write(f"{WARNING} {what}\n")

    buckets.put_objects(_storage(), cast("IO[bytes]", pipe), warn)


_ACTIONS: dict[str, Callable[..., None]] = {
    "survey": _survey,
    "mark": _mark,
    "unmark": _unmark,
    "survey-buckets": _survey_buckets,
    "remove-others": _remove_others,
}
_WRITERS: dict[str, Callable[..., None]] = {"databases": _databases, "files": _files, "objects": _objects}
_READERS: dict[str, Callable[..., None]] = {"unpack": _unpack, "put-objects": _put_objects}


def main() -> None:
    """Do what the first argument names; an error is one sentence on stderr and exit code 2."""
    action, *arguments = sys.argv[1:]
    try:
        if action in _ACTIONS:
            _ACTIONS[action](*arguments)
            return
        streams = _WRITERS | _READERS
        meter = Meter(sys.stdout.buffer if action in _WRITERS else sys.stdin.buffer)
        streams[action](meter, *arguments)
        meter.finish()
        sys.stderr.write(trailer(meter.size, meter.sha256) + "\n")
    except AlmenaraError as error:
        sys.stderr.write(f"{error}\n")
        sys.exit(2)
    except Exception as error:  # noqa: BLE001 - a sentence for the caller, whatever the storage's client raises
        sys.stderr.write(f"{action}: {type(error).__name__}: {error}\n")
        sys.exit(2)


def _answer(result: Any) -> None:
    sys.stdout.write(json.dumps(result) + "\n")


if __name__ == "__main__":
    main()
