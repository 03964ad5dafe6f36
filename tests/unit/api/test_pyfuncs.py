"""Models of others: tried on their own example, kept on disk, loaded from there while the registry is away."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import orjson
import pytest

from almenara.errors import RegistryError
from almenara_api.cache import PyfuncCache
from almenara_api.payloads import read_payload
from almenara_api.problems import Problem
from almenara_api.pyfuncs import PyfuncModels
from tests.support.api import NOWHERE

MODEL = """
import mlflow

class Model(mlflow.pyfunc.PythonModel):
    def predict(self, context, model_input, params=None):
        return EXPRESSION

mlflow.models.set_model(Model())
"""
FIRST, SECOND = "model_input * 2", "model_input * 3"
NAME = "remaining life (hours)"


@dataclass
class Source:
    """A registry that is a folder."""

    root: Path
    champions: dict[str, tuple[str, int]] = field(default_factory=dict)
    away: bool = False
    fetches: int = 0

    def register(self, expression: str, version: str = "1", *, created_ms: int = 1, **more: Any) -> None:
        """Add a version and make it champion."""
        folder = self.root / NAME / version
        file = self.root / f"{NAME} {version}.py"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(MODEL.replace("EXPRESSION", expression))
        shutil.rmtree(folder, ignore_errors=True)
        mlflow.pyfunc.save_model(folder, python_model=str(file), pip_requirements=["mlflow"], **more)
        self.champions[NAME] = (version, created_ms)

    def foreign_champions(self) -> dict[str, tuple[str, int]]:
        self._answer()
        return self.champions

    def fetch(self, name: str, version: str, destination: Path, part: str) -> Path:
        self._answer()
        self.fetches += 1
        return Path(shutil.copytree(self.root / name / version / part, destination))

    def _answer(self) -> None:
        if self.away:
            raise RegistryError("The registry does not answer.")


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Source:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", NOWHERE)
    return Source(tmp_path / "registry")


def service(source: Source, names: Sequence[str] = (NAME,), origin: str = "here") -> PyfuncModels:
    return PyfuncModels(names, lambda: source, PyfuncCache(source.root.parent / "cache", origin), 60)


def refreshed_while_away(source: Source, *names: str, origin: str = "here") -> PyfuncModels:
    """A service that starts while the registry is away."""
    source.away = True
    started = service(source, names or (NAME,), origin)
    for _ in range(2):
        started.refresh()
    return started


def ask(models: PyfuncModels, value: float = 1.0) -> float:
    answer = orjson.loads(models.find(NAME).score(read_payload(orjson.dumps({"inputs": [value]}))))
    return float(answer["predictions"][0])


def test_a_model_is_served_from_disk_while_the_registry_is_away(source: Source) -> None:
    source.register(FIRST)
    service(source).refresh()
    again = refreshed_while_away(source)
    assert ask(again) == 2
    assert again.in_service
    source.away = False
    again.refresh()
    assert (ask(again), source.fetches) == (2, 1)
    source.register(SECOND, "2")
    again.refresh()
    assert ask(again) == 3
    assert len([*(source.root.parent / "cache").glob("*/*")]) == 1


@pytest.mark.parametrize(("names", "origin"), [(("another",), "here"), ((NAME,), "elsewhere")])
def test_what_is_listed_no_more_or_of_another_registry_is_left_on_disk(
    source: Source, names: tuple[str, ...], origin: str
) -> None:
    source.register(FIRST)
    service(source).refresh()
    assert not refreshed_while_away(source, *names, origin=origin).in_service


def test_a_model_made_anew_under_its_name_and_version_is_another_one(source: Source) -> None:
    source.register(FIRST)
    models = service(source)
    models.refresh()
    source.register(SECOND, created_ms=2)
    models.refresh()
    assert ask(models) == 3


def test_a_broken_copy_on_disk_is_fetched_anew(source: Source) -> None:
    source.register(FIRST)
    service(source).refresh()
    (code,) = (source.root.parent / "cache").glob("*/*/MLmodel")
    code.write_text("nonsense: [")
    models = service(source)
    models.refresh()
    assert models.statuses()[0].refused is not None
    later = service(source)
    later.refresh()
    assert (ask(later), source.fetches) == (2, 2)


def test_a_version_that_fails_on_its_own_example_is_refused_and_the_one_before_serves_on(source: Source) -> None:
    example = np.array([1.0, 2.0])
    source.register(FIRST, input_example=example)
    models = service(source)
    models.refresh()
    source.register(FIRST, "2", input_example=example)
    file = source.root / NAME / "2" / f"{NAME} 2.py"
    file.write_text(MODEL.replace("EXPRESSION", "model_input * undefined"))
    models.refresh()
    (row,) = models.statuses()
    assert row.version == "1"
    assert row.refused is not None
    assert row.refused.version == "2"
    assert "On its own input example" in row.refused.reason
    assert "undefined" in row.refused.reason
    assert ask(models) == 2
    assert ask(refreshed_while_away(source)) == 2


def test_an_example_that_no_request_may_hold_is_not_tried(source: Source) -> None:
    source.register(FIRST, input_example=np.array([1.0]))
    (example,) = (source.root / NAME / "1").glob("serving_input_example.json")
    example.write_text('{"messages": []}')
    models = service(source)
    models.refresh()
    assert ask(models) == 2


def test_without_registry_and_disk_it_is_still_loading(source: Source) -> None:
    models = refreshed_while_away(source)
    with pytest.raises(Problem) as told:
        models.find(NAME)
    assert told.value.code == "models-loading"
