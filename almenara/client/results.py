"""What the API tells beside verdicts and alarms; what a newer one adds is passed over."""

from __future__ import annotations

from datetime import datetime

from almenara.contracts import Contract


class RefusedVersion(Contract):
    """Why a version that the registry names is not in service."""

    version: str
    reason: str
    at: datetime


class ServedModel(Contract):
    """A registered model; without a version nothing of that name is in service."""

    name: str
    task: str
    role: str | None = None
    version: str | None = None
    alias: str | None = None
    asset: str | None = None
    loaded_since: datetime | None = None
    refused: RefusedVersion | None = None


class Missing(Contract):
    """Why no model is in service."""

    type: str
    detail: str
    remedy: str


class ServedModels(Contract):
    """What is in service, and what is missing; `missing` is None while a model is in service."""

    registry: str
    models: tuple[ServedModel, ...]
    missing: Missing | None = None
