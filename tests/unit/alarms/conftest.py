"""An alarm database in a temporary folder and a clock that stands."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from almenara.alarms import AlarmStore
from tests.support.alarms import Clock


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'alarms' / 'alarms.db'}"


@pytest.fixture
def store(url: str, clock: Clock) -> Iterator[AlarmStore]:
    with AlarmStore(url, channels=("log", "mail"), wall_clock=clock.wall) as opened:
        yield opened
