"""Two versions side by side: what is compared, what decides, and what stands in the way."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import numpy as np
import pytest

from almenara.comparison import Comparison, Evaluated, compare, objection, plot
from almenara.contracts import Candidate, Card
from almenara.vision.images import decode
from tests.support.packages import classifier_candidate, novelty_candidate, vision_candidate

HONEST, LEAKING = "leave-one-fault-size-out", "random-window (leaking)"


def novelty() -> Candidate:
    width = len(classifier_candidate().probes[0])
    return novelty_candidate(np.random.default_rng(3).normal(size=(40, width)).astype(np.float32))


def changed(card: Card, **update: Any) -> Card:
    return card.model_copy(update=update)


def against(
    a: Card,
    b: Card,
    *,
    told: tuple[Mapping[str, str], Mapping[str, str]] = (MappingProxyType({}), MappingProxyType({})),
) -> Comparison:
    return compare(Evaluated("1", a, told[0]), Evaluated("2", b, told[1]))


def classifiers(a: float, b: float) -> Comparison:
    card = classifier_candidate().card
    return against(*(changed(card, metrics={HONEST: {"macro_f1": score}}) for score in (a, b)))


@pytest.mark.parametrize(
    ("champion", "version", "better"),
    [(0.9, 0.9, "same"), (0.9, 0.89, "same"), (0.9, 0.91, "same"), (0.9, 0.8899, "a"), (0.9, 0.95, "b")],
)
def test_differences_within_the_tolerance_are_the_same(champion: float, version: float, better: str) -> None:
    found = classifiers(champion, version)
    assert found.main is not None
    assert (found.comparable, found.main.better) == (True, better)
    assert (objection(found) is not None) == (better == "a")


def test_an_objection_gives_the_figures_and_the_way_on() -> None:
    found = objection(classifiers(0.912, 0.871))
    assert found is not None
    assert "macro_f1 (leave-one-fault-size-out) is 0.871 against 0.912; 0.01 is tolerated" in found.fact
    assert "almenara models compare bearing 1 2" in found.remedy
    assert "almenara models promote bearing 2 --force --reason" in found.remedy


def test_a_leaking_protocol_decides_nothing() -> None:
    card = classifier_candidate().card
    scores: list[dict[str, dict[str, float]]] = [{LEAKING: {"macro_f1": score}} for score in (0.9, 0.99)]
    found = against(*(changed(card, metrics=each) for each in scores))
    [figure] = found.figures
    assert (figure.leaks, figure.better, found.main) == (True, "b", None)


@pytest.mark.parametrize("leaking", [{}, {LEAKING: {"macro_f1": 0.9}}])
def test_where_neither_has_a_deciding_figure_nothing_says_that_one_is_worse(leaking: dict[str, Any]) -> None:
    card = changed(classifier_candidate().card, metrics=leaking)
    found = against(card, card)
    assert (found.comparable, found.main, objection(found)) == (True, None, None)
    other = against(card, changed(card, training_data={"fingerprint": "fedcba9876543210"}))
    assert "Train it on the champion's data" in str(objection(other))


@pytest.mark.parametrize("silent", ["1", "2"])
def test_a_deciding_figure_that_one_lacks_is_named(silent: str) -> None:
    held = classifier_candidate().card
    bare = changed(held, metrics={LEAKING: {"macro_f1": 0.99}})
    refused = objection(against(*((bare, held) if silent == "1" else (held, bare))))
    assert refused is not None
    assert "They have no deciding figure in common: version 1 has" in refused.fact
    assert f"version {silent} has none" in refused.fact
    assert "version {} has macro_f1 (leave-one-fault-size-out)".format({"1": "2", "2": "1"}[silent]) in refused.fact
    assert refused.remedy.startswith("Watch it beside the champion")


@pytest.mark.parametrize("metrics", [{}, {"group cross-validation": {"false_alarm_rate": 0.4}}])
def test_a_baseline_with_another_promise_is_not_compared(metrics: dict[str, Any]) -> None:
    card = changed(novelty().card, metrics=metrics)
    assert card.threshold is not None
    lax = changed(card, threshold=card.threshold.model_copy(update={"false_alarm_rate": 0.5}))
    assert against(card, lax).obstacles == ("They promise different false-alarm rates (0.05 and 0.5).",)
    assert objection(against(lax, card)) is not None


def test_lower_is_better_of_errors_and_counts_are_neither() -> None:
    card = classifier_candidate().card
    metrics: list[dict[str, dict[str, float]]] = [
        {HONEST: {"macro_f1": 0.9, "ece": ece, "windows": windows}} for ece, windows in ((0.2, 10.0), (0.05, 20.0))
    ]
    found = against(*(changed(card, metrics=each) for each in metrics))
    assert {figure.metric: figure.better for figure in found.figures} == {
        "macro_f1": "same",
        "ece": "b",
        "windows": None,
    }


def test_other_data_are_not_compared() -> None:
    card = vision_candidate().card
    other = against(card, changed(card, training_data={"fingerprint": "fedcba9876543210"}))
    assert other.obstacles == (
        "They were evaluated on different data (fingerprint drawn of version 1, fedcba987654 of version 2).",
    )
    silent = against(card, changed(card, training_data={}))
    assert silent.obstacles == ("Version 2 does not say which data it saw (training_data.fingerprint).",)


def test_pictures_are_compared_on_the_same_held_out_groups() -> None:
    card = vision_candidate().card
    drawn = {"seed": "0", "false_alarm_rate": "0.05"}
    assert against(card, card, told=(drawn, drawn)).comparable
    assert against(card, card, told=(drawn, {})).comparable
    assert "drawn differently (seed 0 and 1)" in against(card, card, told=(drawn, drawn | {"seed": "1"})).obstacles[0]


def test_windows_of_another_length_are_not_compared() -> None:
    card = classifier_candidate().card
    longer = changed(card, input=card.input.model_copy(update={"window_seconds": 2.0}))
    assert against(card, longer).obstacles == ("Their figures count windows of 1.0 s and 2.0 s.",)


@pytest.mark.parametrize(("rate", "refused"), [(0.0, False), (0.049, False), (0.055, False), (0.09, True)])
def test_a_baseline_that_keeps_its_promise_is_as_good_as_any(rate: float, refused: bool) -> None:
    card = novelty().card
    again = changed(card, metrics={"group cross-validation": {"false_alarm_rate": rate, "promised": 0.05}})
    found = against(card, again)
    assert found.main is not None
    assert found.main.metric == "false alarms above the promise"
    assert (objection(found) is not None) == refused


def test_pictures_without_defects_are_judged_by_false_alarms() -> None:
    card = vision_candidate().card
    plain = changed(card, metrics={"held-out-groups": {"false_alarm_rate": 0.02}})
    found = against(plain, changed(card, metrics={"held-out-groups": {"false_alarm_rate": 0.2}}))
    assert objection(found) is not None
    assert objection(against(plain, plain)) is None


def test_a_plot_is_drawn_even_of_a_version_without_figures() -> None:
    card = vision_candidate().card
    for found in (
        classifiers(0.9, 0.8),
        against(card, changed(card, metrics={})),
        against(*[changed(card, metrics={})] * 2),
    ):
        assert min(decode(plot(found), max_pixels=10**7).shape[:2]) > 200
