"""The one list of what the doctor looks at, in the order of its table."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from almenara.doctor import databases, figures, machine, mlflow_server, services, storage
from almenara.doctor.findings import Finding
from almenara.doctor.place import Place

Check = Callable[[Place], Iterable[Finding]]
"""Yields a finding after the other, so that those before a failure are told."""

CHECKS: tuple[tuple[str, Check], ...] = (
    ("secrets", machine.secrets),
    ("disk", machine.disk),
    ("folder", machine.folder),
    ("alarms.yaml", machine.alarms_file),
    ("PostgreSQL", databases.postgresql),
    ("alarm database", databases.alarm_database),
    ("MLflow database", databases.mlflow_database),
    ("object storage", storage.object_storage),
    ("storage clock", storage.storage_clock),
    ("MLflow", mlflow_server.mlflow_server),
    ("MLflow hosts", mlflow_server.spoofed_host),
    ("API", services.api),
    ("models", services.models),
    ("API's alarms", figures.of_api),
    ("camera worker", services.camera_worker),
    ("worker's alarms", figures.of_worker),
)
