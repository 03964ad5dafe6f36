"""Both clients of the API against the real one: verdicts, alarms, keys, errors, restarts, and the guide's examples."""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from almenara.api_keys import create_key
from almenara.cli import main
from almenara.client import Almenara, ApiError, ApiUnreachable, AsyncAlmenara, Reading
from almenara.contracts import VibrationVerdict, VisionVerdict
from almenara.processes import free_port
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
from tests.support.clients import KINDS, Kind, have
from tests.support.data import ROOT
from tests.support.packages import classifier_candidate, novelty_candidate, vision_candidate

pytestmark = pytest.mark.slow

KEY = "correct-horse-battery"
GUIDE = (ROOT / "docs" / "client.md").read_text(encoding="utf-8")
FACTS: dict[str, Any] = {"sampling_rate_hz": 12_000, "shaft_rpm": 1772, "bearing": "6205-2RS"}


def picture(grey: int) -> np.ndarray:
    return np.full((48, 64, 3), grey, dtype=np.uint8)


DARK, BRIGHT = images.encode_jpeg(picture(20)), images.encode_jpeg(picture(200))


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningApi]:
    var = tmp_path_factory.mktemp("api") / "var"
    pump = novelty_candidate(healthy_features(), "pump-1", "bearing-baseline-pump-1")
    cache_champions(var, [vision_candidate("outflow"), classifier_candidate(), pump])
    settings = {"ALMENARA_API_KEY": KEY, "ALMENARA_VIBRATION_ON_DELAY_SECONDS": "0"}
    with running_api(var, settings) as running:
        yield running


@pytest.fixture(scope="module")
def url(api: RunningApi) -> str:
    return str(api.http.base_url).rstrip("/")


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> Kind:
    found: Kind = request.param
    return found


# --- verdicts ---------------------------------------------------------------------------------------------


def test_a_picture_is_judged_however_it_is_given(url: str, kind: Kind, tmp_path: Path) -> None:
    (tmp_path / "dark.png").write_bytes(images.encode_png(picture(20)))
    verdicts = have(
        kind,
        url,
        lambda api: api.vision.predict("outflow", DARK),
        lambda api: api.vision.predict("outflow", tmp_path / "dark.png"),
        lambda api: api.vision.predict("outflow", picture(20)),
        key=KEY,
    )
    assert {verdict.label for verdict in verdicts} == {"anomaly"}
    assert verdicts[1] == verdicts[2], "an array is sent without a loss"
    assert verdicts[0].model.name == "outflow"


def test_a_heatmap_comes_when_it_is_asked_for(url: str, kind: Kind) -> None:
    [verdict] = have(kind, url, lambda api: api.vision.predict("outflow", DARK, heatmap="overlay"), key=KEY)
    assert verdict.heatmap.media_type == "image/jpeg"


def test_a_list_of_pictures_is_judged_in_its_order_like_single_ones(url: str, kind: Kind) -> None:
    pictures = [DARK, BRIGHT, DARK] * 7
    many, dark, bright, one = have(
        kind,
        url,
        lambda api: api.vision.predict_many("outflow", iter(pictures)),
        lambda api: api.vision.predict("outflow", DARK),
        lambda api: api.vision.predict("outflow", BRIGHT),
        lambda api: api.vision.predict_many("outflow", [DARK]),
        key=KEY,
    )
    assert many == [dark, bright, dark] * 7
    assert one == [dark]


def test_a_picture_of_a_list_that_is_none_is_told_with_its_place(url: str, kind: Kind) -> None:
    with pytest.raises(ApiError, match=r"^pictures\[16:18\]: file\[1\]: ") as error:
        have(kind, url, lambda api: api.vision.predict_many("outflow", [DARK] * 17 + [DARK[:200]]), key=KEY)
    assert (error.value.status, error.value.code) == (400, "image-truncated")


def test_a_window_is_judged_as_raw_and_as_json_alike(url: str, kind: Kind) -> None:
    signals = [healthy_signal(1), healthy_signal(2)]
    raw, many = have(
        kind,
        url,
        lambda api: api.vibration.predict("bearing", signals[1], **FACTS),
        lambda api: api.vibration.predict_many("bearing", signals, **FACTS),
        key=KEY,
    )
    assert isinstance(raw, VibrationVerdict)
    assert len(many) == 2
    assert many[1] == raw


def test_many_requests_at_once_are_all_answered(url: str) -> None:
    async def all_at_once() -> list[VisionVerdict]:
        async with AsyncAlmenara(url, key=KEY) as api:
            return await asyncio.gather(*[api.vision.predict("outflow", DARK) for _ in range(100)])

    verdicts = asyncio.run(all_at_once())
    assert [verdict.label for verdict in verdicts] == ["anomaly"] * 100


# --- assets and their alarms ------------------------------------------------------------------------------


def test_a_window_of_an_asset_is_in_its_trend_once_however_often_it_comes(url: str, kind: Kind) -> None:
    asset, at = f"mill {kind}/2", datetime.now(UTC) - timedelta(seconds=5)
    facts = {**FACTS, "asset": asset, "channel": "drive end", "measured_at": at, "unit": "g"}

    def once(api: Any) -> Any:
        return api.vibration.predict("bearing", healthy_signal(3), idempotency_key=f"mine {kind}", **facts)

    first, repeat, readings = have(kind, url, once, once, lambda api: api.trend(asset, channel="drive end"), key=KEY)
    assert first == repeat
    [reading] = readings
    assert isinstance(reading, Reading)
    assert (reading.asset, reading.measured_at, reading.unit) == (asset, at, "g")


def test_an_alarm_is_listed_and_acknowledged(url: str, kind: Kind) -> None:
    def faulty(api: Any) -> Any:
        return api.vibration.predict("bearing", faulty_signal(4), asset="pump-1", **FACTS)

    def listed(api: Any) -> Any:
        return api.alarms(source="pump-*", kind="vibration", standing=True, limit=1)

    verdict, _, [alarm] = have(kind, url, faulty, faulty, listed, key=KEY)
    assert verdict.novelty.label == "anomaly"
    assert alarm.source == "pump-1"
    [seen] = have(
        kind, url, lambda api: api.acknowledge(alarm.id, "eva", comment="looked", verdict="true_alarm"), key=KEY
    )
    assert (seen.acknowledged_by, seen.comment, seen.verdict) == ("eva", "looked", "true_alarm")
    with pytest.raises(ApiError) as error:
        have(kind, url, lambda api: api.acknowledge("no-such-alarm", "eva"), key=KEY)
    assert (error.value.status, error.value.code) == (404, "alarm-unknown")


# --- what is refused --------------------------------------------------------------------------------------


@pytest.mark.parametrize("key", [None, "a-wrong-key"])
def test_a_key_that_is_missing_or_wrong_is_told_by_the_api(url: str, kind: Kind, key: str | None) -> None:
    with pytest.raises(ApiError) as error:
        have(kind, url, lambda api: api.models(), key=key)
    assert (error.value.status, error.value.code) == (401, "api-key")
    assert "a-wrong-key" not in str(error.value)


def test_a_key_opens_its_own_scope_alone(api: RunningApi, url: str, kind: Kind) -> None:
    key = create_key(api.log.parent / "api-keys.json", f"gateway-{kind}", ["predict"])
    wait_until(lambda: api.http.get("/v1/models", headers={"X-API-Key": key}).status_code == 200, 10, api.log)
    assert have(kind, url, lambda api: api.vision.predict("outflow", DARK), key=key)[0].label == "anomaly"
    with pytest.raises(ApiError) as error:
        have(kind, url, lambda api: api.alarms(), key=key)
    assert (error.value.status, error.value.code) == (403, "key-scope")


@pytest.mark.parametrize(
    ("ask", "status", "code"),
    [
        (lambda api: api.vision.predict("no-such-model", DARK), 404, "model-unknown"),
        (lambda api: api.vision.predict("bearing", DARK), 409, "model-task"),
        (lambda api: api.vision.predict("outflow", b"no picture"), 415, "image-type"),
        (lambda api: api.vibration.predict("bearing", healthy_signal(1)[:20], sampling_rate_hz=12_000), 422, None),
        (lambda api: api.vibration.predict("bearing", healthy_signal(1), sampling_rate_hz=-1), 422, None),
    ],
)
def test_a_problem_is_told_with_its_request(
    api: RunningApi, url: str, kind: Kind, ask: Callable[[Any], Any], status: int, code: str | None
) -> None:
    with pytest.raises(ApiError) as error:
        have(kind, url, ask, key=KEY)
    assert error.value.status == status
    assert error.value.code == (code or error.value.code)
    assert error.value.fact
    assert api.line_of(error.value.request_id)["status"] == status


# --- the platform -----------------------------------------------------------------------------------------


def test_models_are_told_with_their_versions(url: str, kind: Kind) -> None:
    ready, found = have(kind, url, lambda api: api.ready(), lambda api: api.models(), key=KEY)
    assert ready is True
    assert {row.name: row.task for row in found.models if row.version} == {
        "outflow": "vision",
        "bearing": "vibration",
        "bearing-baseline-pump-1": "vibration",
    }
    assert found.missing is None


def test_an_api_without_a_model_is_not_ready_and_one_that_has_ended_is_unreachable(tmp_path: Path) -> None:
    with (
        running_api(tmp_path / "var", {}, ready=False) as empty,
        Almenara(str(empty.http.base_url), retries=0) as api,
    ):
        assert api.ready() is False
        missing = api.models().missing
        assert missing is not None
        assert missing.remedy
        empty.process.terminate()
        empty.process.wait(30)
        with pytest.raises(ApiUnreachable, match="No API answers"):
            api.models()


# --- the command ------------------------------------------------------------------------------------------


@pytest.fixture
def command(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> Callable[..., tuple[int, str, str]]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("ALMENARA_API_KEY", KEY)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")

    def run(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["almenara", "predict", *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
        out, err = capsys.readouterr()
        return int(ended.value.code or 0), out, err

    return run


def test_predict_image_asks_an_api(command: Callable[..., tuple[int, str, str]], url: str) -> None:
    Path("dark.jpg").write_bytes(DARK)
    Path("bright.jpg").write_bytes(BRIGHT)
    code, out, err = command("image", "dark.jpg", "bright.jpg", "--url", url, "--overlays", "drawn", "--json")
    assert (code, err) == (0, "")
    told = json.loads(out.splitlines()[-1])
    assert told["model"] == {"name": "outflow", "version": "1", "alias": "champion"}
    assert [told["verdicts"][name]["label"] for name in ("dark.jpg", "bright.jpg")] == ["anomaly", "normal"]
    assert told["verdicts"]["dark.jpg"]["heatmap"] is None
    assert images.read(Path("drawn/dark_overlay.jpg")).shape == (48, 64, 3)


def test_predict_recording_asks_an_api(command: Callable[..., tuple[int, str, str]], url: str) -> None:
    np.save("days.npy", np.stack([healthy_signal(1), faulty_signal(2)]))
    facts = ("--sampling-rate-hz", "12000", "--shaft-rpm", "1772", "--bearing", "6205-2RS")
    code, out, err = command("recording", "days.npy", "--url", url, *facts, "--json")
    assert (code, err) == (0, "")
    told = json.loads(out.splitlines()[-1])
    assert told["model"]["name"] == "bearing"
    assert list(told["verdicts"]) == ["days.npy#0", "days.npy#1"]


def test_predict_names_the_file_that_the_api_refuses(command: Callable[..., tuple[int, str, str]], url: str) -> None:
    Path("cut.jpg").write_bytes(DARK[:200])
    code, _, err = command("image", "cut.jpg", "--url", url)
    assert code == 2
    assert err.startswith("almenara: cut.jpg: ")


def test_predict_tells_that_an_api_is_away_or_wants_another_key(
    command: Callable[..., tuple[int, str, str]], url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("dark.jpg").write_bytes(DARK)
    code, _, err = command("image", "dark.jpg", "--url", f"http://127.0.0.1:{free_port()}")
    assert code == 2
    assert "No API answers at http://127.0.0.1:" in err
    monkeypatch.setenv("ALMENARA_API_KEY", "a-wrong-key")
    code, _, err = command("image", "dark.jpg", "--url", url)
    assert code == 2
    assert "a-wrong-key" not in err
    assert "X-API-Key" in err


# --- the guide --------------------------------------------------------------------------------------------


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with what the guide's examples read."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "frame.jpg").write_bytes(DARK)
    healthy_signal(1).astype("<f4").tofile(tmp_path / "window.f32")
    return tmp_path


@pytest.mark.parametrize("example", re.findall(r"```python\n(.*?)```", GUIDE, re.DOTALL))
def test_every_python_example_of_the_guide_runs(example: str, url: str, files: Path) -> None:
    script = example.replace("http://127.0.0.1:8000", url).replace("the key, if there is one", KEY)
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    if "overlay.jpg" in example:
        assert cv2.imread(str(files / "overlay.jpg")) is not None
    if "no-such-model" in example:
        assert done.stdout.startswith("404 model-unknown ")


@pytest.mark.parametrize("example", re.findall(r"```sh\n(curl .*?)```", GUIDE, re.DOTALL))
def test_every_curl_example_of_the_guide_runs(example: str, url: str, files: Path) -> None:
    script = "set -e\n" + example.replace("http://127.0.0.1:8000", url)
    environment = {"ALMENARA_API_KEY": KEY, "PATH": "/usr/local/bin:/usr/bin:/bin"}
    done = subprocess.run(
        ["bash", "-c", script], env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(("{", "["))
