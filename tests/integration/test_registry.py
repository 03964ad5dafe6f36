"""The registry against a real MLflow server: gate, register, promote, roll back, fetch, and load elsewhere."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import mlflow
import numpy as np
import onnx
import pytest
from mlflow import MlflowClient
from onnx import TensorProto, helper, numpy_helper

from almenara import servable
from almenara.comparison import PromotionError
from almenara.errors import GateError, InputError, RegistryError
from almenara.registry import CardError, Registry
from almenara.training import Trainer
from tests.support.packages import classifier_candidate, vision_candidate


@pytest.fixture(scope="module")
def registry(mlflow_address: str) -> Registry:
    return Registry(mlflow_address)


def test_first_version_becomes_champion_and_later_ones_wait(registry: Registry) -> None:
    trainer = Trainer(registry, "tests")
    first = trainer.register(vision_candidate("first-champion"))
    second = trainer.register(vision_candidate("first-champion"))
    assert (first.ref.version, first.ref.alias) == ("1", "champion")
    assert (second.ref.version, second.ref.alias) == ("2", None)
    assert registry.champion("first-champion").version == "1"
    assert "Promote it: almenara models promote first-champion 2" in second.sentence


def test_promote_and_roll_back(registry: Registry) -> None:
    for _ in range(2):
        registry.register(vision_candidate("rolled"), "tests")
    registry.promote("rolled", "1", reason="first")
    registry.promote("rolled", "2", reason="better")
    assert registry.champion("rolled").version == "2"
    assert registry.rollback("rolled", reason="worse in the rain").version == "1"
    assert registry.champion("rolled").version == "1"
    with pytest.raises(RegistryError, match="no champion before version 1"):
        registry.rollback("rolled", reason="again")


def test_rollback_walks_back_through_every_champion(registry: Registry) -> None:
    for _ in range(3):
        registry.register(vision_candidate("walked"), "tests")
    for version in ("1", "2", "3", "2"):
        registry.promote("walked", version, reason="tried")
    assert [registry.rollback("walked", reason="back").version for _ in range(3)] == ["3", "2", "1"]
    with pytest.raises(RegistryError, match="no champion before version 1"):
        registry.rollback("walked", reason="again")


def test_rollback_never_restores_the_champion(registry: Registry) -> None:
    """The alias may be moved in MLflow's page, or a change may have failed halfway and been tried again."""
    for _ in range(3):
        registry.register(vision_candidate("moved"), "tests")
    for version in ("1", "2", "3"):
        registry.promote("moved", version, reason="tried")
    client = MlflowClient(registry.tracking_uri)
    client.set_registered_model_alias("moved", "champion", "2")
    registry.promote("moved", "3", reason="again")
    assert client.get_registered_model("moved").tags["almenara.former_champions"] == "1 2"
    client.set_registered_model_alias("moved", "champion", "2")
    assert registry.rollback("moved", reason="back").version == "1"
    registry.promote("moved", "2", reason="once more")
    assert registry.rollback("moved", reason="back").version == "1"
    with pytest.raises(RegistryError, match="no champion before version 1"):
        registry.rollback("moved", reason="again")


def test_a_change_that_fails_halfway_has_not_happened_and_is_tried_again(
    registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*_: object) -> None:
        raise ConnectionError("the registry went away")

    for _ in range(3):
        registry.register(vision_candidate("halfway"), "tests")
    registry.promote("halfway", "1", reason="first")
    registry.promote("halfway", "2", reason="second")
    with monkeypatch.context() as patched:
        patched.setattr(registry._client, "set_registered_model_alias", away)
        with pytest.raises(RegistryError, match="went away"):
            registry.promote("halfway", "3", reason="third")
    assert registry.champion("halfway").version == "2"
    assert registry._client.get_model_version("halfway", "3").tags["almenara.reason"] == "third"
    assert registry.promote("halfway", "3", reason="third").version == "3"
    with monkeypatch.context() as patched:
        patched.setattr(registry._client, "set_registered_model_alias", away)
        with pytest.raises(RegistryError, match="went away"):
            registry.rollback("halfway", reason="back")
    assert [registry.rollback("halfway", reason="back").version for _ in range(2)] == ["2", "1"]


def test_a_reason_has_a_limit(registry: Registry) -> None:
    with pytest.raises(InputError, match="1001 characters and 1000 are kept"):
        registry.promote("any", "1", reason="x" * 1001)


@pytest.mark.slow
def test_a_training_that_is_worse_registers_and_says_why_it_is_not_promoted(registry: Registry) -> None:
    better = vision_candidate("trained")
    worse = replace(better, card=better.card.model_copy(update={"metrics": {"held-out-groups": {"image_auroc": 0.7}}}))
    trainer = Trainer(registry, "tests", promote=True)
    assert trainer.register(better).ref.alias == "champion"
    second, third = trainer.register(worse), trainer.register(better)
    assert (second.ref.version, second.ref.alias) == ("2", None)
    assert "Not promoted: trained version 2 is worse than the champion, version 1" in second.sentence
    assert "almenara models promote trained 2 --force" in second.sentence
    assert (third.ref.version, third.ref.alias) == ("3", "champion")
    assert registry.champion("trained").version == "3"


def test_a_registry_that_does_not_answer_is_no_reason_to_force(
    registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(2):
        registry.register(vision_candidate("slow"), "tests")
    registry.promote("slow", "1", reason="first")

    def late(*_: object, **__: object) -> str:
        raise TimeoutError("timed out")

    monkeypatch.setattr(mlflow.artifacts, "download_artifacts", late)
    with pytest.raises(RegistryError, match=r"did not answer as expected: timed out") as raised:
        registry.promote("slow", "2", reason="newer")
    assert not isinstance(raised.value, CardError)


@pytest.mark.slow
def test_a_champion_whose_files_are_gone_gives_way_to_force_alone(tmp_path: Path) -> None:
    registry = Registry(f"sqlite:///{tmp_path / 'mlflow' / 'mlflow.db'}")
    for _ in range(2):
        registry.register(vision_candidate("lost"), "tests")
    registry.promote("lost", "1", reason="first")
    for card in (tmp_path / "mlflow" / "artifacts").rglob("package/card.json"):
        card.unlink()
    with pytest.raises(PromotionError, match="cannot be compared with the champion, version 1: The card of lost"):
        registry.promote("lost", "2", reason="the other one")
    assert registry.promote("lost", "2", reason="the other one", force=True).version == "2"


@pytest.mark.slow
def test_rollback_passes_over_a_version_that_was_deleted(registry: Registry) -> None:
    for _ in range(3):
        registry.register(vision_candidate("thinned"), "tests")
    for version in ("1", "2", "3"):
        registry.promote("thinned", version, reason="tried")
    MlflowClient(registry.tracking_uri).delete_model_version("thinned", "2")
    assert registry.rollback("thinned", reason="back").version == "1"


def test_a_name_keeps_its_kind(registry: Registry) -> None:
    registry.register(vision_candidate("kept"), "tests")
    with pytest.raises(RegistryError, match="kept is a vision anomaly; a vibration classifier needs another name"):
        registry.register(classifier_candidate("kept"), "tests")
    assert registry.versions("kept") == ["1"]


def test_served_names_task_role_and_version(registry: Registry) -> None:
    Trainer(registry, "tests").register(classifier_candidate("listed"))
    (row,) = [served for served in registry.served() if served.name == "listed"]
    assert (row.version, row.task, row.role, row.asset) == ("1", "vibration", "classifier", None)


def test_fetched_package_gives_the_same_outputs(registry: Registry, tmp_path: Path) -> None:
    candidate = vision_candidate("fetched")
    made = registry.register(candidate, "tests")
    package = servable.load(registry.fetch("fetched", made.version, tmp_path / "package"))
    assert package.card == candidate.card
    np.testing.assert_allclose(package.run(candidate.probes[:4])["map"], candidate.reference["map"][:4], atol=1e-5)


def wrong_constant(graph: onnx.GraphProto) -> None:
    (scale,) = [each for each in graph.initializer if each.name == "scale"]
    scale.CopyFrom(numpy_helper.from_array(np.float32(-1 / 250), "scale"))


def stray_input(graph: onnx.GraphProto) -> None:
    (scale,) = [each for each in graph.initializer if each.name == "scale"]
    graph.initializer.remove(scale)
    graph.input.append(helper.make_tensor_value_info("scale", TensorProto.FLOAT, []))


@pytest.mark.parametrize("break_graph", [wrong_constant, stray_input])
def test_a_failed_gate_registers_nothing(registry: Registry, break_graph: Callable[[onnx.GraphProto], None]) -> None:
    candidate = vision_candidate("wrong")
    model = onnx.load_from_string(candidate.graph)
    break_graph(model.graph)
    with pytest.raises(GateError):
        registry.register(replace(candidate, graph=model.SerializeToString()), "tests")
    assert "wrong" not in [model.name for model in registry.models()]


def test_unknown_names_and_versions_are_named(registry: Registry) -> None:
    with pytest.raises(RegistryError, match="nowhere"):
        registry.champion("nowhere")
    registry.register(vision_candidate("known"), "tests")
    with pytest.raises(RegistryError, match="no version 9"):
        registry.promote("known", "9", reason="no")


def test_registry_away_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(RegistryError, match=r"127\.0\.0\.1:9 did not answer"):
        Registry("http://127.0.0.1:9").served()


def test_embedded_store_needs_no_server(tmp_path: Path) -> None:
    registry = Registry(f"sqlite:///{tmp_path / 'mlflow' / 'mlflow.db'}")
    Trainer(registry, "tests").register(classifier_candidate("embedded"))
    assert [served.name for served in registry.served()] == ["embedded"]
    assert servable.load(registry.fetch("embedded", "1", tmp_path / "package")).card.name == "embedded"
    assert (tmp_path / "mlflow" / "artifacts").is_dir()


ELSEWHERE = """
import json, sys, site
sys.path.append(sys.argv[1])  # the site-packages without its .pth files: almenara is not importable from there
try:
    import almenara
    raise SystemExit("almenara is importable, the test proves nothing")
except ModuleNotFoundError:
    pass
import mlflow, numpy as np, pandas as pd
model = mlflow.pyfunc.load_model(sys.argv[2])
import almenara
rng = np.random.default_rng(0)
rows = pd.DataFrame({"signal": [rng.normal(size=12000).tolist()], "sampling_rate_hz": [12000.0], "shaft_rpm": [1772.0],
                     "bearing": ["6205-2RS"]})
(verdict,) = model.predict(rows)
print(json.dumps({"from": almenara.__file__, "verdict": verdict}))
"""


@pytest.mark.slow
def test_pyfunc_loads_where_almenara_is_not_installed(registry: Registry, mlflow_address: str, tmp_path: Path) -> None:
    made = registry.register(classifier_candidate("elsewhere"), "tests")
    model = mlflow.artifacts.download_artifacts(f"models:/elsewhere/{made.version}", dst_path=str(tmp_path))
    packages = str(Path(np.__file__).parents[1])
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", ELSEWHERE, packages, model],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    answer = json.loads(done.stdout.splitlines()[-1])
    assert Path(answer["from"]).is_relative_to(model)
    assert set(answer["verdict"]["probabilities"]) == {"ball", "inner_race", "normal", "outer_race"}
