"""What the API tells beside verdicts and alarms; what a newer one adds is passed over."""

from __future__ import annotations

from datetime import datetime

from pydantic import AwareDatetime, Field

from almenara.contracts import Contract, ModelRef, Novelty


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


class Reading(Contract):
    """A verdict on an asset, as its trend keeps it."""

    id: int
    asset: str
    channel: str | None = Field(description="of the sensor, null where none was named")
    record_id: str | None = Field(description="the client's own id of the recording")
    measured_at: AwareDatetime = Field(description="end of the window; when it arrived, if nobody said it")
    received_at: AwareDatetime
    late: bool = Field(description="newer windows had been judged: it changed no alarm")
    model: ModelRef
    label: str
    probability: float = Field(description="of the most probable label")
    novelty: Novelty | None = Field(description="null without a commissioned baseline")
    rms: float = Field(description="in the unit; of unknown size where the unit is null")
    unit: str | None
    snr_db: dict[str, float] = Field(description="of each fault frequency's line, over the envelope spectrum's median")
    windows: int
    quality: tuple[str, ...]
