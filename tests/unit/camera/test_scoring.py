"""What becomes of prepared pictures: verdicts, or the word that there is none, and since when."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Coroutine
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from almenara.alarms import Phase
from almenara.contracts import ModelRef, Observation, VisionVerdict
from camera_worker.client import ApiAwayError, ApiRefusedError, MalformedVerdictError, PictureRefusedError
from camera_worker.config import CameraConfig
from camera_worker.history import History
from camera_worker.picture import Prepared
from camera_worker.quality import Condition
from camera_worker.scoring import Picture, Scoring
from camera_worker.slot import Frame
from camera_worker.states import Blindness, Scored
from camera_worker.threads import OwnThread

VERDICT = VisionVerdict(
    model=ModelRef(name="wall", version="3"), label="normal", score=1, anomaly=0.1, p_value=0.5, threshold=5
)
AWAY = ApiAwayError("The API is away.")


class Bench:
    """Scoring with a client, a store and a clock that do as they are told."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        self.answer: Exception | None = None
        self.store_fails = False
        self.observed: list[float | None] = []
        self.reported_in: list[threading.Thread] = []
        monkeypatch.setattr("camera_worker.scoring.time", SimpleNamespace(monotonic=lambda: self.now))
        self.thread = OwnThread("own")
        self.history = History(5, 5)
        config = CameraConfig.model_validate({"name": "outflow", "source": "rtsp://camera/", "model": "wall"})
        client: Any = SimpleNamespace(predict=self.predict)
        self.scoring = Scoring(config, client, self.history, self.thread, alarms=self, report=self.report)

    async def predict(self, *_: object, **__: object) -> VisionVerdict:
        if self.answer:
            raise self.answer
        return VERDICT

    def observe(self, observation: Observation, now: float, scored: Scored | None) -> Phase:
        if self.store_fails:
            raise OSError("no space left")
        self.observed.append(observation.anomaly)
        return Phase.NORMAL

    def report(self, _: Scored) -> None:
        self.reported_in.append(threading.current_thread())

    async def take(
        self,
        answer: Exception | None = None,
        *,
        after: float = 0.0,
        condition: Condition = Condition.GOOD,
        position: float | None = None,
    ) -> bool:
        """What `Scoring.take` says of a picture taken `after` so many seconds."""
        self.now += after
        self.answer = answer
        frame = Frame(np.zeros((2, 2, 3), np.uint8), self.now if position is None else position, NOON, 1, 1)
        picture = Picture(frame, Prepared(b"jpeg", condition), self.now - 0.05, position)
        return await self.scoring.take(picture)

    async def lose(self, *, after: float = 0.0, blindness: Blindness = Blindness.CAMERA) -> None:
        self.now += after
        await self.scoring.be_blind(self.now, blindness, "as the test wants it")

    def run(self, work: Coroutine[Any, Any, None]) -> None:
        try:
            asyncio.run(work)
        finally:
            self.thread.end()

    @property
    def blind_for(self) -> float | None:
        since = self.scoring.blind_since
        return None if since is None else self.now - since


NOON = datetime(2026, 3, 4, 12, tzinfo=UTC)


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Bench:
    return Bench(monkeypatch)


@pytest.mark.parametrize("condition", [None, Condition.BLACK])
def test_time_without_a_picture_is_no_time_without_a_verdict(bench: Bench, condition: Condition | None) -> None:
    async def work() -> None:
        await (bench.take(condition=condition) if condition else bench.lose())
        await bench.take(AWAY, after=600)
        assert bench.scoring.blindness is Blindness.API
        assert bench.blind_for == 0
        await bench.take(AWAY, after=7)
        assert bench.blind_for == 7

    bench.run(work())


def test_time_without_a_verdict_is_no_time_without_a_picture(bench: Bench) -> None:
    async def work() -> None:
        await bench.take(AWAY)
        await bench.lose(after=29)
        assert bench.blind_for == 0
        await bench.lose(after=3)
        assert bench.blind_for == 3

    bench.run(work())


def test_a_camera_that_comes_and_goes_does_not_hide_that_verdicts_are_missing(bench: Bench) -> None:
    """Two seconds with pictures and eight without, again and again: the first add up."""

    async def work() -> None:
        for _ in range(5):
            await bench.take(AWAY)
            await bench.take(AWAY, after=2)
            await bench.lose()
            bench.now += 8
        await bench.take(AWAY)
        assert bench.blind_for == 10
        await bench.take()
        assert bench.blind_for is None
        await bench.take(AWAY, after=1)
        assert bench.blind_for == 0

    bench.run(work())


def test_an_error_in_every_turn_is_blindness_that_lasts(bench: Bench) -> None:
    def fail(_: Scored) -> None:
        raise RuntimeError("as the test wants it")

    bench.scoring._report = fail

    async def work() -> None:
        for _ in range(3):
            with pytest.raises(RuntimeError, match="as the test wants it"):
                await bench.take(after=5)
            await bench.lose(blindness=Blindness.ERROR)
        assert bench.blind_for == 10
        await bench.take(AWAY)
        await bench.take(AWAY)
        assert bench.blind_for == 0

    bench.run(work())


def test_an_api_that_flickers_fills_neither_log_nor_store(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    async def work() -> None:
        with caplog.at_level(logging.INFO):
            for _ in range(20):
                await bench.take(AWAY, after=0.12)
                assert bench.scoring.blindness is Blindness.API
                assert not bench.scoring.sees
                await bench.take(after=0.12)
                assert bench.scoring.blindness is None
                assert bench.scoring.sees

    bench.run(work())
    assert bench.observed == [0.1] * 20
    assert "scored" not in caplog.text
    assert None in {moment.anomaly for moment in bench.history.around(bench.now)}  # what evidence shows is complete


def test_verdicts_that_miss_for_a_second_are_told_once_and_so_is_their_return(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    async def work() -> None:
        with caplog.at_level(logging.INFO):
            for _ in range(6):
                await bench.take(AWAY, after=0.3)
            await bench.take(after=0.3)

    bench.run(work())
    assert bench.observed == [None, None, 0.1]
    assert caplog.text.count("outflow: nothing can be scored: The API is away.") == 1
    assert caplog.text.count("outflow: frames are scored again.") == 1


def test_a_second_of_a_file_without_verdicts_is_told_however_fast_it_passes(bench: Bench) -> None:
    async def work() -> None:
        for tenth in range(12):
            await bench.take(MalformedVerdictError("No verdict."), after=0.01, position=tenth / 10)

    bench.run(work())
    assert bench.observed == [None, None]


def test_a_camera_that_is_lost_is_told_at_once(bench: Bench) -> None:
    bench.run(bench.lose())
    assert bench.observed == [None]


@pytest.mark.parametrize(
    ("answer", "done"),
    [
        (None, True),
        (PictureRefusedError("It is too large."), True),
        (MalformedVerdictError("No verdict."), True),
        (ApiRefusedError("There is no such model."), False),
        (AWAY, False),
    ],
)
def test_only_an_answer_about_the_picture_itself_ends_the_asking(
    bench: Bench, answer: Exception | None, done: bool
) -> None:
    async def work() -> None:
        assert await bench.take(answer) is done

    bench.run(work())
    assert bench.scoring.counters.refused == isinstance(answer, ApiRefusedError)


def test_ages_are_those_of_scored_pictures_alone(bench: Bench) -> None:
    async def work() -> None:
        for answer in (AWAY, None, ApiRefusedError("Not now."), None):
            await bench.take(answer)
        await bench.take(condition=Condition.BLACK)

    bench.run(work())
    ages = bench.scoring.counters.ages
    assert ages.buckets[-1] == ("+Inf", 2)
    assert ages.total == pytest.approx(0.1, abs=1e-6)


@pytest.mark.parametrize(("position", "in_loop"), [(None, True), (1.0, False)])
def test_only_the_verdicts_of_a_file_may_wait_for_their_reader(
    bench: Bench, position: float | None, in_loop: bool
) -> None:
    async def work() -> None:
        await bench.take(position=position)
        assert (bench.reported_in == [threading.current_thread()]) is in_loop

    bench.run(work())


def test_nothing_known_before_a_new_start_holds_after_it(bench: Bench) -> None:
    async def work() -> None:
        await bench.take()
        bench.scoring.start_anew()
        assert not bench.scoring.sees
        assert bench.scoring.blindness is None
        await bench.take()
        assert bench.scoring.sees

    bench.run(work())


def test_whether_the_store_took_it_is_told(bench: Bench) -> None:
    answers: list[bool] = []

    async def work() -> None:
        for fails in (True, False):
            bench.store_fails = fails
            answers.append(await bench.scoring.be_unknown(bench.now, "outside its schedule"))

    bench.run(work())
    assert answers == [False, True]
    assert bench.scoring.counters.store_failures == 1
