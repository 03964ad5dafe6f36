"""A model store that follows a registry in a folder, and an asset watch that alarms at once."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from almenara.settings import Settings
from almenara_api.cache import ModelCache
from almenara_api.store import ModelStore
from tests.support.api import FolderRegistry
from tests.support.watched import Watched, watching


@pytest.fixture
def registry(tmp_path: Path) -> FolderRegistry:
    return FolderRegistry(tmp_path / "registry")


@pytest.fixture
def cache(tmp_path: Path) -> ModelCache:
    return ModelCache(tmp_path / "cache", "here")


@pytest.fixture
def store(registry: FolderRegistry, cache: ModelCache) -> ModelStore:
    return ModelStore(lambda: registry, cache, 60)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(var_dir=tmp_path, vibration_on_delay_seconds=0)


@pytest.fixture
def watch(settings: Settings) -> Iterator[Watched]:
    with watching(settings) as watched:
        yield watched
