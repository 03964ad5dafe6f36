"""The evidence store that alarms.yaml asks for."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from almenara.evidence.base import EvidenceStore
from almenara.evidence.local import LocalEvidence

if TYPE_CHECKING:
    from almenara.alarms.config import EvidencePart


_WORKER, _RECORD = "worker", "record"


def open_evidence(config: EvidencePart, folder: Path, *, origin: str = "") -> EvidenceStore:
    """Evidence in `folder`, or on its way through it to the bucket of `config`.

    A worker and the plant-wide record may share the folder, and any number of stores the bucket: each writes and
    removes only its own evidence, and reads all.

    Args:
        config: of alarms.yaml.
        folder: of evidence.
        origin: name of the worker whose alarms they are; empty for the record itself.

    Raises ConfigurationError: an address or a key of object storage is missing or malformed.
    """
    if config.url is None:
        return LocalEvidence(folder / _WORKER, within=folder) if origin else LocalEvidence(folder, apart=_WORKER)
    from almenara.evidence.objects import ObjectEvidence

    outgoing = folder / "outgoing" / (_WORKER if origin else _RECORD)
    return ObjectEvidence(config.url, outgoing, owner=origin or _RECORD, endpoint=config.endpoint)
