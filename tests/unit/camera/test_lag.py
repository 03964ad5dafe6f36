"""What counts as a late picture, and whose fault it is."""

from __future__ import annotations

import random

import pytest

from camera_worker.sources.lag import Lag


class Stream:
    """A camera's stream of 10 pictures a second as a reader sees it; its clock began at 5000 s, the reader's at 100."""

    def __init__(self) -> None:
        self.lag = Lag()
        self.at, self.now = 5000.0, 100.0

    def arrive(self, pictures: int, *, apart: float, waiting: float = 0.9, step: float = 0.1) -> str:
        """So many pictures, `apart` seconds, the share `waiting` of it spent waiting; the first reason to end."""
        for _ in range(pictures):
            self.at, self.now = self.at + step, self.now + apart
            self.lag.note(self.at, arrived=self.now, waited=waiting * apart)
            if self.lag.reason:
                return self.lag.reason
        return ""


@pytest.fixture
def stream() -> Stream:
    made = Stream()
    assert made.arrive(100, apart=0.1) == ""
    return made


def test_a_reader_that_cannot_keep_up_is_told_before_its_pictures_are_three_seconds_old(stream: Stream) -> None:
    reason = stream.arrive(100, apart=0.18, waiting=0.05)
    assert reason.startswith("this machine is too slow, its pictures came")
    assert 1.0 < stream.lag.seconds < 3.0


def test_no_picture_older_than_a_second_is_shown_while_newer_ones_wait(stream: Stream) -> None:
    for _ in range(40):
        stream.arrive(1, apart=0.18, waiting=0.05)
        assert stream.lag.is_outdated == (stream.lag.seconds > 1)


def test_a_hiccup_that_is_made_up_for_ends_nothing_and_its_old_pictures_are_passed_over(stream: Stream) -> None:
    assert stream.arrive(1, apart=2.5) == ""
    assert stream.lag.is_outdated
    assert stream.arrive(24, apart=0.01, waiting=0.2) == ""
    assert stream.lag.seconds < 0.3
    assert not stream.lag.is_outdated


def test_a_camera_that_sends_in_bursts_is_never_ended(stream: Stream) -> None:
    for _ in range(40):
        assert stream.arrive(1, apart=2.9) == ""
        assert stream.arrive(29, apart=0.1 / 29, waiting=0.3) == ""


@pytest.mark.parametrize("drift", [-0.002, 0.002])
def test_clocks_that_drift_apart_are_no_lag(stream: Stream, drift: float) -> None:
    assert stream.arrive(36_000, apart=0.1 * (1 + drift), waiting=0.1) == ""
    assert stream.lag.seconds < 0.1


@pytest.mark.parametrize("jump", [-3600.0, -1.5, 1.5, 3600.0])
def test_a_clock_that_jumps_is_no_lag(stream: Stream, jump: float) -> None:
    for _ in range(5):
        stream.at += jump
        assert stream.arrive(100, apart=0.1, waiting=0.1) == ""
        assert stream.lag.seconds < 0.2


def test_pictures_out_of_order_are_no_lag(stream: Stream) -> None:
    for _ in range(200):
        begun_at = stream.at
        for place in (4, 1, 2, 3):  # as with B-frames: all sent when the last has been seen
            stream.lag.note(begun_at + 0.2 * place, arrived=stream.now + 0.8, waited=0.0)
            assert not stream.lag.reason
            assert not stream.lag.is_outdated
        stream.at, stream.now = begun_at + 0.8, stream.now + 0.8


def test_pictures_that_arrive_irregularly_are_no_lag(stream: Stream) -> None:
    uneven = random.Random(1)
    for _ in range(3000):
        stream.at += 0.1
        stream.lag.note(stream.at, arrived=stream.at - 4900 + uneven.uniform(0, 0.9), waited=0.0)
        assert not stream.lag.reason


def test_a_stream_without_times_has_no_lag() -> None:
    lag = Lag()
    for second in range(100):
        lag.note(None, arrived=float(second * second), waited=0.0)
    assert (lag.seconds, lag.reason, lag.is_outdated) == (0.0, "", False)


def test_a_network_too_slow_for_the_stream_is_told_once_the_connection_has_lasted(stream: Stream) -> None:
    """Its pictures are shown meanwhile, since no newer ones wait."""
    begun_at = 100.0
    assert "the network, or the camera, is too slow" in stream.arrive(1000, apart=0.12)
    assert stream.now - begun_at >= 30
    assert not stream.lag.is_outdated
