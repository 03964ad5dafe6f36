"""Where the doctor runs: the settings, and the addresses and secrets that the environment gives."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from urllib.parse import unquote, urlsplit

from almenara.alarms.config import AlarmsConfig, load_alarms_config
from almenara.errors import InputError
from almenara.redaction import redact
from almenara.settings import Settings

_SECRET_VARIABLES = (
    "ALMENARA_API_KEY",
    "MINIO_SECRET_KEY",
    "MLFLOW_TRACKING_PASSWORD",
    "MLFLOW_TRACKING_TOKEN",
    "PGPASSWORD",
)
_SHORTEST_SECRET = 4
"""What is shorter may be a part of any word."""
_EVERYWHERE = {"0.0.0.0", "::", ""}  # noqa: S104  compared, not listened on
_AMAZON = "https://s3.amazonaws.com"
_OWN_WORKER = "http://127.0.0.1:8090"


@dataclass(frozen=True)
class Place:
    """What the checks look from.

    Attributes:
        settings: of this process.
        environment: variables that are no settings: PGPASSWORD, MINIO_… and MLFLOW_TRACKING_….
        api_url: of the API; by default that of the settings.
        worker_url: of a camera worker that must answer; by default one of this machine that may.
        clock: seconds since 1970.
    """

    settings: Settings
    environment: Mapping[str, str] = field(default_factory=lambda: os.environ)
    api_url: str | None = None
    worker_url: str | None = None
    clock: Callable[[], float] = time.time

    @property
    def api(self) -> str:
        """Address of the API."""
        host = self.settings.api_host
        return self.api_url or f"http://{'127.0.0.1' if host in _EVERYWHERE else host}:{self.settings.api_port}"

    @property
    def worker(self) -> str:
        """Address of the camera worker."""
        return self.worker_url or _OWN_WORKER

    @property
    def api_headers(self) -> dict[str, str]:
        key = self.settings.api_key
        return {} if key is None else {"X-API-Key": key.get_secret_value()}

    @property
    def evidence_bucket(self) -> str | None:
        """Of alarms.yaml."""
        address = self.alarms_config.evidence.url
        return urlsplit(address).netloc if address else None

    @property
    def storage_endpoint(self) -> str | None:
        """Address of the object storage; None when nothing here uses one."""
        told = self.environment.get("MINIO_ENDPOINT") or self.alarms_config.evidence.endpoint
        return told or (_AMAZON if self.evidence_bucket else None)

    @property
    def buckets(self) -> set[str]:
        """Those that must be there: evidence's, and the platform's where this process knows its storage."""
        evidence = self.evidence_bucket
        if not self.environment.get("MINIO_ENDPOINT"):
            return {evidence} if evidence else set()
        return {self.environment.get("MINIO_BUCKET_NAME") or "mlflow", "datasets", evidence or "evidence"}

    @cached_property
    def alarms_config(self) -> AlarmsConfig:
        """Of alarms.yaml; the defaults when it cannot be read, which a check of its own tells."""
        try:
            return load_alarms_config(self.settings.alarms_file, self.environment)
        except InputError:
            return AlarmsConfig()

    def clean(self, text: str) -> str:
        """`text` on one line, without credentials."""
        addresses = (self.settings.alarms_url, self.settings.mlflow_tracking_uri)
        secrets = {self.environment.get(name, "") for name in _SECRET_VARIABLES}
        secrets |= {unquote(urlsplit(address).password or "") for address in addresses if address}
        secrets |= set(self.api_headers.values())
        text = redact(" ".join(text.split()))
        for secret in sorted(secrets, key=len, reverse=True):
            if len(secret) >= _SHORTEST_SECRET:
                text = text.replace(secret, "***")
        return text
