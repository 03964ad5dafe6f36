"""Whether a live stream is worse than it should be: too many damaged pictures, or too few at all."""

from __future__ import annotations

_DAMAGED_SHARE = (0.05, 0.10)  # degraded above the second, well again at the first
_RATE_SHARE = (0.8, 0.9)  # degraded below the first, well again at the second
_FIRST_LOOK_SECONDS = 3.0
_RATE_WINDOW_SECONDS = 10.0


class StreamHealth:
    """Judges one stream again and again; two limits each, so that a stream at a limit does not flap.

    A connection is left alone for its first seconds, and its rate until the time that the rate is taken over has
    passed: both would still be those of the loss before it.

    Args:
        wanted: pictures a second that are to be scored; None when the rate says nothing, as with key frames only.
    """

    def __init__(self, wanted: float | None) -> None:
        self._wanted = wanted
        self._connection = 0
        self._since = 0.0
        self._damaged = self._slow = False

    def judge(self, now: float, connection: int, *, damaged_share: float, fps: float) -> str:
        """What is wrong with the stream at `now` (monotonic), in words; nothing when it is well.

        `connection` is its number; `damaged_share`, 0 to 1, and `fps`, pictures a second, are of the last ten seconds.
        """
        if connection != self._connection:
            self._connection, self._since = connection, now
            self._damaged = self._slow = False
        age = now - self._since
        if age >= _FIRST_LOOK_SECONDS:
            self._damaged = damaged_share > _DAMAGED_SHARE[0 if self._damaged else 1]
        if self._wanted is not None and age >= _RATE_WINDOW_SECONDS:
            self._slow = fps < self._wanted * _RATE_SHARE[1 if self._slow else 0]
        if self._damaged:
            return f"{damaged_share:.0%} of its pictures are damaged"
        return f"it sends {fps:.1f} pictures a second, {self._wanted:g} are to be scored" if self._slow else ""
