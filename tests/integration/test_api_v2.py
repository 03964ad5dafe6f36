"""The Open Inference Protocol at a running API, asked by a client that others wrote."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from tritonclient.http import InferenceServerClient, InferInput, InferRequestedOutput, InferResult
from tritonclient.utils import InferenceServerException

from almenara.api_keys import create_key
from almenara.vision import images
from tests.support.api import (
    RunningApi,
    cache_champions,
    faulty_signal,
    healthy_features,
    healthy_signal,
    running_api,
    wait_until,
)
from tests.support.packages import LABELS, SIZE, classifier_candidate, novelty_candidate, vision_candidate

KEY = "correct-horse-battery"
HEADERS = {"X-API-Key": KEY}
TOLD = {"sampling_rate_hz": 12_000, "shaft_rpm": 1772, "bearing": "6205-2RS", "unit": "g", "machine": "group2-rigid"}
BASELINE = "bearing-baseline-pump-1"
SIGNALS = np.stack([healthy_signal(1), faulty_signal(2)])
DARK_AND_BRIGHT = np.stack([np.full((SIZE, SIZE, 3), grey, np.uint8) for grey in (20, 200)])


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningApi]:
    var = tmp_path_factory.mktemp("api") / "var"
    cache_champions(
        var, [vision_candidate(), classifier_candidate(), novelty_candidate(healthy_features(), "pump-1", BASELINE)]
    )
    limits = {"ALMENARA_MAX_SAMPLES": "100000", "ALMENARA_MAX_PIXELS": "1000000"}
    with running_api(var, {"ALMENARA_API_KEY": KEY, **limits}) as running:
        running.http.headers.update(HEADERS)
        yield running


@pytest.fixture(scope="module")
def client(api: RunningApi) -> Iterator[InferenceServerClient]:
    with InferenceServerClient(f"{api.http.base_url.host}:{api.http.base_url.port}") as opened:
        yield opened


def tensor(name: str, values: np.ndarray, datatype: str, *, binary: bool = True) -> InferInput:
    made = InferInput(name, list(values.shape), datatype)
    made.set_data_from_numpy(values, binary_data=binary)
    return made


def infer(client: InferenceServerClient, model: str, given: InferInput, **more: Any) -> InferResult:
    return client.infer(model, [given], headers=dict(HEADERS), **more)


def verdicts(result: InferResult) -> list[dict[str, Any]]:
    return [json.loads(each) for each in result.as_numpy("verdict")]


def post(api: RunningApi, model: str, content: object, **headers: str) -> httpx.Response:
    return api.http.post(f"/v2/models/{model}/infer", json=content, headers=headers)


# --- health and metadata ----------------------------------------------------------------------------------


def test_health_is_told_to_anybody_and_the_rest_to_who_has_a_key(
    api: RunningApi, client: InferenceServerClient
) -> None:
    assert client.is_server_live()
    assert client.is_server_ready()
    assert not client.is_model_ready("darkness")
    with pytest.raises(InferenceServerException, match="X-API-Key is missing") as refused:
        client.get_server_metadata()
    assert refused.value.status() == "401"
    assert client.is_model_ready("darkness", headers=HEADERS)
    assert client.is_model_ready("darkness", "1", headers=HEADERS)
    assert not client.is_model_ready("darkness", "2", headers=HEADERS)
    assert not client.is_model_ready("nothing", headers=HEADERS)


def test_metadata_say_what_each_kind_of_model_takes_and_gives(client: InferenceServerClient) -> None:
    server = client.get_server_metadata(headers=HEADERS)
    assert (server["name"], server["extensions"]) == ("almenara", ["binary_tensor_data"])

    def tensors(model: str) -> dict[str, tuple[str, list[int]]]:
        found = client.get_model_metadata(model, "1", headers=HEADERS)
        assert found == client.get_model_metadata(model, headers=HEADERS)
        assert (found["name"], found["versions"]) == (model, ["1"])
        return {each["name"]: (each["datatype"], each["shape"]) for each in [*found["inputs"], *found["outputs"]]}

    texts = {"label": ("BYTES", [-1]), "verdict": ("BYTES", [-1])}
    scores = {"anomaly": ("FP32", [-1]), "score": ("FP32", [-1])}
    signal = {"signal": ("FP32", [-1, -1])}
    assert tensors("darkness") == {"image": ("UINT8", [-1, SIZE, SIZE, 3]), **scores, **texts}
    assert tensors("bearing") == {**signal, "probabilities": ("FP32", [-1, 4]), **texts}
    assert tensors(BASELINE) == {**signal, **scores, **texts}


def test_a_key_for_something_else_reads_metadata_and_judges_nothing(
    api: RunningApi, client: InferenceServerClient
) -> None:
    key = create_key(api.log.parent / "api-keys.json", "worker-1", ["report"])
    own = {"X-API-Key": key}
    wait_until(lambda: api.http.get("/v2", headers=own).status_code != 401, 30, api.log)
    assert client.get_model_metadata("darkness", headers=own)["name"] == "darkness"
    with pytest.raises(InferenceServerException, match="needs predict"):
        client.infer("darkness", [tensor("image", DARK_AND_BRIGHT, "UINT8")], headers=own)


# --- pictures ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("binary", [True, False], ids=["bytes", "json"])
def test_pixels_are_judged_as_the_typed_route_judges_their_picture(
    api: RunningApi, client: InferenceServerClient, binary: bool
) -> None:
    result = infer(client, "darkness", tensor("image", DARK_AND_BRIGHT, "UINT8", binary=binary), request_id="frame-7")
    assert result.get_response()["id"] == "frame-7"
    assert result.get_response()["model_version"] == "1"
    assert result.as_numpy("label").tolist() == [b"anomaly", b"normal"]
    for pixels, verdict in zip(DARK_AND_BRIGHT, verdicts(result), strict=True):
        kind = {"content-type": "image/png"}
        typed = api.http.post("/v1/vision/darkness/predict", content=images.encode_png(pixels), headers=kind)
        assert verdict == typed.json()
    told = [[each[name] for each in verdicts(result)] for name in ("anomaly", "score")]
    assert [result.as_numpy(name).tolist() for name in ("anomaly", "score")] == pytest.approx(np.array(told), rel=1e-6)


def test_files_of_any_size_are_judged_as_the_typed_route_judges_them(
    api: RunningApi, client: InferenceServerClient
) -> None:
    files = [images.encode_jpeg(np.full((48, 64, 3), grey, np.uint8)) for grey in (20, 200, 90)]
    typed = [
        api.http.post("/v1/vision/darkness/predict", content=each, headers={"content-type": "image/jpeg"}).json()
        for each in files
    ]
    sent = tensor("image", np.array(files, dtype=object), "BYTES")
    assert verdicts(infer(client, "darkness", sent)) == typed
    data = [base64.b64encode(each).decode() for each in files]
    given = {"name": "image", "shape": [3], "datatype": "BYTES", "parameters": {"content_type": "base64"}, "data": data}
    answer = post(api, "darkness", {"inputs": [given], "outputs": [{"name": "verdict"}]}).json()
    assert [json.loads(each) for each in answer["outputs"][0]["data"]] == typed
    assert [each["name"] for each in answer["outputs"]] == ["verdict"]
    assert "id" not in answer


def test_a_broken_file_is_named_by_its_place(client: InferenceServerClient) -> None:
    good = images.encode_jpeg(DARK_AND_BRIGHT[0])
    sent = tensor("image", np.array([good, good[:100]], dtype=object), "BYTES")
    with pytest.raises(InferenceServerException, match=r"image\[1\]: The picture ") as refused:
        infer(client, "darkness", sent)
    assert refused.value.status() == "400"


# --- signals ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("binary", [True, False], ids=["bytes", "json"])
def test_signals_are_judged_as_the_typed_route_judges_them(
    api: RunningApi, client: InferenceServerClient, binary: bool
) -> None:
    outputs = [InferRequestedOutput(name, binary_data=binary) for name in ("verdict", "probabilities", "label")]
    result = infer(
        client, "bearing", tensor("signal", SIGNALS, "FP32", binary=binary), parameters=TOLD, outputs=outputs
    )
    typed = api.http.post("/v1/vibration/bearing/predict", json={"signals": SIGNALS.tolist(), **TOLD}).json()
    found = result.as_numpy("verdict").tolist()
    for one, verdict in zip(found, typed["verdicts"], strict=True):
        told = json.loads(one)
        assert told["probabilities"] == pytest.approx(verdict["probabilities"])
        assert (told["label"], told["reason"], told["unit"]) == (verdict["label"], verdict["reason"], "g")
        assert told["severity"]["machine"] == "group2-rigid"
    rows = [[verdict["probabilities"][label] for label in LABELS] for verdict in typed["verdicts"]]
    assert result.as_numpy("probabilities") == pytest.approx(np.array(rows), abs=1e-6)


def test_a_baseline_judges_signals_under_its_own_name(client: InferenceServerClient) -> None:
    result = infer(client, BASELINE, tensor("signal", SIGNALS, "FP32"), parameters=TOLD)
    assert result.as_numpy("label").tolist() == [b"normal", b"anomaly"]
    healthy, faulty = result.as_numpy("anomaly")
    assert healthy < 0.5 < faulty
    assert verdicts(result)[1]["model"]["name"] == BASELINE


def test_answers_count_like_those_of_the_typed_routes(api: RunningApi, client: InferenceServerClient) -> None:
    def requests() -> int:
        [row] = [row for row in api.http.get("/v1/models").json()["models"] if row["name"] == "bearing"]
        return int(row["usage"]["requests"])

    before = requests()
    infer(client, "bearing", tensor("signal", SIGNALS, "FP32"), parameters=TOLD)
    assert requests() == before + 1
    assert 'route="/v2/models/{model}/infer"' in api.http.get("/metrics").text


# --- what is refused --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("model", "given", "parameters", "status", "sentence"),
    [
        ("bearing", SIGNALS, {}, "422", "nothing says at which rate"),
        ("bearing", SIGNALS, {**TOLD, "asset": "pump-1"}, "422", r"no parameter asset\..*/v1/vibration/NAME/predict"),
        ("bearing", SIGNALS, {**TOLD, "shaft_rpm": -1}, "422", "shaft_rpm"),
        ("bearing", SIGNALS, {**TOLD, "bearing": "unheard-of"}, "422", r"signal\[0\]: .*unheard-of"),
        ("bearing", SIGNALS[:, :100], TOLD, "422", r"signal\[0\]: "),
        ("bearing", SIGNALS * np.float32(np.nan), TOLD, "422", r"signal\[0\]: "),
        ("bearing", np.zeros((9, 12_000), np.float32), TOLD, "413", "108000 elements, and at most 100000"),
        ("darkness", SIGNALS, TOLD, "422", "takes one input, image"),
        ("nothing", SIGNALS, TOLD, "404", "bearing, bearing-baseline-pump-1, darkness"),
    ],
)
def test_what_cannot_be_judged_is_said_in_a_sentence(
    client: InferenceServerClient, model: str, given: np.ndarray, parameters: Any, status: str, sentence: str
) -> None:
    with pytest.raises(InferenceServerException, match=sentence) as refused:
        infer(client, model, tensor("signal", given, "FP32"), parameters=parameters)
    assert refused.value.status() == status


def test_pixels_of_another_size_and_too_many_pictures_are_refused(client: InferenceServerClient) -> None:
    with pytest.raises(InferenceServerException, match=r"Send \[-1, 32, 32, 3\]"):
        infer(client, "darkness", tensor("image", DARK_AND_BRIGHT[:, :16], "UINT8"))
    many = np.zeros((65, SIZE, SIZE, 3), np.uint8)
    with pytest.raises(InferenceServerException, match="at most") as refused:
        infer(client, "darkness", tensor("image", many, "UINT8"))
    assert refused.value.status() == "413"


def test_errors_are_problems_with_the_member_that_the_protocol_wants(api: RunningApi) -> None:
    for answer in (
        post(api, "nothing", {}),
        post(api, "darkness", {"inputs": []}),
        post(api, "darkness", {}, **{"X-API-Key": "wrong"}),
        post(api, "darkness", {}, **{"Content-Type": "text/plain"}),
        post(api, "darkness", {}, **{"Content-Encoding": "gzip"}),
        api.http.get("/v2/nowhere"),
        api.http.delete("/v2"),
        api.http.get("/v2/models/darkness/versions/9"),
    ):
        problem = answer.json()
        assert answer.headers["content-type"] == "application/problem+json"
        assert problem["status"] == answer.status_code >= 400
        assert problem["error"] == f"{problem['detail']} {problem['remedy']}"
    assert "error" not in api.http.get("/v1/nowhere").json()


def test_the_guide_names_every_output(api: RunningApi) -> None:
    guide = (Path(__file__).parents[2] / "docs" / "open-inference-protocol.md").read_text()
    for model in ("darkness", "bearing", BASELINE):
        for each in api.http.get(f"/v2/models/{model}").json()["outputs"]:
            assert f"`{each['name']}`" in guide
