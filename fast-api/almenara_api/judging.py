"""What people do with alarms: look at the evidence, say what they found, ask how it goes."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from almenara.alarms import AlarmRecord, AlarmStore
from almenara.alarms.kpi import Kpi, kpi
from almenara.alarms.office import AlarmOffice
from almenara.alarms.queries import AlarmFilter
from almenara.alarms.records import EvidenceFile, Transition
from almenara.errors import InputError
from almenara.evidence import drop_normal, keep_normal
from almenara_api.problems import Problem

MOST_HOURS = 31 * 24
_PAGE = 1000
_MOST_ALARMS = 20_000
_MOST_TRANSITIONS = 100_000

_LOG = logging.getLogger(__name__)


def sort_normal(office: AlarmOffice, normals: Path, alarm: AlarmRecord) -> None:
    """Keep what a false alarm shows as a confirmed normal, once it can be read here; take back that of a true alarm."""
    try:
        if alarm.verdict == "false_alarm":
            keep_normal(alarm.evidence, office.evidence, normals, alarm.source, alarm.kind)
        elif alarm.verdict == "true_alarm":
            drop_normal(alarm.evidence, normals, alarm.source, alarm.kind)
    except (OSError, InputError) as error:
        _LOG.warning("the confirmed normals are not yet as the verdict on alarm %s says: %s", alarm.id, error)


def read_evidence(office: AlarmOffice, alarm_id: str, name: str) -> tuple[EvidenceFile, bytes]:
    """One file of an alarm.

    Raises:
        InputError: no such alarm.
        Problem: 404, the alarm has no such file, or it is not here any more, or not yet.
    """
    file = next((each for each in office.store.alarm(alarm_id).evidence if each.name == name), None)
    if file is None:
        raise Problem(
            404, "evidence-unknown", f"Alarm {alarm_id} has no file {name!r}.", "GET the alarm: it lists its files."
        )
    try:
        return file, office.evidence.read(file)
    except OSError as error:
        raise Problem(
            404,
            "evidence-gone",
            f"{name} of alarm {alarm_id} cannot be read: {error.strerror or type(error).__name__}.",
            "It comes from its worker within a minute, or was removed for its age: see evidence in alarms.yaml.",
        ) from error


def figures(store: AlarmStore, since: datetime, until: datetime, operators: int) -> Kpi:
    """The figures of a time; of more than 20,000 alarms or 100,000 transitions the newest count."""
    raised = _all(store, AlarmFilter(since=since, until=until))
    known = {alarm.id for alarm in raised}
    standing = [alarm for alarm in _all(store, AlarmFilter(standing=True)) if alarm.id not in known]
    transitions = store.transitions(since=since, until=until, limit=_MOST_TRANSITIONS)
    return kpi([*raised, *standing], transitions, since, until, operators, begins=_begin(store, transitions))


def _begin(store: AlarmStore, transitions: Sequence[Transition]) -> datetime | None:
    """When the record begins, which is before these transitions; None once its first one has been forgotten."""
    first = store.changes_after(0, limit=1)
    if not first or first[0][0] > 1:
        return None
    return min(each.at for each in (first[0][1].transition, *transitions))


def _all(store: AlarmStore, chosen: AlarmFilter) -> list[AlarmRecord]:
    found: list[AlarmRecord] = []
    while len(found) < _MOST_ALARMS:
        page = store.alarms(chosen, limit=_PAGE, before=found[-1].id if found else None)
        found += page
        if len(page) < _PAGE:
            break
    return found
