"""The alarm store's two clocks: what people set goes by the wall also when the machine was suspended."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta

import pytest

from almenara.alarms import AlarmStore, Phase, Silence
from tests.support.alarms import NOW_RULE, Clock, observe, told

STALE_RULE = NOW_RULE.model_copy(update={"stale_after_seconds": 600})
TWO_HOURS = 7200.0


class LoosenedClock(Clock):
    """A clock whose wall may leave its monotonic seconds behind, as in a suspended machine."""

    ahead: float = 0.0

    def wall(self) -> datetime:
        return super().wall() + timedelta(seconds=self.ahead)


@pytest.fixture
def loose() -> LoosenedClock:
    return LoosenedClock()


@pytest.fixture
def loose_store(url: str, loose: LoosenedClock) -> Iterator[AlarmStore]:
    """It has seen one good reading."""
    with AlarmStore(url, wall_clock=loose.wall, monotonic=lambda: loose.seconds) as opened:
        observe(opened, loose, 0.1, STALE_RULE)
        yield opened


@pytest.mark.parametrize("jump", [TWO_HOURS, -TWO_HOURS])
def test_shelving_lasts_as_long_as_it_should_after_the_wall_clock_jumped(
    loose_store: AlarmStore, loose: LoosenedClock, jump: float
) -> None:
    loose.ahead += jump
    loose_store.shelve("outflow-1", "eva", 3600)
    for _ in range(7):
        assert told(loose_store) == []
        loose.forward(590)
        observe(loose_store, loose, 0.9, STALE_RULE)
    assert told(loose_store) == ["raised"]


def test_silence_holds_after_the_wall_clock_jumped(loose_store: AlarmStore, loose: LoosenedClock) -> None:
    loose.ahead += TWO_HOURS
    present = loose.wall()
    loose_store.silence(Silence(sources="*", starts_at=present, ends_at=present + timedelta(hours=1), user="eva"))
    loose.forward(60)
    observe(loose_store, loose, 0.9, STALE_RULE)
    assert told(loose_store) == []
    loose.forward(3600)
    loose_store.tick(loose.seconds)
    assert told(loose_store) == ["raised"]


def test_clocks_that_drift_apart_slowly_do_not_make_a_source_lost(
    loose_store: AlarmStore, loose: LoosenedClock
) -> None:
    observe(loose_store, loose, 0.9, STALE_RULE)
    loose.forward(598)
    loose.ahead += 4
    alarm = loose_store.acknowledge(loose_store.alarms()[0].id, "eva")
    assert alarm.phase is Phase.ACKNOWLEDGED
    assert loose_store.phase("outflow-1") is Phase.ACKNOWLEDGED


def test_message_is_not_late_because_the_wall_clock_jumped(loose_store: AlarmStore, loose: LoosenedClock) -> None:
    loose.ahead -= TWO_HOURS
    observe(loose_store, loose, 0.9, STALE_RULE)
    assert told(loose_store) == ["raised"]
    loose.forward(10)
    assert loose_store.overdue(loose.seconds) == 10
