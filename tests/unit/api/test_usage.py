"""How often a model answered, and how soon."""

from __future__ import annotations

import pytest

from almenara.contracts import ModelRef
from almenara_api.usage import Usage, UsageCount


def test_a_model_that_was_not_asked_has_answered_nothing() -> None:
    assert UsageCount().of("tank", "1") == Usage(requests=0, latency=None)


def test_answers_are_counted_and_their_times_told_in_quantiles() -> None:
    count = UsageCount()
    for milliseconds in range(1, 101):
        count.add(ModelRef(name="tank", version="1"), milliseconds / 1e3)
    count.add(ModelRef(name="pump", version="7"), 1.0)
    told = count.of("tank", "1")
    assert told.requests == 100
    assert told.latency is not None
    assert (told.latency.p50_ms, told.latency.p95_ms, told.latency.p99_ms) == pytest.approx((50.5, 95.05, 99.01))


def test_quantiles_are_of_the_latest_thousand() -> None:
    count = UsageCount()
    for seconds in (9.0,) * 500 + (0.001,) * 1000:
        count.add(ModelRef(name="tank", version="1"), seconds)
    told = count.of("tank", "1")
    assert told.requests == 1500
    assert told.latency is not None
    assert told.latency.p99_ms == 1


def test_a_new_version_begins_anew_and_late_answers_of_the_old_one_do_not_mix_in() -> None:
    count = UsageCount()
    for version in ("1", "2", "1", "2"):
        count.add(ModelRef(name="tank", version=version), 1.0)
    assert (count.of("tank", "1").requests, count.of("tank", "2").requests) == (2, 2)
    count.add(ModelRef(name="tank", version="3"), 1.0)
    assert count.of("tank", "1") == count.of("tank", None) == Usage()
    assert count.of("tank", "2").requests == 2
