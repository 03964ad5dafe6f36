"""Which capture threads are abandoned, and when it is too many."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import cast

import pytest

from camera_worker.camera import Camera
from camera_worker.capture import Capture, CaptureState
from camera_worker.playback import Playback
from camera_worker.slot import LatestFrame
from camera_worker.sources import ReadOptions, Source, SourceKind
from camera_worker.watchdog import Watchdog


class Thread(Capture):
    """A capture whose thread is as the test says."""

    def __init__(
        self,
        *,
        alive: bool = True,
        silent: float = 0.0,
        state: CaptureState = CaptureState.LIVE,
        connect: float = 3.0,
    ) -> None:
        super().__init__(Source(SourceKind.WEBCAM, "0"), LatestFrame(), options=ReadOptions(connect=connect))
        self.is_alive, self.silent, self.state = alive, silent, state

    @property
    def alive(self) -> bool:
        return self.is_alive

    @property
    def silence(self) -> float:
        return self.silent


@dataclass
class Watched:
    """What the watchdog sees of a camera."""

    capture: Capture | Playback
    watching: bool = True
    retired: list[Capture] = field(default_factory=list)
    name: str = "a"
    replaced: int = 0

    def replace_capture(self) -> None:
        self.replaced += 1
        self.capture = Thread()


def camera(capture: Capture | Playback, *, watching: bool = True) -> tuple[Watched, Camera]:
    made = Watched(capture, watching)
    return made, cast(Camera, made)


@pytest.mark.parametrize(
    ("thread", "replaced"),
    [
        (Thread(), 0),
        (Thread(silent=15), 1),
        (Thread(silent=64, connect=20), 0),
        (Thread(silent=65, connect=20), 1),
        (Thread(alive=False), 1),
        (Thread(alive=False, state=CaptureState.ENDED), 0),
        (Thread(alive=False, silent=20, state=CaptureState.ENDED), 0),
    ],
)
def test_a_thread_that_is_stuck_or_dead_is_replaced(thread: Thread, replaced: int) -> None:
    watchdog = Watchdog()
    watched, shown = camera(thread)
    assert not watchdog.look([shown])
    assert watched.replaced == watchdog.abandoned == replaced
    assert not watchdog.look([shown])
    assert watchdog.abandoned == replaced


def test_the_third_is_too_many_and_is_not_replaced() -> None:
    watchdog = Watchdog()
    cameras = [camera(Thread(silent=20)) for _ in range(3)]
    assert watchdog.look([shown for _, shown in cameras])
    assert [watched.replaced for watched, _ in cameras] == [1, 1, 0]


def test_a_camera_that_is_not_watched_now_has_no_thread_to_miss() -> None:
    watchdog = Watchdog()
    watched, shown = camera(Thread(alive=False, silent=100), watching=False)
    assert not watchdog.look([shown])
    assert watched.replaced == 0


def test_threads_of_cameras_that_ended_count_when_they_stick() -> None:
    watchdog = Watchdog()
    stuck, quick = Thread(), Thread()
    watchdog.leave(camera(stuck)[1])
    watched, shown = camera(Thread())
    watched.retired = [quick]
    watchdog.look([shown])
    assert watched.retired == []
    quick.is_alive, stuck.silent = False, 15.0
    watchdog.look([shown])
    assert watchdog.abandoned == 1
    watchdog.look([shown])
    assert watchdog.abandoned == 1


def test_three_stuck_threads_of_ended_cameras_are_too_many() -> None:
    watchdog = Watchdog()
    for _ in range(3):
        watchdog.leave(camera(Thread(silent=15))[1])
    assert watchdog.look([])


def test_a_file_that_is_read_on_demand_has_no_thread() -> None:
    watchdog = Watchdog()
    watched, shown = camera(Playback(Source(SourceKind.FILE, "a.mp4")))
    watchdog.leave(shown)
    assert not watchdog.look([shown])
    assert watched.replaced == 0
