"""The model store keeps what works, and starts from its disk cache, while the registry or its artifacts are away."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest

from almenara_api.cache import Index, ModelCache
from almenara_api.store import ModelStore
from tests.support.api import FolderRegistry, cache_champions
from tests.support.model_store import versions
from tests.support.packages import vision_candidate


def test_what_is_loaded_is_served_while_the_registry_is_away(store: ModelStore, registry: FolderRegistry) -> None:
    registry.register(vision_candidate())
    store.refresh()
    registry.away = True
    store.refresh()
    assert versions(store) == {"darkness": "1"}
    assert [store.snapshot.registry, store.snapshot.away_reason] == ["away", "The registry does not answer."]
    registry.away = False
    store.refresh()
    assert [store.snapshot.registry, store.snapshot.away_reason] == ["up", ""]


def test_a_registry_that_fails_in_another_way_is_away_too(
    store: ModelStore, registry: FolderRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry.register(vision_candidate())
    store.refresh()
    monkeypatch.setattr(registry, "served", lambda: 1 // 0)
    store.refresh()
    assert versions(store) == {"darkness": "1"}
    assert store.snapshot.away_reason.startswith("ZeroDivisionError")


def test_the_disk_cache_starts_the_service_while_the_registry_is_away(tmp_path: Path, registry: FolderRegistry) -> None:
    cache_champions(tmp_path, [vision_candidate()], "here")
    registry.away = True
    store = ModelStore(lambda: registry, ModelCache(tmp_path / "models-cache", "here"), 60)
    store.refresh()
    assert versions(store) == {"darkness": "1"}


def test_another_registrys_cache_is_not_served(tmp_path: Path, registry: FolderRegistry) -> None:
    cache_champions(tmp_path, [vision_candidate()], "elsewhere")
    registry.away = True
    store = ModelStore(lambda: registry, ModelCache(tmp_path / "models-cache", "here"), 60)
    store.refresh()
    assert not store.snapshot.loaded


def test_the_cached_version_serves_when_only_the_artifacts_are_away(tmp_path: Path, registry: FolderRegistry) -> None:
    cache_champions(tmp_path, [vision_candidate()], "here")
    registry.register(vision_candidate())
    registry.artifacts_away = True
    store = ModelStore(lambda: registry, ModelCache(tmp_path / "models-cache", "here"), 60)
    store.refresh()
    assert versions(store) == {"darkness": "1"}


def test_the_cached_version_serves_when_the_disk_takes_no_more(
    tmp_path: Path, registry: FolderRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(**_: object) -> None:
        raise OSError(28, "No space left on device")

    cache_champions(tmp_path, [vision_candidate()], "here")
    registry.register(vision_candidate())
    monkeypatch.setattr(tempfile, "TemporaryDirectory", fail)
    store = ModelStore(lambda: registry, ModelCache(tmp_path / "models-cache", "here"), 60)
    store.refresh()
    assert versions(store) == {"darkness": "1"}


def test_a_broken_cached_copy_does_not_make_an_absence_final(tmp_path: Path, registry: FolderRegistry) -> None:
    cache_champions(tmp_path, [vision_candidate()], "here")
    (tmp_path / "models-cache" / "darkness" / "1" / "model.onnx").unlink()
    registry.register(vision_candidate())
    registry.artifacts_away = True
    store = ModelStore(lambda: registry, ModelCache(tmp_path / "models-cache", "here"), 60)
    store.refresh()
    assert "do not answer" in store.snapshot.refused["darkness"].reason
    registry.artifacts_away = False
    store.refresh()
    assert versions(store) == {"darkness": "1"}


def test_a_failed_download_is_tried_again_at_the_next_poll(store: ModelStore, registry: FolderRegistry) -> None:
    registry.register(vision_candidate())
    registry.artifacts_away = True
    store.refresh()
    assert "do not answer" in store.snapshot.refused["darkness"].reason
    registry.artifacts_away = False
    store.refresh()
    assert versions(store) == {"darkness": "1"}


@pytest.mark.parametrize("content", ["", "{", '{"origin": "here"}', '{"origin": "here", "entries": [{"name": ".."}]}'])
def test_a_broken_index_is_left_aside(cache: ModelCache, content: str) -> None:
    cache.root.mkdir()
    (cache.root / "index.json").write_text(content)
    assert cache.entries() == ()


def test_the_index_is_replaced_whole(cache: ModelCache) -> None:
    cache.keep([])
    assert [path.name for path in cache.root.iterdir()] == ["index.json"]
    assert Index.model_validate_json((cache.root / "index.json").read_bytes()).entries == ()
