"""Challengers in the shadow: compared in spare time, dropped when there is none, never in the way."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from starlette.background import BackgroundTask

from almenara.contracts import Candidate
from almenara.vision import images
from almenara_api.cache import ModelCache
from almenara_api.loading import Loaded
from almenara_api.metrics import Metrics
from almenara_api.shadow import Comparison, Shadow, judge_pictures, judge_signals
from almenara_api.signals import RAW, VibrationQuery, parse
from almenara_api.store import ModelStore
from tests.support.api import FolderRegistry, healthy_features, healthy_signal, wait_until
from tests.support.packages import classifier_candidate, novelty_candidate, vision_candidate

GREY = images.encode_png(np.full((32, 32, 3), 190, dtype=np.uint8))


class Bench:
    """A store with champion and challenger of one name, and their shadow."""

    def __init__(self, root: Path) -> None:
        self.registry = FolderRegistry(root / "registry")
        self.store = ModelStore(lambda: self.registry, ModelCache(root / "cache", "here"), 60)
        self.busy = threading.Event()
        self.metrics = Metrics()
        self.shadow = Shadow(
            lambda: self.store.snapshot.challengers, lambda: not self.busy.is_set(), self.metrics.shadow
        )

    def load(self, champion: Candidate, challenger: Candidate) -> Loaded:
        """Both in service; the champion."""
        self.registry.register(champion)
        self.registry.challenge(challenger, "2")
        self.store.refresh()
        return self.store.snapshot.loaded[champion.card.name]

    def comparison(self, name: str) -> Comparison:
        return self.shadow.comparison(self.store.snapshot.challengers[name])

    def told(self, metric: str, **labels: str) -> float | None:
        return self.metrics.registry.get_sample_value(metric, labels)


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    made = Bench(tmp_path)
    made.shadow.start()
    yield made
    made.shadow.close()


def after(task: BackgroundTask | None) -> None:
    """What the server does once the answer is sent."""
    assert task is not None
    asyncio.run(task())


def test_a_challenger_is_compared_with_its_champion(bench: Bench) -> None:
    champion = bench.load(vision_candidate(), vision_candidate(offset=0.01))
    for _ in range(3):
        after(bench.shadow.after_answer(judge_pictures([GREY, GREY], 10**6), champion.model))
    wait_until(lambda: bench.comparison("darkness").requests == 3, 20)
    found = bench.comparison("darkness")
    assert (found.dropped, found.failed, found.labels_differ) == (0, 0, 0)
    assert found.largest_difference is not None
    assert found.mean_difference == pytest.approx(found.largest_difference, abs=1e-6)
    assert found.largest_difference > 0.01
    assert found.champion_p50_ms is not None
    assert found.challenger_p50_ms is not None
    labels = {"name": "darkness", "version": "2"}
    assert bench.told("almenara_shadow_requests_total", **labels, outcome="compared") == 3
    assert bench.told("almenara_shadow_difference_count", **labels) == 6
    assert bench.told("almenara_shadow_seconds_count", name="darkness", model="challenger") == 3


def test_labels_that_differ_are_counted(bench: Bench) -> None:
    champion = bench.load(vision_candidate(), vision_candidate(offset=-0.9))
    dark = images.encode_png(np.zeros((32, 32, 3), dtype=np.uint8))
    after(bench.shadow.after_answer(judge_pictures([dark], 10**6), champion.model))
    wait_until(lambda: bench.comparison("darkness").requests == 1, 20)
    assert bench.comparison("darkness").labels_differ == 1


@pytest.mark.parametrize("candidate", [classifier_candidate(), novelty_candidate(healthy_features())])
def test_signals_are_judged_by_challengers_of_classifiers_and_baselines(bench: Bench, candidate: Candidate) -> None:
    champion = bench.load(candidate, candidate)
    query = VibrationQuery(sampling_rate_hz=12_000, shaft_rpm=1772, bearing="6205-2RS")
    posted = parse(healthy_signal(1).tobytes(), RAW, query, 100_000)
    after(bench.shadow.after_answer(judge_signals(posted), champion.model, None))
    name = candidate.card.name
    wait_until(lambda: bench.comparison(name).requests == 1, 20)
    assert bench.comparison(name).largest_difference == 0


def test_without_spare_time_what_does_not_fit_is_dropped_and_counted(bench: Bench) -> None:
    champion = bench.load(vision_candidate(), vision_candidate())
    bench.busy.set()
    for _ in range(30):
        after(bench.shadow.after_answer(judge_pictures([GREY], 10**6), champion.model))
    found = bench.comparison("darkness")
    assert found.requests == 0
    assert 20 <= found.dropped <= 22
    bench.busy.clear()
    wait_until(lambda: bench.comparison("darkness").requests == 30 - found.dropped, 20)


def test_a_challenger_that_fails_is_counted_and_the_next_input_is_compared(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    champion = bench.load(vision_candidate(), vision_candidate())
    challenger = bench.store.snapshot.challengers["darkness"].model
    with monkeypatch.context() as patched:
        patched.setattr(challenger, "predict", fails)
        after(bench.shadow.after_answer(judge_pictures([GREY], 10**6), champion.model))
        wait_until(lambda: bench.comparison("darkness").failed == 1, 20)
    assert bench.comparison("darkness").last_failure == "ZeroDivisionError: nothing to divide by"
    after(bench.shadow.after_answer(judge_pictures([GREY], 10**6), champion.model))
    wait_until(lambda: bench.comparison("darkness").requests == 1, 20)


def fails(*_: Any) -> Callable[..., Any]:
    raise ZeroDivisionError("nothing to divide by")


def test_another_challenger_begins_anew(bench: Bench) -> None:
    champion = bench.load(vision_candidate(), vision_candidate())
    after(bench.shadow.after_answer(judge_pictures([GREY], 10**6), champion.model))
    wait_until(lambda: bench.comparison("darkness").requests == 1, 20)
    bench.registry.challenge(vision_candidate(), "3")
    bench.store.refresh()
    assert bench.comparison("darkness") == Comparison()


def test_without_a_challenger_nothing_is_to_do_after_the_answer(bench: Bench) -> None:
    bench.registry.register(vision_candidate())
    bench.store.refresh()
    model = bench.store.snapshot.loaded["darkness"].model
    assert bench.shadow.after_answer(judge_pictures([GREY], 10**6), model) is None
