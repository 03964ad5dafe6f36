"""The model store follows champions and challengers, and swaps them in."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from almenara.errors import RegistryError
from almenara.servable import VisionModel
from almenara_api.cache import ModelCache
from almenara_api.store import ModelStore
from tests.support.api import FolderRegistry, wait_until
from tests.support.model_store import versions
from tests.support.packages import classifier_candidate, vision_candidate


def test_champions_are_loaded_with_their_reference(store: ModelStore, registry: FolderRegistry) -> None:
    registry.register(vision_candidate())
    registry.register(classifier_candidate())
    store.refresh()
    assert versions(store) == {"bearing": "1", "darkness": "1"}
    model = store.snapshot.loaded["darkness"].model
    assert isinstance(model, VisionModel)
    assert model.ref.model_dump() == {"name": "darkness", "version": "1", "alias": "champion"}


def test_a_new_champion_is_swapped_in_and_a_request_keeps_its_own(
    store: ModelStore, registry: FolderRegistry, cache: ModelCache
) -> None:
    registry.register(vision_candidate())
    store.refresh()
    before = store.snapshot
    registry.register(vision_candidate(), "2")
    store.refresh()
    assert versions(store) == {"darkness": "2"}
    assert before.loaded["darkness"].entry.version == "1"
    assert [entry.version for entry in cache.entries()] == ["2"]
    assert [folder.name for folder in (cache.root / "darkness").iterdir()] == ["2"]


def test_an_unchanged_champion_is_not_fetched_again(store: ModelStore, registry: FolderRegistry) -> None:
    registry.register(vision_candidate())
    store.refresh()
    store.refresh()
    assert registry.fetches == 1


def test_a_model_without_a_champion_leaves_service(
    store: ModelStore, registry: FolderRegistry, cache: ModelCache
) -> None:
    registry.register(vision_candidate())
    registry.register(classifier_candidate())
    store.refresh()
    del registry.champions["bearing"]
    store.refresh()
    assert versions(store) == {"darkness": "1"}
    assert [entry.name for entry in cache.entries()] == ["darkness"]
    assert not (cache.root / "bearing" / "1").exists()


def test_a_registry_without_any_champion_leaves_the_cache_alone(
    store: ModelStore, registry: FolderRegistry, cache: ModelCache
) -> None:
    registry.register(vision_candidate())
    store.refresh()
    registry.champions.clear()
    store.refresh()
    assert not store.snapshot.loaded
    (entry,) = cache.entries()
    assert (cache.directory(entry) / "model.onnx").is_file()


def test_a_model_made_anew_under_its_old_name_and_version_is_another_one(
    store: ModelStore, registry: FolderRegistry, cache: ModelCache
) -> None:
    registry.register(vision_candidate())
    store.refresh()
    before = store.snapshot.loaded["darkness"]
    registry.away = True
    store.refresh()
    registry.away, registry.created_ms = False, 7
    registry.register(vision_candidate())
    store.refresh()
    after = store.snapshot.loaded["darkness"]
    assert after.model.package.card.created_at > before.model.package.card.created_at
    assert [entry.created_ms for entry in cache.entries()] == [7]


def test_champions_are_loading_until_they_are_in_service_or_refused(
    store: ModelStore, registry: FolderRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[frozenset[str]] = []
    fetch = registry.fetch

    def fetch_and_look(name: str, version: str, destination: Path) -> Path:
        seen.append(store.snapshot.loading)
        return fetch(name, version, destination)

    monkeypatch.setattr(registry, "fetch", fetch_and_look)
    registry.register(vision_candidate())
    (registry.register(classifier_candidate()) / "card.json").unlink()
    store.refresh()
    assert seen == [{"darkness", "bearing"}, {"bearing"}]
    assert store.snapshot.loading == frozenset()


def test_the_thread_follows_the_registry_and_stops(registry: FolderRegistry, cache: ModelCache) -> None:
    seen: list[int] = []
    registry.register(vision_candidate())
    store = ModelStore(lambda: registry, cache, 0.01, on_change=lambda snapshot: seen.append(len(snapshot.loaded)))
    store.start()
    try:
        wait_until(lambda: bool(store.snapshot.loaded), 30)
    finally:
        store.stop()
    assert 1 in seen


def challengers(store: ModelStore) -> dict[str, str]:
    return {name: loaded.entry.version for name, loaded in store.snapshot.challengers.items()}


def test_a_challenger_is_loaded_beside_its_champion_and_kept_in_the_cache(
    store: ModelStore, registry: FolderRegistry, cache: ModelCache
) -> None:
    registry.register(vision_candidate())
    registry.challenge(vision_candidate(), "2")
    store.refresh()
    assert (versions(store), challengers(store)) == ({"darkness": "1"}, {"darkness": "2"})
    assert {(entry.alias, entry.version) for entry in cache.entries()} == {("champion", "1"), ("challenger", "2")}
    registry.away = True
    started = ModelStore(lambda: registry, cache, 60)
    started.refresh()
    assert (versions(started), challengers(started)) == ({"darkness": "1"}, {"darkness": "2"})


def test_a_challenger_that_becomes_champion_serves_even_while_the_artifacts_are_away(
    store: ModelStore, registry: FolderRegistry
) -> None:
    registry.register(vision_candidate())
    registry.challenge(vision_candidate(), "2")
    store.refresh()
    registry.artifacts_away = True
    registry.champions["darkness"] = (vision_candidate().card, "2")
    registry.challengers.clear()
    store.refresh()
    assert (versions(store), challengers(store)) == ({"darkness": "2"}, {})
    assert store.snapshot.loaded["darkness"].model.ref.alias == "champion"


def test_a_broken_challenger_is_refused_and_its_champion_serves(store: ModelStore, registry: FolderRegistry) -> None:
    registry.register(vision_candidate())
    (registry.challenge(vision_candidate(), "2") / "model.onnx").write_bytes(b"no graph")
    store.refresh()
    assert (versions(store), challengers(store)) == ({"darkness": "1"}, {})
    assert "model.onnx" in store.snapshot.refused_challengers["darkness"].reason
    assert store.statuses()[0].refused is None
    registry.challengers.clear()
    store.refresh()
    assert not store.snapshot.refused_challengers


def test_many_calls_to_hurry_are_one_look(registry: FolderRegistry, cache: ModelCache) -> None:
    looks: list[float] = []

    def counted() -> FolderRegistry:
        looks.append(time.monotonic())
        raise RegistryError("Nothing is there.")

    store = ModelStore(counted, cache, 300)
    store.start()
    try:
        wait_until(lambda: len(looks) == 1, 30)
        for _ in range(50):
            store.hurry()
        wait_until(lambda: len(looks) == 2, 30)
        assert looks[1] - looks[0] >= 0.9
        assert store.snapshot.registry == "away"
    finally:
        store.stop()
