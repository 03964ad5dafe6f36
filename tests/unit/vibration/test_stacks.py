"""A stack of signals gets the verdicts that each would get alone, and an error touches no neighbour."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from almenara import servable
from almenara.contracts import ModelRef, VibrationVerdict
from almenara.errors import InputError
from almenara.servable import Asked, NoveltyModel, Package, VibrationModel
from tests.support.api import faulty_signal, healthy_features, healthy_signal
from tests.support.packages import classifier_candidate, novelty_candidate


def model() -> VibrationModel:
    candidate = classifier_candidate()
    return VibrationModel(Package(candidate.card, candidate.graph), ModelRef(name="bearing", version="1"))


def baseline(name: str, factor: float) -> NoveltyModel:
    candidate = novelty_candidate(healthy_features() * factor, name=name)
    return NoveltyModel(Package(candidate.card, candidate.graph), ModelRef(name=name, version="1"))


def numbers(verdict: VibrationVerdict) -> list[float]:
    return [
        *verdict.probabilities.values(),
        verdict.rms,
        *(() if verdict.severity is None else (verdict.severity.velocity_rms_mm_s,)),
        *(() if verdict.novelty is None else (verdict.novelty.score, verdict.novelty.anomaly)),
        *(value for peak in verdict.evidence for value in (peak.frequency_hz, peak.snr_db)),
    ]


def words(verdict: VibrationVerdict) -> dict[str, Any]:
    fields = ("label", "abstained", "quality", "windows", "unit", "severity_reason", "model", "reason")
    novelty = verdict.novelty and (verdict.novelty.label, verdict.novelty.model)
    zone = verdict.severity and verdict.severity.zone
    return {field: getattr(verdict, field) for field in fields} | {"novelty": novelty, "zone": zone}


def alone(judge: VibrationModel, asked: Asked) -> VibrationVerdict | InputError:
    try:
        return judge.predict(
            asked.signal,
            asked.sampling_rate_hz,
            shaft_rpm=asked.shaft_rpm,
            bearing=asked.bearing,
            unit=asked.unit,
            novelty=asked.novelty,
            machine=asked.machine,
        )
    except InputError as error:
        return error


def mixed() -> list[Asked]:
    first, second = baseline("one", 1), baseline("other", 1.5)
    broken = healthy_signal(3)
    broken[7] = np.nan
    return [
        Asked(healthy_signal(0), 12_000, 1772, "6205-2RS"),
        Asked(faulty_signal(1), 12_000, 1797, "6205-2RS", "g", first),
        Asked(broken, 12_000, 1772, "6205-2RS"),
        Asked(faulty_signal(2), 12_000, 900, "6203-2RS", "m/s²", second),
        Asked(healthy_signal(4), 12_000, 1772, "no such bearing"),
        Asked(healthy_signal(5, 2048), 12_000, 1750, "6205-2RS", None, first),
        Asked(healthy_signal(6, 30_000), 12_000, 1772, "6205-2RS", None, first),
        Asked(healthy_signal(7, 25_600), 25_600, 1772, "6205-2RS"),
        Asked(faulty_signal(11), 12_000, 1772, "6205-2RS", "m/s2", first, "group1-flexible"),
        Asked(healthy_signal(8), 12_000, None, "6205-2RS"),
        Asked(healthy_signal(9), 12_000, 30, "6205-2RS"),
        Asked(np.zeros(12_000, np.float32), 12_000, 1772, "6205-2RS"),
        Asked(faulty_signal(10), 12_000, 1730, "6205-2RS", "mm", first),
    ]


def test_a_stack_says_of_each_what_it_says_of_it_alone() -> None:
    judge, asked = model(), mixed()
    stacked = judge.judge(asked, judge.prepare(asked))
    assert len(stacked) == len(asked)
    for each, together in zip(asked, stacked, strict=True):
        single = alone(judge, each)
        if isinstance(single, InputError):
            assert isinstance(together, InputError)
            assert (together.code, together.fact) == (single.code, single.fact)
        else:
            assert isinstance(together, VibrationVerdict)
            assert words(together) == words(single)
            np.testing.assert_allclose(numbers(together), numbers(single), rtol=1e-4, atol=1e-4)


def test_the_errors_of_a_stack_are_those_of_their_own_signals() -> None:
    judge, asked = model(), mixed()
    codes = {index: each.code for index, each in enumerate(judge.prepare(asked)) if isinstance(each, InputError)}
    assert codes == {
        2: "window-not-finite",
        4: "unknown-bearing",
        9: "shaft-rpm-missing",
        10: "shaft-rpm-invalid",
        11: "window-constant",
    }


def test_a_stack_of_errors_alone_is_judged_too() -> None:
    judge, asked = model(), [mixed()[2]]
    assert [type(each) for each in judge.judge(asked, judge.prepare(asked))] == [InputError]
    assert judge.judge([], judge.prepare([])) == []


def test_the_classifier_runs_once_for_a_stack(monkeypatch: pytest.MonkeyPatch) -> None:
    judge, asked = model(), [Asked(healthy_signal(seed), 12_000, 1772, "6205-2RS") for seed in range(4)]
    sizes: list[int] = []
    run = servable.Package.run

    def counted(package: Package, rows: NDArray[Any]) -> dict[str, NDArray[Any]]:
        sizes.append(len(rows))
        return run(package, rows)

    monkeypatch.setattr(servable.Package, "run", counted)
    assert len(judge.judge(asked, judge.prepare(asked))) == 4
    assert sizes == [4]
