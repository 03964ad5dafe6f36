"""What a predict route is told when its model is not in service, and which baseline judges an asset."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from almenara.settings import Settings
from almenara_api.cache import ModelCache
from almenara_api.metrics import Metrics
from almenara_api.problems import Problem
from almenara_api.services import Services
from almenara_api.store import ModelStore
from tests.support.api import NOWHERE, FolderRegistry
from tests.support.packages import classifier_candidate, novelty_candidate, vision_candidate

HEALTHY = np.random.default_rng(0).normal(
    0, 1, (20, len(classifier_candidate().card.input.model_dump()["feature_names"]))
)


@pytest.fixture
def registry(tmp_path: Path) -> FolderRegistry:
    return FolderRegistry(tmp_path / "registry")


@pytest.fixture
def services(tmp_path: Path, registry: FolderRegistry) -> Iterator[Services]:
    settings = Settings(var_dir=tmp_path, mlflow_tracking_uri=NOWHERE)
    started = Services.start(settings, Metrics())
    started.models.stop()
    models = ModelStore(lambda: registry, ModelCache(tmp_path / "cache", "here"), 60)
    yield replace(started, models=models)
    started.close()


def refused(services: Services, name: str) -> tuple[int, str, str]:
    with pytest.raises(Problem) as problem:
        services.vision_model(name)
    return problem.value.status, problem.value.code, problem.value.remedy


def not_ready(services: Services) -> tuple[int, str]:
    problem = services.not_ready()
    assert problem is not None
    return problem.status, problem.code


def test_without_any_champion_predict_is_told_404_and_readiness_503(services: Services) -> None:
    services.models.refresh()
    status, code, remedy = refused(services, "belt")
    assert (status, code) == (404, "no-champion")
    assert "almenara train" in remedy
    assert not_ready(services) == (503, "no-champion")


def test_before_the_registry_answered_predict_is_told_to_ask_again(services: Services) -> None:
    assert refused(services, "belt")[:2] == (503, "models-loading")


def test_while_the_registry_is_away_predict_is_told_503(services: Services, registry: FolderRegistry) -> None:
    registry.away = True
    services.models.refresh()
    assert refused(services, "belt")[:2] == (503, "registry-away")


def test_a_champion_that_is_still_loading_is_no_unknown_model(
    services: Services, registry: FolderRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[tuple[int, str]] = []
    fetch = registry.fetch

    def fetch_and_ask(name: str, version: str, destination: Path) -> Path:
        told.extend([refused(services, "darkness")[:2], not_ready(services), refused(services, "other")[:2]])
        return fetch(name, version, destination)

    monkeypatch.setattr(registry, "fetch", fetch_and_ask)
    registry.register(vision_candidate())
    services.models.refresh()
    assert told == [(503, "models-loading"), (503, "models-loading"), (404, "model-unknown")]
    assert services.vision_model("darkness").ref.version == "1"


def test_a_classifiers_own_baseline_is_preferred_to_another_of_the_asset(
    services: Services, registry: FolderRegistry
) -> None:
    for name in ("another-baseline-pump-1", "bearing-baseline-pump-1", "bearing2-baseline-pump-1"):
        registry.register(novelty_candidate(HEALTHY, name=name))
    registry.register(novelty_candidate(HEALTHY, asset="fan-2", name="bearing-baseline-fan-2"))
    services.models.refresh()

    def chosen(asset: str | None, classifier: str) -> str | None:
        model = services.baseline(asset, classifier)
        return None if model is None else model.ref.name

    assert chosen("pump-1", "bearing") == "bearing-baseline-pump-1"
    assert chosen("pump-1", "bearing2") == "bearing2-baseline-pump-1"
    assert chosen("pump-1", "gearbox") == "another-baseline-pump-1"
    assert chosen("fan-2", "bearing2") == "bearing-baseline-fan-2"
    assert chosen("fan-3", "bearing") is None
    assert chosen(None, "bearing") is None


def test_champions_and_those_that_are_refused_are_metrics(tmp_path: Path, registry: FolderRegistry) -> None:
    registry.register(vision_candidate())
    broken = registry.register(classifier_candidate(), version="7")
    (broken / "model.onnx").write_bytes(b"no graph")
    metrics = Metrics()
    store = ModelStore(
        lambda: registry,
        ModelCache(tmp_path / "other-cache", "here"),
        60,
        on_change=metrics.show_models,
    )
    store.refresh()
    told = metrics.registry.get_sample_value
    assert (told("almenara_champions"), told("almenara_registry_up")) == (2, 1)
    assert told("almenara_model_served", {"name": "darkness", "version": "1"}) == 1
    assert told("almenara_model_refused", {"name": "bearing", "version": "7"}) == 1
    assert told("almenara_model_refused", {"name": "darkness", "version": "1"}) is None
