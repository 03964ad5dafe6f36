"""Evidence of alarms: where it is kept, for how long, and what happens when the disk is full.

store = LocalEvidence(Path("var/evidence"))
files = store.save("outflow/20260304T050607Z", {"frame.jpg": jpeg})
store.read(files[0])
"""

from almenara.evidence.base import EvidenceReader, EvidenceStore, Stored, path_part
from almenara.evidence.local import LocalEvidence
from almenara.evidence.normals import drop_normal, keep_normal
from almenara.evidence.opening import open_evidence
from almenara.evidence.reserve import DiskReserve, committing
from almenara.evidence.retention import Retention

__all__ = [
    "DiskReserve",
    "EvidenceReader",
    "EvidenceStore",
    "LocalEvidence",
    "Retention",
    "Stored",
    "committing",
    "drop_normal",
    "keep_normal",
    "open_evidence",
    "path_part",
]
