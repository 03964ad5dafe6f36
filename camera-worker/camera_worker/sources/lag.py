"""How late a stream's pictures come, and whose fault it is: the reader's own, or the network's and the camera's."""

from __future__ import annotations

from collections import deque

_WINDOW_SECONDS = 30.0
_MOST_SECONDS = 1.0  # of lag, and of a step of the stream's clock that nothing explains
_PATIENCE_SECONDS = 1.0  # with a reader that cannot keep up
_PATIENCE_WITH_OTHERS_SECONDS = 10.0
_LEAST_CONNECTION_SECONDS = 30.0  # before it is ended for what a new one may not cure
_WAITING_SHARE = 0.5


class Lag:
    """Compares the times that a stream tells with those at which its pictures arrive, over one connection.

    The two clocks begin anywhere and drift apart, so the picture that came soonest in the last half minute counts as in
    time, and the others are as late as they come after it. A stream's clock that jumps, back or further ahead than the
    lag explains, begins anew: that is no lag. A reader that finds the next picture waiting whenever it asks is itself
    too slow; one that has to wait for it is not, whatever the lag.

    Attributes:
        seconds: by which the last picture is late; 0 while the stream tells no times.
    """

    def __init__(self) -> None:
        self.seconds = 0.0
        self._least: deque[tuple[int, float]] = deque()  # of each second of the window: its number, arrival - time
        self._begun_at: float | None = None
        self._last = (0.0, 0.0)  # arrival and time of the last picture
        self._late_since: float | None = None
        self._late_for = self._waited = 0.0

    def note(self, at: float | None, *, arrived: float, waited: float) -> None:
        """An encoded picture of the stream's time `at` has arrived, after `waited` seconds; `arrived` is monotonic."""
        if at is None:
            return
        self._begun_at = arrived if self._begun_at is None else self._begun_at
        step, passed = at - self._last[1], arrived - self._last[0]
        if step < -_MOST_SECONDS or step > passed + self.seconds + _MOST_SECONDS:
            self._least.clear()
        self._last = arrived, at
        self.seconds = arrived - at - self._least_until(arrived, arrived - at)
        if self.seconds <= _MOST_SECONDS:
            self._late_since = None
        elif self._late_since is None:
            self._late_since, self._late_for, self._waited = arrived, 0.0, 0.0
        else:
            self._late_for = arrived - self._late_since
            self._waited += waited

    @property
    def is_outdated(self) -> bool:
        """Whether the last picture is too old to be shown while newer ones wait to be read."""
        return self._late_since is not None and self._waited <= _WAITING_SHARE * self._late_for

    @property
    def reason(self) -> str:
        """Why the connection is to be ended and its pictures are to be dropped; empty while it is not."""
        if self._late_since is None or self._begun_at is None:
            return ""
        if self.is_outdated and self._late_for >= _PATIENCE_SECONDS:
            cure = "watch fewer cameras or a smaller stream, or say frames: keyframes"
            return f"this machine is too slow, its pictures came {self.seconds:.1f} s late: {cure}"
        lasted = self._last[0] - self._begun_at
        if self._late_for >= _PATIENCE_WITH_OTHERS_SECONDS and lasted >= _LEAST_CONNECTION_SECONDS:
            return f"its pictures came {self.seconds:.1f} s late: the network, or the camera, is too slow for them"
        return ""

    def _least_until(self, arrived: float, difference: float) -> float:
        """The least difference of the window, which ends with this one."""
        second = int(arrived)
        if self._least and self._least[-1][0] == second:
            difference = min(difference, self._least.pop()[1])
        self._least.append((second, difference))
        while self._least[0][0] <= arrived - _WINDOW_SECONDS:
            self._least.popleft()
        return min(least for _, least in self._least)
