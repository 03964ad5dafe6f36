"""Reads the file that says which cameras to watch, and how."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from almenara.configuration import loading
from camera_worker.config.models import WorkerConfig

_REMEDY = "Make one: camera-worker create-config cameras.yaml"


def load_config(path: Path, environment: Mapping[str, str] = os.environ) -> WorkerConfig:
    """As `almenara.configuration.loading.load_config`, for cameras."""
    return loading.load_config(path, WorkerConfig, remedy=_REMEDY, environment=environment)


def parse_config(text: str, *, name: str, environment: Mapping[str, str] = os.environ) -> WorkerConfig:
    """As `load_config`, from text; `name` is what messages call it."""
    return loading.parse_config(text, WorkerConfig, name=name, environment=environment)
