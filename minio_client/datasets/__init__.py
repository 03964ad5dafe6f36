"""Data sets in object storage: contents named by their SHA-256, versions named by what they contain."""

from minio_client.datasets.catalogue import (
    BUCKET,
    Dataset,
    Reference,
    Version,
    list_datasets,
    list_versions,
    load_manifest,
)
from minio_client.datasets.difference import Difference, compare
from minio_client.datasets.manifest import Entry, Manifest, scan
from minio_client.datasets.pull import Pulled, pull
from minio_client.datasets.push import Pushed, push

__all__ = [
    "BUCKET",
    "Dataset",
    "Difference",
    "Entry",
    "Manifest",
    "Pulled",
    "Pushed",
    "Reference",
    "Version",
    "compare",
    "list_datasets",
    "list_versions",
    "load_manifest",
    "pull",
    "push",
    "scan",
]
