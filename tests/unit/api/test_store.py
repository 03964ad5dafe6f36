"""The model store: follows champions, keeps what works, survives an absent registry."""

from __future__ import annotations

import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from almenara import servable
from almenara.contracts import Candidate
from almenara.errors import RegistryError
from almenara.servable import VisionModel
from almenara_api.cache import Index, ModelCache
from almenara_api.store import ModelStore
from tests.support.api import FolderRegistry, cache_champions, wait_until
from tests.support.packages import classifier_candidate, novelty_candidate, vision_candidate


@pytest.fixture
def registry(tmp_path: Path) -> FolderRegistry:
    return FolderRegistry(tmp_path / "registry")


@pytest.fixture
def cache(tmp_path: Path) -> ModelCache:
    return ModelCache(tmp_path / "cache", "here")


@pytest.fixture
def store(registry: FolderRegistry, cache: ModelCache) -> ModelStore:
    return ModelStore(lambda: registry, cache, 60)


def versions(store: ModelStore) -> dict[str, str]:
    return {name: loaded.entry.version for name, loaded in store.snapshot.loaded.items()}


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


def test_a_broken_version_is_refused_with_its_reason_and_the_old_one_serves(
    store: ModelStore, registry: FolderRegistry
) -> None:
    registry.register(vision_candidate())
    store.refresh()
    (registry.register(vision_candidate(), "2") / "model.onnx").write_bytes(b"no graph")
    store.refresh()
    assert versions(store) == {"darkness": "1"}
    (status,) = store.statuses()
    assert status.refused is not None
    assert status.refused.version == "2"
    assert "model.onnx" in status.refused.reason
    store.refresh()
    assert registry.fetches == 2, "a final refusal is not tried again"
    registry.register(vision_candidate(), "3")
    store.refresh()
    assert store.statuses()[0].refused is None


def test_a_card_that_contradicts_the_registry_is_refused(store: ModelStore, registry: FolderRegistry) -> None:
    registry.register(vision_candidate("odd"))
    registry.champions["odd"] = (classifier_candidate().card, "1")
    store.refresh()
    assert not store.snapshot.loaded
    assert "classifier" in store.snapshot.refused["odd"].reason


def test_features_of_another_version_are_refused_with_the_upgrade_sentence(
    store: ModelStore, registry: FolderRegistry
) -> None:
    folder = registry.register(classifier_candidate())
    card = folder / "card.json"
    schema = classifier_candidate().card.input.model_dump()["schema_hash"]
    card.write_text(card.read_text().replace(schema, "0" * 64))
    store.refresh()
    assert "does not compute" in store.snapshot.refused["bearing"].reason


def test_one_broken_model_does_not_stop_the_others(store: ModelStore, registry: FolderRegistry) -> None:
    (registry.register(classifier_candidate("a-broken")) / "card.json").unlink()
    registry.register(vision_candidate())
    store.refresh()
    assert versions(store) == {"darkness": "1"}


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


def test_a_refusal_does_not_outlive_the_model_that_was_refused(store: ModelStore, registry: FolderRegistry) -> None:
    (registry.register(vision_candidate()) / "model.onnx").write_bytes(b"no graph")
    store.refresh()
    registry.created_ms = 7
    registry.register(vision_candidate())
    store.refresh()
    assert versions(store) == {"darkness": "1"}


@pytest.mark.parametrize("fault", [MemoryError(), RuntimeError("unforeseen")])
def test_a_fault_that_is_not_the_packages_is_tried_again(
    store: ModelStore, registry: FolderRegistry, monkeypatch: pytest.MonkeyPatch, fault: Exception
) -> None:
    def fail(*_: object) -> None:
        raise fault

    registry.register(vision_candidate())
    with monkeypatch.context() as patched:
        patched.setattr(servable.Package, "run", fail)
        store.refresh()
    assert not store.snapshot.refused["darkness"].final
    store.refresh()
    assert versions(store) == {"darkness": "1"}


def test_memory_that_runs_out_while_the_graph_is_read_is_not_the_packages_fault(
    store: ModelStore, registry: FolderRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise MemoryError

    registry.register(vision_candidate())
    with monkeypatch.context() as patched:
        patched.setattr(servable.Package, "__init__", fail)
        store.refresh()
    store.refresh()
    assert versions(store) == {"darkness": "1"}


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


def test_a_name_that_would_leave_the_cache_is_not_served_and_is_logged_once(
    store: ModelStore, registry: FolderRegistry, caplog: pytest.LogCaptureFixture
) -> None:
    registry.champions["../outside"] = (vision_candidate().card, "1")
    store.refresh()
    store.refresh()
    assert caplog.text.count("cannot be served") == 1
    assert not store.snapshot.loaded
    assert registry.fetches == 0


def test_the_index_is_replaced_whole(cache: ModelCache) -> None:
    cache.keep([])
    assert [path.name for path in cache.root.iterdir()] == ["index.json"]
    assert Index.model_validate_json((cache.root / "index.json").read_bytes()).entries == ()


def test_the_thread_follows_the_registry_and_stops(registry: FolderRegistry, cache: ModelCache) -> None:
    seen: list[int] = []
    registry.register(vision_candidate())
    store = ModelStore(lambda: registry, cache, 0.01, on_change=lambda snapshot: seen.append(len(snapshot.loaded)))
    store.start()
    try:
        wait_until(lambda: bool(store.snapshot.loaded), 5)
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


def with_constant(candidate: Candidate, name: str, value: float) -> Candidate:
    """The candidate with another constant in its graph."""
    model = onnx.load_from_string(candidate.graph)
    (constant,) = [each for each in model.graph.initializer if each.name == name]
    constant.CopyFrom(numpy_helper.from_array(np.full(tuple(constant.dims), value, dtype=np.float32), name))
    return replace(candidate, graph=model.SerializeToString())


UNFIT = [
    (with_constant(vision_candidate(), "one", np.nan), "not finite"),
    (replace(vision_candidate(), graph=classifier_candidate().graph), "no output 'map'"),
    (
        replace(
            classifier_candidate("odd"),
            card=classifier_candidate("odd").card.model_copy(update={"labels": ("normal", "broken")}),
        ),
        r"shape (2, 4); (2, 2) is wanted",
    ),
]


@pytest.mark.parametrize(("candidate", "reason"), UNFIT)
def test_a_version_that_fails_its_self_test_is_refused_and_the_old_one_serves(
    store: ModelStore, registry: FolderRegistry, candidate: Candidate, reason: str
) -> None:
    name = candidate.card.name
    registry.register(vision_candidate() if name == "darkness" else classifier_candidate(name))
    store.refresh()
    registry.register(candidate, "2")
    store.refresh()
    assert versions(store) == {name: "1"}
    (status,) = store.statuses()
    assert status.refused is not None
    assert reason in status.refused.reason


@pytest.mark.parametrize(
    "candidate", [vision_candidate(), classifier_candidate(), novelty_candidate(np.ones((9, 116)))]
)
def test_models_of_every_role_pass_the_self_test(
    store: ModelStore, registry: FolderRegistry, candidate: Candidate
) -> None:
    registry.register(candidate)
    store.refresh()
    assert versions(store) == {candidate.card.name: "1"}


def test_many_calls_to_hurry_are_one_look(registry: FolderRegistry, cache: ModelCache) -> None:
    looks: list[float] = []

    def counted() -> FolderRegistry:
        looks.append(time.monotonic())
        raise RegistryError("Nothing is there.")

    store = ModelStore(counted, cache, 300)
    store.start()
    try:
        wait_until(lambda: len(looks) == 1, 10)
        for _ in range(50):
            store.hurry()
        wait_until(lambda: len(looks) == 2, 10)
        assert looks[1] - looks[0] >= 0.9
        assert store.snapshot.registry == "away"
    finally:
        store.stop()
