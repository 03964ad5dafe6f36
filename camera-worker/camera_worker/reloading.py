"""What differs between two configurations of a worker: which cameras, and which settings that wait for a restart."""

from __future__ import annotations

from dataclasses import dataclass

from camera_worker.config import CameraConfig, WorkerConfig

_FIXED = ("name", "api", "alerts", "alarms_file", "forward", "status", "var_dir")


@dataclass(frozen=True)
class CameraChanges:
    """Names of cameras that end, and the configurations of those that start; a changed camera is among both."""

    ended: tuple[str, ...]
    started: tuple[CameraConfig, ...]

    def __str__(self) -> str:
        starting = {camera.name for camera in self.started}
        groups = {
            "changed": [name for name in self.ended if name in starting],
            "new": sorted(starting - set(self.ended)),
            "removed": [name for name in self.ended if name not in starting],
        }
        return (
            "; ".join(f"{group}: {', '.join(names)}" for group, names in groups.items() if names) or "no camera changed"
        )


def changed_cameras(before: WorkerConfig, after: WorkerConfig) -> CameraChanges:
    """Which cameras differ in anything at all, their credentials included."""
    old = {camera.name: camera for camera in before.cameras}
    new = {camera.name: camera for camera in after.cameras}
    ended = tuple(name for name, camera in old.items() if new.get(name) != camera)
    started = tuple(camera for name, camera in new.items() if old.get(name) != camera)
    return CameraChanges(ended, started)


def settings_that_wait(before: WorkerConfig, after: WorkerConfig) -> list[str]:
    """Settings that differ and that only a restart of the worker applies."""
    return [name for name in _FIXED if getattr(before, name) != getattr(after, name)]
