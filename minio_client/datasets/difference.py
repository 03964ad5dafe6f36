"""What differs between two versions."""

from __future__ import annotations

from dataclasses import dataclass

from minio_client.datasets.manifest import Manifest


@dataclass(frozen=True)
class Difference:
    """Paths that only the second version has, only the first, or both with different contents."""

    added: tuple[str, ...]
    removed: tuple[str, ...]
    changed: tuple[str, ...]


def compare(before: Manifest, after: Manifest) -> Difference:
    """Compare two versions path by path."""
    old, new = ({file.path: file.sha256 for file in manifest.files} for manifest in (before, after))
    return Difference(
        added=tuple(sorted(new.keys() - old.keys())),
        removed=tuple(sorted(old.keys() - new.keys())),
        changed=tuple(sorted(path for path in old.keys() & new.keys() if old[path] != new[path])),
    )
