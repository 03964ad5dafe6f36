"""A worker in this process with a simulated camera, a scoring API and an alarm store, for tests of the whole."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any

from almenara.alarms import AlarmRecord, AlarmStore, Phase
from almenara.alarms.records import EvidenceFile
from almenara.settings import Settings
from camera_worker.camera import Camera, CameraState, Scored
from camera_worker.config import WorkerConfig, parse_config
from camera_worker.supervisor import Supervisor
from tests.support.camera import CameraThread, LoopThread, Scene, ScoringApi, scoring_api, simulated_camera, wait_for

NAME = "worker-1"
"""Of the worker at the plant-wide record."""


class Rig:
    """Scene, camera, API and a worker in this process, with its alarm store."""

    def __init__(self, loop: LoopThread, scene: Scene, camera: CameraThread, api: ScoringApi, var: Path) -> None:
        self.loop, self.scene, self.camera, self.api, self.var = loop, scene, camera, api, var
        self.verdicts: list[Scored] = []

    def camera_text(self, name: str = "outflow", options: str = "", *, on_delay: str = "400ms") -> str:
        """One camera of the configuration."""
        return f"""
  - name: {name}
    source: {self.camera.url}
    model: wall
    fps: 10
    connect_timeout: 1s
    read_timeout: 1s
    alarm: {{threshold: 0.75, on_delay: {on_delay}, off_delay: 500ms, cooldown: 60s}}
    {options}
"""

    def text(self, options: str = "", *, on_delay: str = "400ms", head: str = "") -> str:
        """A configuration with the one camera."""
        return self.whole(self.camera_text(options=options, on_delay=on_delay), head=head)

    def whole(self, *cameras: str, head: str = "") -> str:
        """A configuration."""
        api = f'api: {{url: "{self.api.url}", timeout: 1s}}'
        own = f"var_dir: {self.var}\nname: {NAME}\nforward: false"
        return "\n".join([api, own, head, "cameras:", *cameras])

    def launch(self, text: str, *, load: Callable[[], WorkerConfig] | None = None) -> None:
        async def make() -> Supervisor:
            config = parse_config(text, name="test")
            return Supervisor(config, Settings(), report=self.verdicts.append, load=load)

        self.supervisor = self.loop.run(make())
        self.exit: Future[int] = asyncio.run_coroutine_threadsafe(self.supervisor.run(), self.loop.loop)

    def run(self, text: str, *, load: Callable[[], WorkerConfig] | None = None) -> None:
        self.launch(text, load=load)
        wait_for(lambda: self.supervisor.cameras or self.exit.done(), 10, "a worker")
        if not self.supervisor.cameras:
            self.exit.result()
        self.store = AlarmStore(f"sqlite:///{self.var / 'alarms' / 'worker.db'}", origin=NAME)

    def start(self, options: str = "", *, on_delay: str = "400ms", second: str = "") -> None:
        more = f"\n  - {second}\n" if second else ""
        self.run(self.text(options, on_delay=on_delay) + more)

    def reload(self) -> None:
        self.loop.loop.call_soon_threadsafe(self.supervisor.reload)

    def stop(self) -> int:
        self.loop.loop.call_soon_threadsafe(self.supervisor.stop)
        self.store.close()
        return self.exit.result(5)

    @property
    def worker(self) -> Camera:
        return self.supervisor.cameras["outflow"]

    def reaches(self, phase: Phase, seconds: float = 4.0) -> None:
        wait_for(lambda: self.store.phase("outflow") is phase, seconds, f"phase {phase}")

    def is_in(self, state: CameraState) -> Callable[[], bool]:
        return lambda: self.worker.state is state

    @property
    def told(self) -> list[dict[str, Any]]:
        """Messages in the alarm log."""
        log = self.var / "alarms" / "alarms.log"
        return [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []

    @property
    def strip(self) -> EvidenceFile:
        """The strip of pictures that the one alarm shows now."""
        (alarm,) = self.alarms
        (strip,) = (file for file in alarm.evidence if file.name == "strip.jpg")
        return strip

    @property
    def alarms(self) -> list[AlarmRecord]:
        return self.store.alarms()


@contextlib.contextmanager
def worker_rig(folder: Path) -> Iterator[Rig]:
    """A rig that is not started; what runs is stopped at the end."""
    scene = Scene()
    with LoopThread() as loop, simulated_camera(scene) as camera, scoring_api() as api:
        made = Rig(loop, scene, camera, api, folder / "var")
        yield made
        with contextlib.suppress(AttributeError):
            if not made.exit.done():
                made.stop()
