"""One typed Settings for every service and command, read from the environment and from `.env`."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, AliasChoices, BeforeValidator, Field, SecretStr, ValidationError
from pydantic_core import PydanticCustomError
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from almenara.env_file import PLACEHOLDER
from almenara.errors import ConfigurationError


def sendable_key(key: SecretStr) -> SecretStr:
    """The key without a last line's end; refused, and not shown, if it is a placeholder or no header can carry it."""
    text = key.get_secret_value().removesuffix("\n").removesuffix("\r")
    if text.startswith(PLACEHOLDER):
        raise PydanticCustomError("api_key", "it is the placeholder of sample.env; write a secret: almenara env init")
    if text and not re.fullmatch(r"[!-~]([ -~]*[!-~])?", text):
        raise PydanticCustomError("api_key", "write printable ASCII characters, without blanks around them")
    return SecretStr(text)


ApiKey = Annotated[SecretStr, AfterValidator(sendable_key)]
"""Sent as X-API-Key."""


def _none_if_blank(value: object) -> object:
    """A variable that Compose hands on without a value is not set."""
    return None if value == "" else value


def _origins(value: object) -> object:
    """The origins of a list with commas.

    Raises:
        ValueError: one is none, as a browser writes it.
    """
    if not isinstance(value, str):
        return value
    origins = tuple(filter(None, (part.strip().lower() for part in value.split(","))))
    for origin in origins:
        if not re.fullmatch(r"https?://[^/\s,*]+", origin):
            raise PydanticCustomError("origin", "write each as https://HOST or https://HOST:PORT, without a path")
    return origins


def _names(value: object) -> object:
    return tuple(filter(None, (part.strip() for part in value.split(",")))) if isinstance(value, str) else value


class Settings(BaseSettings):
    """Defaults are the embedded ones: SQLite and folders under `var/`, everything on loopback.

    Variables carry the prefix ALMENARA_ (`ALMENARA_VAR_DIR`), except MLflow's own names.
    """

    model_config = SettingsConfigDict(
        env_prefix="ALMENARA_",
        env_file=".env",
        extra="ignore",
        populate_by_name=True,
        frozen=True,
        hide_input_in_errors=True,
    )

    var_dir: Path = Field(default=Path("var"), description="databases, artifacts, evidence and logs")
    mlflow_tracking_uri: str | None = Field(
        default=None, validation_alias=AliasChoices("MLFLOW_TRACKING_URI", "mlflow_tracking_uri")
    )
    mlflow_experiment_name: str = Field(
        default="almenara", validation_alias=AliasChoices("MLFLOW_EXPERIMENT_NAME", "mlflow_experiment_name")
    )
    mlflow_port: int = Field(default=5000, ge=1, le=65535)

    api_host: str = "127.0.0.1"
    api_port: int = Field(default=8000, ge=1, le=65535)
    api_key: ApiKey | None = Field(default=None, description="required from clients when set; off loopback a must")
    api_keys_file: Path | None = Field(default=None, description="of `almenara keys`; default api-keys.json in var_dir")
    requests_per_second: Annotated[float | None, BeforeValidator(_none_if_blank)] = Field(
        default=None, gt=0, le=1e5, description="of each key of that file that has no rate of its own"
    )
    cors_origins: Annotated[tuple[str, ...], NoDecode, BeforeValidator(_origins)] = Field(
        default=(), description="pages of these origins may call the API from a browser; with commas between them"
    )
    model_poll_seconds: float = Field(default=3.0, gt=0, le=300, description="how often aliases are resolved")
    webhook_secret: Annotated[ApiKey | None, BeforeValidator(_none_if_blank)] = Field(
        default=None, description="of MLflow's webhook that hurries that; without one the route is closed"
    )
    pyfunc_models: Annotated[tuple[str, ...], NoDecode, BeforeValidator(_names)] = Field(
        default=(), description="registered MLflow models of others that are loaded, which runs their code; with commas"
    )
    camera_port: int = Field(default=8554, ge=1, le=65535, description="of the simulated camera")
    alarms_url: str | None = Field(default=None, description="database of the API's alarms")
    alarms_file: Path | None = Field(default=None, description="alarms.yaml: channels, heartbeat, evidence")

    max_body_bytes: int = Field(default=16 * 2**20, gt=0)
    max_pixels: int = Field(default=25_000_000, gt=0, description="checked in the header, before decoding")
    max_samples: int = Field(default=2_000_000, gt=0, description="of one posted vibration signal")
    request_timeout_seconds: float = Field(default=10.0, gt=0)
    max_queue: int = Field(default=64, gt=0, description="requests waiting for inference; one more is told 503")
    drain_seconds: float = Field(
        default=0.0, ge=0, le=300, description="a stopping API serves on, not ready, so that a proxy notices"
    )

    vibration_on_delay_seconds: float = Field(default=3.0, ge=0, description="an asset's alarm: abnormal this long")
    vibration_off_delay_seconds: float = Field(default=10.0, ge=0, description="an asset's return: normal this long")
    vibration_cooldown_seconds: float = Field(default=60.0, ge=0, description="between two told alarms of an asset")
    vibration_stale_seconds: float = Field(default=3600.0, gt=0, description="an asset is unknown after no window for")
    repeat_seconds: float = Field(default=86_400.0, ge=60, le=2_592_000, description="answers are kept for repeats")
    trend_days: float = Field(default=365.0, gt=0, le=36_500, description="verdicts on assets are kept")
    trend_rows: int = Field(default=100_000, gt=0, le=10_000_000, description="verdicts that are kept of one asset")

    @property
    def tracking_uri(self) -> str:
        """MLflow's address: the one that was set, or the embedded SQLite file."""
        return self.mlflow_tracking_uri or f"sqlite:///{self.mlflow_dir / 'mlflow.db'}"

    @property
    def mlflow_dir(self) -> Path:
        return self.var_dir.resolve() / "mlflow"

    @property
    def model_cache_dir(self) -> Path:
        return self.var_dir.resolve() / "models-cache"

    @property
    def evidence_dir(self) -> Path:
        return self.var_dir.resolve() / "evidence"

    @property
    def confirmed_normal_dir(self) -> Path:
        return self.var_dir.resolve() / "confirmed-normal"

    @property
    def api_keys_path(self) -> Path:
        return self.api_keys_file or self.var_dir.resolve() / "api-keys.json"

    @property
    def alarms_database_url(self) -> str:
        return self.alarms_url or f"sqlite:///{self.var_dir.resolve() / 'alarms' / 'api.db'}"


def load_settings() -> Settings:
    """The settings of this process.

    Raises:
        ConfigurationError: a variable cannot be used; it is named, its value is not repeated.
    """
    try:
        return Settings()
    except ValidationError as error:
        facts = "; ".join(
            f"{_variable(str(each['loc'][0]))}: {each['msg']}" for each in error.errors(include_input=False)
        )
        raise ConfigurationError(f"A setting is wrong: {facts}.", "Correct the environment or .env.") from error


def _variable(field: str) -> str:
    return field if field.isupper() else f"ALMENARA_{field.upper()}"
