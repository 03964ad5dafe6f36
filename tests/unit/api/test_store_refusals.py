"""The model store refuses a version that cannot serve, with its reason, and keeps the old one in service."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from almenara import servable
from almenara.contracts import Candidate
from almenara_api.store import ModelStore
from tests.support.api import FolderRegistry
from tests.support.model_store import versions
from tests.support.packages import classifier_candidate, novelty_candidate, vision_candidate


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


def test_a_name_that_would_leave_the_cache_is_not_served_and_is_logged_once(
    store: ModelStore, registry: FolderRegistry, caplog: pytest.LogCaptureFixture
) -> None:
    registry.champions["../outside"] = (vision_candidate().card, "1")
    store.refresh()
    store.refresh()
    assert caplog.text.count("cannot be served") == 1
    assert not store.snapshot.loaded
    assert registry.fetches == 0


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
