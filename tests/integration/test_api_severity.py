"""Severity over HTTP: of what was said about the samples, and why not where it was not said."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from almenara.client import Almenara
from almenara.contracts import VibrationVerdict
from tests.support.api import RunningApi, cache_champions, running_api
from tests.support.packages import classifier_candidate
from tests.support.posting import POSTED, VIBRATION, post_window, problem_of

TIME = np.arange(12_000) / 12_000
SHAKEN = (0.2 * np.sin(2 * np.pi * 31.7 * TIME) + 1).astype(np.float32)
"""In g: 0.2 g at 31.7 Hz are 6.96 mm/s r.m.s."""


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningApi]:
    var_dir = tmp_path_factory.mktemp("api") / "var"
    cache_champions(var_dir, [classifier_candidate()])
    with running_api(var_dir, {}) as running:
        yield running


def test_a_window_with_unit_and_machine_has_velocity_and_zone(api: RunningApi) -> None:
    verdict = VibrationVerdict.model_validate_json(post_window(api, SHAKEN, unit="g", machine="group2-rigid").content)
    assert verdict.severity is not None
    assert verdict.severity.velocity_rms_mm_s == pytest.approx(6.96, rel=5e-3)
    assert (verdict.severity.from_hz, verdict.severity.to_hz) == (10, 1000)
    assert (verdict.severity.machine, verdict.severity.zone) == ("group2-rigid", "D")
    assert verdict.severity_reason is None


def test_without_a_unit_it_is_null_and_with_one_the_zone_waits_for_a_machine(api: RunningApi) -> None:
    unsaid = post_window(api, SHAKEN, machine="group2-rigid").json()
    assert unsaid["severity"] is None
    assert "none is assumed" in unsaid["severity_reason"]
    unknown = post_window(api, SHAKEN, unit="g").json()
    assert unknown["severity"]["velocity_rms_mm_s"] == pytest.approx(6.96, rel=5e-3)
    assert (unknown["severity"]["machine"], unknown["severity"]["zone"]) == (None, None)
    assert "group1-flexible" in unknown["severity_reason"]


def test_each_of_several_signals_has_its_own(api: RunningApi) -> None:
    signals = [(SHAKEN * share).tolist() for share in (0.1, 0.9, 2)]
    told = {**POSTED, "unit": "g", "machine": "group1-flexible"}
    answer = api.http.post(VIBRATION, json={"signals": signals, **told}).json()
    assert [each["severity"]["zone"] for each in answer["verdicts"]] == ["A", "B", "D"]


def test_a_tail_that_is_not_finite_leaves_the_verdict_and_costs_the_severity(api: RunningApi) -> None:
    broken = np.concatenate([SHAKEN, np.full(150, np.nan, np.float32)])
    answer = post_window(api, broken, unit="g")
    assert answer.status_code == 200, answer.text
    assert answer.json()["severity"] is None
    assert "not finite" in answer.json()["severity_reason"]


def test_the_python_client_asks_for_it_and_has_it(api: RunningApi) -> None:
    with Almenara(str(api.http.base_url)) as client:
        verdict = client.vibration.predict(
            "bearing",
            SHAKEN,
            sampling_rate_hz=12_000,
            shaft_rpm=1772,
            bearing="6205-2RS",
            unit="g",
            machine="group1-flexible",
        )
    assert verdict.severity is not None
    assert verdict.severity.zone == "B"


def test_a_machine_that_the_standard_does_not_have_is_refused(api: RunningApi) -> None:
    refused = post_window(api, SHAKEN, unit="g", machine="group3")
    assert problem_of(refused) == (422, "parameters-invalid")
    assert "group2-rigid" in refused.json()["detail"]
