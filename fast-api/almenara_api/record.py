"""The API's side of the plant-wide record: what a worker is told, and the evidence that it hands over."""

from __future__ import annotations

import hashlib
import logging
import threading
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from queue import SimpleQueue
from typing import TypeVar

from sqlalchemy.exc import DataError, DBAPIError, IntegrityError, StatementError

from almenara.alarms import AlarmRecord, AlarmStore
from almenara.alarms.office import AlarmOffice
from almenara.alarms.queries import AlarmFilter
from almenara.alarms.records import Directives, EvidenceFile, Report
from almenara.errors import InputError
from almenara.evidence import EvidenceReader, path_part
from almenara_api.judging import sort_normal
from almenara_api.problems import Problem

MOST_EVIDENCE_BYTES = 16 * 2**20
_MOST_WANTED = 20
_MOST_READ = 20
_PAGE = 200
_MOST_REMEMBERED = 5000
_OLDEST = timedelta(days=7)
_FIRST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS = 30.0, 3600.0

_File = tuple[str, str]
"""URI and SHA-256 of a file."""
_Fact = TypeVar("_Fact")
_LOG = logging.getLogger(__name__)


class Wanted:
    """Finds alarms of workers whose evidence cannot be read here, such as on another machine's disk.

    A thread of its own looks, so that evidence storage that hangs holds nobody up. Each time it looks at the newest
    alarms and, page by page, at the older ones of the last seven days. A file that was asked for is asked for again
    only after a pause, which doubles from 30 s to an hour: one that is gone for good does not hide the others.

    Args:
        store: with the alarms.
        evidence: of this service.
        monotonic: seconds, for the pauses.
    """

    def __init__(
        self, store: AlarmStore, evidence: EvidenceReader, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._store = store
        self._evidence = evidence
        self._monotonic = monotonic
        self._readable: dict[_File, None] = {}
        self._pages: dict[str, str | None] = {}
        self._lock = threading.Lock()
        self._sought: set[str] = set()
        self._found: dict[str, dict[str, _File]] = {}
        self._asked: dict[_File, tuple[float, float]] = {}  # until when, and the pause that this was
        self._origins: SimpleQueue[str | None] = SimpleQueue()

    def start(self) -> None:
        """Begin to look."""
        threading.Thread(target=self._run, name="evidence-wanted", daemon=True).start()

    def close(self) -> None:
        """Look no more."""
        self._origins.put(None)

    def of(self, origin: str) -> tuple[str, ...]:
        """Ids of a worker's alarms that lack a file which may be handed over, 20 at most.

        At once: those that were found since the last call, after which the next ones are looked for.
        """
        with self._lock:
            found = self._found.pop(origin, {})
            for file in found.values():
                self._note_asked(file)
            if origin not in self._sought:
                self._sought.add(origin)
                self._origins.put(origin)
        return tuple(found)

    def _note_asked(self, file: _File) -> None:
        _, pause = self._asked.pop(file, (0.0, _FIRST_PAUSE_SECONDS / 2))
        pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)
        _remember(self._asked, file, (self._monotonic() + pause, pause))

    def _run(self) -> None:
        while (origin := self._origins.get()) is not None:
            found: dict[str, _File] = {}
            try:
                found = self._search(origin)
            except Exception:  # noqa: BLE001 - whatever fails, the thread lives on
                _LOG.exception("It cannot be seen which evidence of %s lacks; it is looked for again.", origin)
            with self._lock:
                self._sought.discard(origin)
                if found:
                    self._found[origin] = found

    def _search(self, origin: str) -> dict[str, _File]:
        recent = AlarmFilter(since=datetime.now(UTC) - _OLDEST)
        alarms = self._store.alarms(recent, limit=_PAGE)
        if len(alarms) == _PAGE:
            before = self._pages.get(origin) or alarms[-1].id
            page = self._store.alarms(recent, limit=_PAGE, before=before)
            self._pages[origin] = page[-1].id if len(page) == _PAGE else None
            alarms += page
        return self._lacking([alarm for alarm in alarms if alarm.origin == origin])

    def _lacking(self, alarms: Sequence[AlarmRecord]) -> dict[str, _File]:
        reads = 0
        lacking: dict[str, _File] = {}
        now = self._monotonic()
        for alarm, file in ((each, file) for each in alarms for file in each.evidence):
            identity = (file.uri, file.sha256)
            if file.size > MOST_EVIDENCE_BYTES or alarm.id in lacking or identity in self._readable:
                continue
            if now < self._asked.get(identity, (0.0, 0.0))[0]:
                continue
            if reads == _MOST_READ or len(lacking) == _MOST_WANTED:
                break
            if is_readable(self._evidence, file):
                reads += 1
                _remember(self._readable, identity, None)
            else:
                lacking[alarm.id] = identity
        return lacking


def _remember(known: dict[_File, _Fact], file: _File, fact: _Fact) -> None:
    if len(known) >= _MOST_REMEMBERED:
        known.pop(next(iter(known)))
    known[file] = fact


def is_readable(evidence: EvidenceReader, file: EvidenceFile) -> bool:
    """Whether a file is there, whole."""
    try:
        evidence.read(file)
    except OSError:
        return False
    return True


def merge(store: AlarmStore, reports: Sequence[Report]) -> int:
    """Take over reports; the number of new transitions.

    Raises:
        InputError: see `AlarmStore.merge`.
        Problem: 422, the database cannot keep one of them, however often it is sent.
        sqlalchemy.exc.SQLAlchemyError: the database is away or too slow.
    """
    try:
        return store.merge(reports)
    except (ValueError, OverflowError) as error:
        raise _unstorable(error) from error
    except StatementError as error:
        if isinstance(error, DBAPIError) and not isinstance(error, DataError | IntegrityError):
            raise
        raise _unstorable(error.orig or error) from error


def _unstorable(error: BaseException) -> Problem:
    reason = str(error).partition("\n")[0][:200]
    return Problem(
        422,
        "report-unstorable",
        f"The alarm database cannot keep one of the reports: {type(error).__name__}: {reason}.",
        "Send them in smaller batches to find it, and leave it out.",
    )


def directives(office: AlarmOffice, wanted: Wanted, origin: str) -> Directives:
    """All that a worker has to know."""
    return Directives(
        directives=tuple(office.store.directives(origin)),
        silences=tuple(office.store.silences()),
        evidence_wanted=wanted.of(origin),
    )


def check_content(content: bytes, sha256: str) -> None:
    """Refuse a file that did not arrive as it was sent, or is too large.

    Raises:
        InputError
    """
    if len(content) > MOST_EVIDENCE_BYTES:
        raise InputError(
            "body-too-large",
            f"The file has {len(content)} bytes, at most {MOST_EVIDENCE_BYTES} are taken.",
            "Keep it at the worker.",
        )
    if hashlib.sha256(content).hexdigest() != sha256:
        raise InputError(
            "evidence-hash", "The content does not have the SHA-256 of X-Content-SHA256.", "Send it again."
        )


def keep(office: AlarmOffice, normals: Path, alarm_id: str, name: str, content: bytes, sha256: str) -> None:
    """Save one file of a worker's alarm here, and let the alarm name this copy; again changes nothing.

    Of an alarm that was found false meanwhile, frame or window are kept in `normals`.

    Raises:
        InputError: no such alarm.
        Problem: 409, the alarm has no such file, or not with this content; 503, it cannot be saved.
    """
    alarm = office.store.alarm(alarm_id)
    file = next((each for each in alarm.evidence if (each.name, each.sha256) == (name, sha256)), None)
    if file is None or not alarm.origin:
        raise Problem(
            409,
            "evidence-unexpected",
            f"Alarm {alarm_id} has no file {name!r} with this SHA-256 that a worker could hand over.",
            "Report the alarm as it is now, then hand over the files that it names.",
        )
    if is_readable(office.evidence, file):
        return
    copy = _saved(office, alarm, name, content)
    files = tuple(copy if each == file else each for each in office.store.alarm(alarm_id).evidence)
    sort_normal(office, normals, office.store.revise_evidence(alarm_id, files))


def _saved(office: AlarmOffice, alarm: AlarmRecord, name: str, content: bytes) -> EvidenceFile:
    place = "/".join(map(path_part, (alarm.origin, alarm.id, name)))
    try:
        [file] = office.evidence.save(place, {name: content})
    except (OSError, ValueError) as error:
        raise Problem(
            503,
            "evidence-unavailable",
            f"{name} cannot be saved: {error}.",
            "See the free space and the rights of the evidence folder, or its object storage.",
            headers={"Retry-After": "60"},
        ) from error
    return file
