"""`almenara models` as a person meets it: comparison, guarded promotion, challengers, history and import."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from skl2onnx import to_onnx
from sklearn.linear_model import LogisticRegression

from almenara.cli import main
from almenara.contracts import Candidate
from almenara.registry import Registry
from almenara.vibration.features import BearingFeatures
from almenara.vision import images
from tests.support.api import RunningApi, running_api, wait_until
from tests.support.data import ROOT
from tests.support.packages import vision_candidate

Command = Callable[..., tuple[int, str, str]]
CARDS = [
    json.loads(each) for each in re.findall(r"```json\n(.*?)```", (ROOT / "docs" / "models.md").read_text(), re.DOTALL)
]
VISION, VIBRATION = CARDS
LONG_WINDOWS = BearingFeatures(window_seconds=1e6, groups=("time",)).to_input().model_dump()


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> str:
    return f"sqlite:///{tmp_path_factory.mktemp('models') / 'mlflow' / 'mlflow.db'}"


@pytest.fixture(scope="module")
def registry(address: str) -> Registry:
    return Registry(address)


@pytest.fixture
def command(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path, address: str
) -> Command:
    """The command in this process, in a folder of its own; exit code, stdout and stderr."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
    monkeypatch.setenv("COLUMNS", "240")

    def run(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["almenara", "models", *arguments])
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main()
        out, err = capsys.readouterr()
        return int(ended.value.code or 0), out, err

    return run


def last_line(out: str) -> dict[str, Any]:
    return dict(json.loads(out.splitlines()[-1]))


def scoring(name: str, auroc: float, fingerprint: str = "drawn") -> Candidate:
    candidate = vision_candidate(name)
    metrics = {"held-out-groups": {"image_auroc": auroc, "false_alarm_rate": 0.04}}
    card = candidate.card.model_copy(
        update={"metrics": metrics, "training_data": {"fingerprint": fingerprint}},
    )
    return replace(candidate, card=card)


@pytest.fixture(scope="module")
def versions(registry: Registry) -> Registry:
    """`rated`: 1 is the champion, 2 is worse, 3 saw other data, 4 is better."""
    for auroc, fingerprint in ((0.9, "drawn"), (0.8, "drawn"), (0.95, "other"), (0.96, "drawn")):
        registry.register(scoring("rated", auroc, fingerprint), "tests")
    registry.promote("rated", "1", reason="first")
    return registry


@pytest.mark.parametrize("verb", ["compare", "show", "challenge", "import", "promote", "list", "rollback"])
def test_every_command_has_help_with_an_example(command: Command, verb: str) -> None:
    code, out, _ = command(verb, "--help")
    assert code == 0
    assert f"Example: almenara models {verb}" in out


def test_compare_takes_champion_and_newest_and_draws_them(command: Command, versions: Registry, tmp_path: Path) -> None:
    assert versions.champion("rated").version == "1"
    code, out, _ = command("compare", "rated", "--plot", "rated.png", "--json")
    assert code == 0
    found = last_line(out)
    assert (found["a"]["version"], found["b"]["version"], found["comparable"]) == ("1", "4", True)
    assert (found["main"]["metric"], found["main"]["better"]) == ("image_auroc", "b")
    assert found["main"]["difference"] == pytest.approx(0.06)
    assert "version 4 is better" in out
    assert min(images.decode((tmp_path / "rated.png").read_bytes(), max_pixels=10**7).shape[:2]) > 200


@pytest.mark.slow
def test_compare_says_when_nothing_decides(command: Command, registry: Registry) -> None:
    plain = vision_candidate("undecided")
    plain = replace(plain, card=plain.card.model_copy(update={"metrics": {}}))
    for _ in range(2):
        registry.register(plain, "tests")
    code, out, _ = command("compare", "undecided", "1", "2", "--json")
    assert (code, last_line(out)["comparable"], last_line(out)["main"]) == (0, True, None)
    assert "neither has the figure that decides" in out


def test_compare_says_why_not(command: Command, versions: Registry) -> None:
    code, out, _ = command("compare", "rated", "1", "3", "--json")
    found = last_line(out)
    assert (code, found["comparable"]) == (0, False)
    assert "different data (fingerprint drawn of version 1, other of version 3)" in out
    code, _, err = command("compare", "rated", "2", "2")
    assert code == 2
    assert "compared with itself" in err
    assert command("compare", "rated", "1", "9")[0] == 2


@pytest.mark.slow
def test_a_worse_version_is_refused_with_the_figures_and_forced_with_a_trace(
    command: Command, registry: Registry
) -> None:
    for auroc in (0.9, 0.8):
        registry.register(scoring("guarded", auroc), "tests")
    registry.promote("guarded", "1", reason="first")
    code, _, err = command("promote", "guarded", "2", "--reason", "newer")
    assert code == 2
    assert "is 0.800 against 0.900" in err
    assert "almenara models promote guarded 2 --force --reason" in err
    assert registry.champion("guarded").version == "1"
    assert command("promote", "guarded", "2", "--force", "--reason", " ")[0] == 2
    assert command("promote", "guarded", "2", "--force", "--reason", "the customer wants it")[0] == 0
    assert registry.champion("guarded").version == "2"
    code, out, _ = command("show", "guarded", "2", "--json")
    [change] = last_line(out)["history"]
    assert (code, change["what"]) == (0, "promoted by force")
    assert "the customer wants it" in change["why"]
    assert "is worse than the champion" in change["why"]
    registry.rollback("guarded", reason="back")
    registry.register(scoring("guarded", 0.8), "tests")
    registry.promote("guarded", "3", reason="as bad as the next", force=True)
    registry.promote("guarded", "2", reason="as good as the last")
    assert "promoted" in [each.what for each in registry.history("guarded") if each.version == "2"]


@pytest.mark.slow
def test_a_challenger_is_listed_and_ends_with_its_promotion(command: Command, registry: Registry) -> None:
    for _ in range(3):
        registry.register(scoring("challenged", 0.9), "tests")
    registry.promote("challenged", "1", reason="first")
    assert command("challenge", "challenged", "2")[0] == 0
    assert listed(command, "challenged")["challenger"] == "2"
    assert command("promote", "challenged", "2", "--reason", "did well")[0] == 0
    assert listed(command, "challenged") | {"versions": []} == {
        "name": "challenged",
        "task": "vision",
        "role": "anomaly",
        "asset": None,
        "champion": "2",
        "challenger": None,
        "versions": [],
    }
    assert "cannot challenge itself" in command("challenge", "challenged", "2")[2]
    command("challenge", "challenged", "3")
    assert command("challenge", "challenged", "--clear")[0] == 0
    assert listed(command, "challenged")["challenger"] is None
    assert "has no challenger" in command("challenge", "challenged", "--clear")[1]
    assert command("rollback", "challenged", "--reason", "false alarms")[0] == 0
    told = last_line(command("show", "challenged", "--json")[1])["history"]
    assert {(each["version"], each["what"]) for each in told} == {
        ("1", "promoted"),
        ("1", "restored"),
        ("2", "challenged"),
        ("2", "promoted"),
        ("2", "rolled back"),
        ("3", "challenged"),
        ("3", "withdrawn"),
    }
    assert {each["why"] for each in told} == {"first", "did well", "false alarms", ""}


def listed(command: Command, name: str) -> dict[str, Any]:
    [row] = [each for each in last_line(command("list", "--json")[1])["models"] if each["name"] == name]
    return dict(row)


# --- import ---------------------------------------------------------------------------------------------------


def darkness(*nodes: onnx.NodeProto, size: int = 64, output: str = "map", batch: Any = "n") -> onnx.ModelProto:
    """How dark each of 16 x 16 cells of a picture is; further nodes make `output` of `cells`."""
    shape = np.array([0, 16, size // 16, 16, size // 16, 3], dtype=np.int64)
    axes = np.array([2, 4, 5], dtype=np.int64)
    steps = [
        helper.make_node("Cast", ["image"], ["float"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["float", "scale"], ["negative"]),
        helper.make_node("Add", ["negative", "one"], ["dark"]),
        helper.make_node("Reshape", ["dark", "shape"], ["split"]),
        helper.make_node("ReduceMean", ["split", "axes"], ["cells"], keepdims=0),
        *(nodes or [helper.make_node("Identity", ["cells"], [output])]),
    ]
    constants = {"scale": np.float32(-1 / 255), "one": np.float32(1), "shape": shape, "axes": axes}
    graph = helper.make_graph(
        steps,
        "darkness",
        [helper.make_tensor_value_info("image", TensorProto.UINT8, [batch, size, size, 3])],
        [helper.make_tensor_value_info(output, TensorProto.FLOAT, [batch, 16, 16])],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


def regression(labels: Sequence[str], features: int) -> bytes:
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(60, features)).astype(np.float32)
    model = LogisticRegression().fit(rows, np.resize(np.array(labels), 60))
    return bytes(to_onnx(model, rows[:1], options={"zipmap": False}).SerializeToString())


def files(folder: Path, graph: bytes | onnx.ModelProto, card: dict[str, Any]) -> tuple[str, str, str]:
    """The arguments after `import`."""
    content = graph if isinstance(graph, bytes) else graph.SerializeToString()
    (folder / "model.onnx").write_bytes(content)
    (folder / "card.json").write_text(json.dumps(card))
    return "model.onnx", "--card", "card.json"


@pytest.mark.slow
def test_the_cards_of_the_guide_are_imported_and_served(
    command: Command, monkeypatch: pytest.MonkeyPatch, mlflow_address: str, tmp_path: Path
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", mlflow_address)
    bearing = regression(VIBRATION["labels"], len(VIBRATION["input"]["feature_names"]))
    for card, graph in ((VISION, darkness()), (VIBRATION, bearing)):
        arguments = files(tmp_path, graph, card)
        code, out, err = command("import", *arguments, "--promote", "--reason", "first", "--json")
        assert code == 0, err
        assert last_line(out) == {"name": card["name"], "version": "1", "alias": "champion", "refused": ""}
    signal = np.random.default_rng(0).normal(size=12_000).astype("<f4").tobytes()
    with running_api(tmp_path / "var", {"MLFLOW_TRACKING_URI": mlflow_address}) as api:
        wait_until(lambda: {"weld-seam", "gearbox"} <= in_service(api), 60, api.log)
        for level, label in ((200, "normal"), (40, "anomaly")):
            picture = images.encode_jpeg(np.full((48, 64, 3), level, np.uint8))
            answer = api.http.post(
                "/v1/vision/weld-seam/predict", content=picture, headers={"content-type": "image/jpeg"}
            )
            assert answer.status_code == 200, answer.text
            assert answer.json()["label"] == label
        answer = api.http.post(
            "/v1/vibration/gearbox/predict",
            content=signal,
            headers={"content-type": "application/octet-stream"},
            params={"sampling_rate_hz": 12_000},
        )
        assert answer.status_code == 200, answer.text
        assert set(answer.json()["probabilities"]) == set(VIBRATION["labels"])


def in_service(api: RunningApi) -> set[str]:
    return {row["name"] for row in api.http.get("/v1/models").json()["models"] if row["loaded_since"]}


@pytest.mark.slow
def test_an_imported_version_is_compared_like_any_other(command: Command, registry: Registry, tmp_path: Path) -> None:
    worse = VISION | {"metrics": {"held-out-groups": {"image_auroc": 0.5}}}
    assert command("import", *files(tmp_path, darkness(), VISION))[0] == 0
    registry.promote("weld-seam", "1", reason="first")
    code, out, err = command("import", *files(tmp_path, darkness(), worse), "--promote", "--reason", "newer", "--json")
    assert code == 0, err
    assert "Registered weld-seam version 2." in out
    found = last_line(out)
    assert (found["version"], found["alias"]) == ("2", None)
    assert "is 0.500 against 0.940" in found["refused"]
    assert "almenara models promote weld-seam 2 --force" in found["refused"]
    assert registry.champion("weld-seam").version == "1"


def outside(model: onnx.ModelProto) -> onnx.ModelProto:
    constant = model.graph.initializer[0]
    constant.data_location = TensorProto.EXTERNAL
    constant.external_data.add(key="location", value="weights.bin")
    return model


def custom() -> onnx.ModelProto:
    model = darkness(helper.make_node("Secret", ["cells"], ["map"], domain="vendor"))
    model.opset_import.append(helper.make_opsetid("vendor", 1))
    return model


def of_the_batch() -> onnx.ModelProto:
    """Brightness relative to the batch's: what batch normalisation does in training mode."""
    return darkness(
        helper.make_node("ReduceMean", ["cells"], ["mean"], keepdims=1),
        helper.make_node("Sub", ["cells", "mean"], ["map"]),
    )


BROKEN: dict[str, tuple[Callable[[], bytes | onnx.ModelProto], str]] = {
    "no ONNX": (lambda: b"this is no graph", "no ONNX file"),
    "empty": (lambda: b"", "model.onnx"),
    "external data": (lambda: outside(darkness()), "lie in another file"),
    "custom operator": (custom, "the custom operator vendor.Secret"),
    "old": (lambda: helper.make_model(darkness().graph, opset_imports=[helper.make_opsetid("", 6)]), "opset 6"),
    "wrong size": (
        lambda: darkness(size=32),
        r"'image' is uint8 (n, 32, 32, 3); uint8 (n, 64, 64, 3) is wanted. Put cast",
    ),
    "one at a time": (lambda: darkness(batch=1), "takes batches of 1 only"),
    "wrong name": (lambda: darkness(output="heat"), "no output 'map'; it has heat"),
    "not finite": (lambda: darkness(helper.make_node("Log", ["cells"], ["map"])), "is not finite"),
    "random": (
        lambda: darkness(
            helper.make_node("RandomNormalLike", ["cells"], ["noise"]),
            helper.make_node("Add", ["cells", "noise"], ["map"]),
        ),
        "differs from run to run",
    ),
    "of the batch": (of_the_batch, "is not that of its inputs one by one"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_graph_that_cannot_be_served_is_refused(command: Command, tmp_path: Path, case: str) -> None:
    make, sentence = BROKEN[case]
    card = VISION | {"name": "refused"}
    code, _, err = command("import", *files(tmp_path, make(), card))
    assert code == 2
    assert "model.onnx: " in err
    assert sentence in err
    assert "refused" not in command("list")[1]


def test_scores_that_are_no_probabilities_are_refused(command: Command, tmp_path: Path) -> None:
    graph = regression([*VIBRATION["labels"], "ball"], len(VIBRATION["input"]["feature_names"]))
    code, _, err = command("import", *files(tmp_path, graph, VIBRATION | {"name": "refused"}))
    assert code == 2
    assert "'probabilities' is float32 (n, 4); float32 (n, 3) is wanted" in err


@pytest.mark.parametrize(
    ("card", "sentence"),
    [
        (VISION | {"created_at": "yesterday"}, "card.json: created_at: "),
        (VISION | {"threshold": None}, "card.json: threshold: missing"),
        (VISION | {"calibration_scores": [0.3, 0.1]}, "card.json: calibration_scores: missing or not sorted"),
        (VISION | {"display_range": None}, "card.json: display_range: "),
        (VISION | {"role": "classifier"}, "card.json: role: a vision classifier with image input is not served"),
        (VIBRATION | {"asset": "pump"}, "card.json: asset: "),
        (VIBRATION | {"input": VIBRATION["input"] | {"schema_hash": "0"}}, "card.json: input: The model was trained"),
        (VIBRATION | {"input": LONG_WINDOWS}, "card.json: input: a window has 1.2e+10 samples"),
    ],
)
def test_a_card_that_cannot_be_served_is_refused(
    command: Command, tmp_path: Path, card: dict[str, Any], sentence: str
) -> None:
    code, _, err = command("import", *files(tmp_path, darkness(), card))
    assert code == 2
    assert sentence in err
    assert "docs/models.md" in err


@pytest.mark.parametrize(("reason", "sentence"), [("", "The reason is empty"), ("x" * 1001, "has 1001 characters")])
def test_a_promotion_without_a_usable_reason_imports_nothing(
    command: Command, tmp_path: Path, reason: str, sentence: str
) -> None:
    arguments = files(tmp_path, darkness(), VISION | {"name": "refused"})
    code, _, err = command("import", *arguments, "--promote", "--reason", reason)
    assert code == 2
    assert sentence in err
    assert "refused" not in command("list")[1]
