"""Object storage: whether it answers, takes the keys, has the buckets and keeps the time."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator, Mapping
from email.utils import parsedate_to_datetime
from uuid import uuid4

import certifi
import urllib3
from minio import Minio
from minio.error import MinioException, S3Error

from almenara.doctor.findings import Finding, clock, ok, problem, skipped
from almenara.doctor.place import Place
from almenara.object_storage import object_storage as storage_client
from almenara.redaction import redact_address

_CONNECT_SECONDS, _READ_SECONDS = 2.0, 4.0
_LOOK = "See its log: docker compose logs minio"
_OTHER_KEYS = "MINIO_ACCESS_KEY and MINIO_SECRET_KEY must be the server's: correct them in .env, start both again."
_REMEDIES: Mapping[str, str] = {
    "AccessDenied": "Give the key a policy that allows it, or use another key.",
    "NoSuchBucket": "Make it: docker compose run --rm buckets",
    "RequestTimeTooSkewed": "Let both machines follow a time server (timedatectl set-ntp true).",
}


def object_storage(place: Place) -> Iterator[Finding]:
    """Address, keys, buckets, and that evidence can be put and taken away."""
    endpoint = place.storage_endpoint
    if endpoint is None:
        yield skipped("object storage", "Nothing here uses one: MINIO_ENDPOINT is not set.")
        return
    missing = [name for name in ("MINIO_ACCESS_KEY", "MINIO_SECRET_KEY") if not place.environment.get(name)]
    if missing:
        yield problem("object storage", f"{' and '.join(missing)} is not set here.", "Set both, as in .env.")
        return
    client = storage_client(
        endpoint, place.environment, connect_seconds=_CONNECT_SECONDS, read_seconds=_READ_SECONDS, retries=0
    )
    try:
        there = {bucket.name for bucket in client.list_buckets()}
    except (MinioException, urllib3.exceptions.HTTPError) as error:
        yield _failed("object storage", redact_address(endpoint), error, otherwise=_OTHER_KEYS)
        return
    yield ok("object storage", f"{redact_address(endpoint)} answers and takes the keys.")
    wanted = sorted(place.buckets)
    absent = [name for name in wanted if name not in there]
    for name in absent:
        yield problem("buckets", f"There is no bucket {name}.", "Make it: docker compose run --rm buckets")
    if not absent:
        yield ok("buckets", f"{', '.join(wanted)} are there.")
    if place.evidence_bucket in there:
        yield _evidence_can_be_kept(client, str(place.evidence_bucket))


def storage_clock(place: Place) -> Iterator[Finding]:
    """By the header Date of any answer, which has whole seconds."""
    endpoint = place.storage_endpoint
    if endpoint is None:
        return
    before = place.clock()
    try:
        with _pool() as pool:
            told = pool.request("GET", f"{endpoint.rstrip('/')}/", redirect=False, retries=False).headers.get("Date")
    except urllib3.exceptions.HTTPError:
        return  # the check of the address says so
    if told is None:
        yield skipped("storage clock", "The storage does not tell its time.")
        return
    middle = (before + place.clock()) / 2
    yield clock("storage clock", parsedate_to_datetime(told).timestamp() + 0.5 - middle)


def _evidence_can_be_kept(client: Minio, bucket: str) -> Finding:
    name = f"almenara-doctor/{uuid4()}"
    try:
        put = client.put_object(bucket, name, io.BytesIO(b"almenara doctor"), 15)
        client.remove_object(bucket, name, version_id=put.version_id)
    except (MinioException, urllib3.exceptions.HTTPError) as error:
        return _failed("evidence bucket", f"The bucket {bucket}", error)
    return ok("evidence bucket", f"{bucket} takes evidence and lets it be removed.")


def _failed(subject: str, what: str, error: Exception, *, otherwise: str = _LOOK) -> Finding:
    if isinstance(error, S3Error):
        remedy = _REMEDIES.get(error.code or "", otherwise)
        return problem(subject, f"{what}: {error.message or error.code} ({error.code}).", remedy)
    remedy = "See whether it runs (docker compose ps minio), and correct MINIO_ENDPOINT."
    reason = str(getattr(error, "reason", None) or error)
    return problem(subject, f"{what} does not answer as it should: {reason.rpartition('): ')[2]}.", remedy)


def _pool() -> urllib3.PoolManager:
    return urllib3.PoolManager(
        timeout=urllib3.Timeout(connect=_CONNECT_SECONDS, read=_READ_SECONDS),
        cert_reqs="CERT_REQUIRED",
        ca_certs=os.environ.get("SSL_CERT_FILE") or certifi.where(),
        retries=False,
    )
