"""Buckets, data sets and evidence in S3 object storage: a package and the command `minio-client`.

storage = connect(Connection.from_environment())
make_buckets(storage, ["datasets"])
put(storage, Path("reports"), Location.parse("mlflow/reports"))

Versions of data sets are in `minio_client.datasets`.
"""

from minio_client.buckets import make_buckets
from minio_client.connection import Connection, connect
from minio_client.errors import StorageError
from minio_client.links import presign
from minio_client.transfer import Listed, Location, Summary, get, list_objects, put

__all__ = [
    "Connection",
    "Listed",
    "Location",
    "StorageError",
    "Summary",
    "connect",
    "get",
    "list_objects",
    "make_buckets",
    "presign",
    "put",
]
