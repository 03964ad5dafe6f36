"""The served API over HTTP: verdicts on vibration windows, windows that are refused, alarms of assets."""

from __future__ import annotations

import io
import json
import time
import wave
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from almenara.contracts import VibrationVerdict
from tests.support.api import RunningApi, faulty_signal, healthy_signal, wait_until
from tests.support.posting import POSTED, RAW, VIBRATION, full_service, post_window, problem_of


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningApi]:
    with full_service(tmp_path_factory.mktemp("api") / "var") as running:
        yield running


def test_every_encoding_of_a_window_gives_the_same_verdict(api: RunningApi) -> None:
    signal = healthy_signal(1)
    raw = post_window(api, signal)
    assert VibrationVerdict.model_validate_json(raw.content).novelty is None
    npy = io.BytesIO()
    np.save(npy, signal)
    csv = "\n".join(["acceleration", *(repr(float(sample)) for sample in signal)])
    others = [
        api.http.post(VIBRATION, content=npy.getvalue(), headers={"content-type": "application/x-npy"}, params=POSTED),
        api.http.post(VIBRATION, content=csv, headers={"content-type": "text/csv"}, params=POSTED),
        api.http.post(VIBRATION, json={"signal": signal.tolist(), **POSTED}),
    ]
    for answer in others:
        assert answer.status_code == 200, answer.text
        assert answer.json()["probabilities"] == pytest.approx(raw.json()["probabilities"], abs=1e-5)


def test_a_wav_file_brings_its_own_rate(api: RunningApi) -> None:
    file = io.BytesIO()
    with wave.open(file, "wb") as written:
        written.setnchannels(1)
        written.setsampwidth(2)
        written.setframerate(12_000)
        written.writeframes((healthy_signal(1) * 20_000).astype("<i2").tobytes())
    kind = {"content-type": "audio/wav"}
    without = {key: value for key, value in POSTED.items() if key != "sampling_rate_hz"}
    assert api.http.post(VIBRATION, content=file.getvalue(), headers=kind, params=without).status_code == 200
    wrong = api.http.post(
        VIBRATION, content=file.getvalue(), headers=kind, params=POSTED | {"sampling_rate_hz": 48_000}
    )
    assert problem_of(wrong) == (422, "sampling-rate-conflict")


def test_several_signals_get_several_verdicts(api: RunningApi) -> None:
    signals = [healthy_signal(seed).tolist() for seed in range(3)]
    answer = api.http.post(VIBRATION, json={"signals": signals, **POSTED}).json()
    assert [VibrationVerdict.model_validate(each).windows for each in answer["verdicts"]] == [1, 1, 1]
    signals[1] = [0.0] * 12_000
    refused = api.http.post(VIBRATION, json={"signals": signals, **POSTED})
    assert problem_of(refused) == (422, "window-constant")
    assert refused.json()["detail"].startswith("signals[1]:")


def test_counts_of_a_converter_are_judged_like_what_they_stand_for(api: RunningApi) -> None:
    counts = np.round(healthy_signal(1) * 1000).astype("<i2")
    sent = {**POSTED, "unit": "g", "dtype": "int16", "scale": 0.001}
    answer = api.http.post(VIBRATION, content=counts.tobytes(), headers=RAW, params=sent)
    assert answer.status_code == 200, answer.text
    expected = post_window(api, counts.astype(np.float32) * np.float32(0.001), unit="g").json()
    assert answer.json()["label"] == expected["label"]
    assert answer.json()["probabilities"] == pytest.approx(expected["probabilities"], abs=1e-4)
    without = api.http.post(VIBRATION, content=counts.tobytes(), headers=RAW, params={**POSTED, "dtype": "int16"})
    assert problem_of(without) == (422, "scale-invalid")


def with_nan() -> np.ndarray:
    signal = healthy_signal(1)
    signal[77] = np.nan
    return signal


BAD_WINDOWS = {
    "NaN": (with_nan(), 422, "window-not-finite"),
    "constant": (np.full(12_000, 0.3), 422, "window-constant"),
    "too short": (healthy_signal(1)[:100], 422, "window-too-short"),
    "empty": (np.array([]), 400, "recording-empty"),
    "too long": (np.tile(healthy_signal(1), 9), 413, "recording-too-long"),
}


@pytest.mark.parametrize("case", BAD_WINDOWS)
def test_a_bad_window_is_a_clear_problem_and_the_next_good_one_is_judged(api: RunningApi, case: str) -> None:
    signal, status, code = BAD_WINDOWS[case]
    assert problem_of(post_window(api, signal)) == (status, code)
    assert post_window(api, healthy_signal(2)).status_code == 200


def test_a_window_without_sampling_rate_is_refused(api: RunningApi) -> None:
    answer = api.http.post(VIBRATION, content=healthy_signal(1).tobytes(), headers=RAW)
    assert problem_of(answer) == (422, "sampling-rate-missing")


def test_a_window_of_another_dtype_is_refused(api: RunningApi) -> None:
    file = io.BytesIO()
    np.save(file, np.array(["a", "b"]))
    answer = api.http.post(
        VIBRATION, content=file.getvalue(), headers={"content-type": "application/x-npy"}, params=POSTED
    )
    assert problem_of(answer)[0] in (415, 422)
    assert problem_of(api.http.post(VIBRATION, content=b"12345", headers=RAW, params=POSTED))[0] in (400, 422)


def test_an_unknown_bearing_names_the_known_ones(api: RunningApi) -> None:
    answer = post_window(api, healthy_signal(1), bearing="9999")
    assert problem_of(answer) == (422, "unknown-bearing")
    assert "6205-2RS" in answer.text


@pytest.mark.parametrize(
    "parameters", [{"sampling_rate_hz": "-1"}, {"sampling_rate_hz": "nan"}, {"sample_rate": "12000"}]
)
def test_a_wrong_parameter_is_named(api: RunningApi, parameters: dict[str, str]) -> None:
    answer = api.http.post(VIBRATION, content=b"", headers=RAW, params=parameters)
    assert problem_of(answer) == (422, "parameters-invalid")
    assert next(iter(parameters)) in answer.json()["detail"]


def test_an_assets_baseline_judges_its_windows_and_raises_its_alarm(api: RunningApi) -> None:
    healthy = VibrationVerdict.model_validate_json(post_window(api, healthy_signal(50), asset="pump-1").content)
    assert healthy.novelty is not None
    assert healthy.novelty.label == "normal"
    for seed in range(3):
        faulty = VibrationVerdict.model_validate_json(
            post_window(api, faulty_signal(seed), asset="pump-1", unit="g").content
        )
        time.sleep(0.15)
    assert faulty.novelty is not None
    assert faulty.novelty.anomaly > 0.5
    assert faulty.unit == "g"
    (alarm,) = [each for each in api.http.get("/v1/alarms").json() if each["source"] == "pump-1"]
    assert (alarm["source"], alarm["phase"], alarm["model"]["name"]) == (
        "pump-1",
        "unacknowledged",
        "bearing-baseline-pump-1",
    )
    assert alarm["reason"]
    assert [Path(file["uri"]).stat().st_size for file in alarm["evidence"]] == [f["size"] for f in alarm["evidence"]]
    told = api.log.parent / "alarms" / "alarms.log"
    wait_until(lambda: told.is_file() and told.read_text().endswith("\n"), 30)
    assert json.loads(told.read_text().splitlines()[0])["alarm"]["id"] == alarm["id"]


def test_a_batch_of_windows_satisfies_the_on_delay_by_its_own_length(api: RunningApi) -> None:
    signals = [faulty_signal(seed).tolist() for seed in range(2)]
    answer = api.http.post(VIBRATION, json={"signals": signals, "asset": "mill-2", **POSTED})
    assert [each["novelty"]["label"] for each in answer.json()["verdicts"]] == ["anomaly", "anomaly"]
    assert "mill-2" in [alarm["source"] for alarm in api.http.get("/v1/alarms").json()]


def test_an_asset_without_baseline_never_alarms(api: RunningApi) -> None:
    for seed in range(3):
        assert "no_baseline" in post_window(api, faulty_signal(seed), asset="fan-9").json()["quality"]
        time.sleep(0.15)
    assert "fan-9" not in api.http.get("/v1/alarms").text
