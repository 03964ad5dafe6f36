"""Blindness that lasts becomes an alarm: one of the camera, or one of detection as a whole."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

DETECTION = "detection"
"""Source of the alarm that verdicts are missing, whatever the number of cameras."""


@dataclass(frozen=True)
class Sighting:
    """How one camera that should be scored stands at a moment.

    Attributes:
        sees: its last picture was scored; False also for a camera of which nothing is known yet.
        blind_since: when blindness was noticed, seconds (monotonic); None when it is not blind.
        of_detection: it is blind because the API gives no verdict on its pictures.
        reason: why it is blind, without credentials.
    """

    camera: str
    sees: bool = False
    blind_since: float | None = None
    of_detection: bool = False
    reason: str = ""


@dataclass(frozen=True)
class SystemAlarm:
    """An alarm of the platform itself that is to stand (`blind`) or to end."""

    source: str
    blind: bool
    reason: str


class Sight:
    """Decides which blindness is an alarm; a function of what it is told, without clock or store.

    A camera that gives no scorable picture has an alarm of its own, ``CAMERA/sight``. Missing verdicts are one alarm,
    ``detection``, that names the cameras. An alarm stands until the opposite is known: that of detection does not end
    because the last camera went offline too, or is not watched now. Such a camera itself is not blind.

    Each source is told once at first sight also when it is well, which ends an alarm that an earlier process left.

    Args:
        blind_after: seconds after which blindness is an alarm.
    """

    def __init__(self, blind_after: float) -> None:
        self.blind_after = blind_after
        self._blind: dict[str, bool] = {}
        self._untold: dict[str, SystemAlarm] = {}

    @property
    def detection_blind(self) -> bool:
        """Whether verdicts have been missing for `blind_after` seconds."""
        return self._blind.get(DETECTION, False)

    @property
    def untold(self) -> tuple[SystemAlarm, ...]:
        """What the alarm store is still to be told."""
        return tuple(self._untold.values())

    def told(self, alarm: SystemAlarm) -> None:
        """The alarm store has taken `alarm`."""
        if self._untold.get(alarm.source) == alarm:
            del self._untold[alarm.source]

    def step(self, now: float, sightings: Collection[Sighting]) -> tuple[SystemAlarm, ...]:
        """Takes in how every watched camera stands at `now` (monotonic); answers with the alarms that begin or end."""
        wanted = [self._of_camera(sighting, now) for sighting in sightings]
        wanted.append(self._of_detection(sightings, now))
        watched = {DETECTION, *(_source(sighting) for sighting in sightings)}
        left = [source for source in self._blind if source not in watched]
        wanted += [SystemAlarm(source, blind=False, reason="the camera is not watched now") for source in left]
        changes = []
        for alarm in filter(None, wanted):
            before = self._blind.get(alarm.source)
            if before is alarm.blind:
                continue
            self._blind[alarm.source] = alarm.blind
            self._untold[alarm.source] = alarm
            if before or alarm.blind:
                changes.append(alarm)
        for source in left:
            del self._blind[source]
        return tuple(changes)

    def _of_camera(self, sighting: Sighting, now: float) -> SystemAlarm | None:
        source = _source(sighting)
        if sighting.sees or sighting.of_detection:
            return SystemAlarm(source, blind=False, reason="the camera gives pictures")
        return SystemAlarm(source, blind=True, reason=sighting.reason) if self._lasts(sighting, now) else None

    def _of_detection(self, sightings: Collection[Sighting], now: float) -> SystemAlarm | None:
        blind = [sighting for sighting in sightings if sighting.of_detection]
        if any(self._lasts(sighting, now) for sighting in blind):
            names = ", ".join(sighting.camera for sighting in blind)
            return SystemAlarm(
                DETECTION, blind=True, reason=f"no verdict on the pictures of {names}: {blind[0].reason}"
            )
        if blind or not any(sighting.sees for sighting in sightings):
            return None
        return SystemAlarm(DETECTION, blind=False, reason="pictures are scored")

    def _lasts(self, sighting: Sighting, now: float) -> bool:
        return sighting.blind_since is not None and now - sighting.blind_since >= self.blind_after


def _source(sighting: Sighting) -> str:
    return f"{sighting.camera}/sight"
