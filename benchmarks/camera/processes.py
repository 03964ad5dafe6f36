"""The processes that are measured: the worker's own command, simulated cameras, and the scoring API."""

from __future__ import annotations

import contextlib
import json
import re
import socket
import time
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import yaml

from almenara.processes import free_port
from benchmarks.harness import Bench, Child, Line, module

KEYFRAME_SECONDS = 2.0
READY_SECONDS = 30.0

_STATE = re.compile(r" (?P<name>\S+) \(\S+\) is (?P<state>\w+)")
_ATTEMPT_SECONDS = 0.1


@dataclass
class Simulator:
    """A simulated camera in a process of its own; a context manager, startable again on the same port.

    Attributes:
        options: of ``camera-worker simulate``, by name; the scene is `timecode` unless they say otherwise.
    """

    options: Mapping[str, object] = field(default_factory=dict)
    port: int = field(default_factory=free_port)
    control_port: int = field(default_factory=free_port)
    _child: Child | None = None

    def __enter__(self) -> Simulator:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._child:
            self._child.stop()

    @property
    def url(self) -> str:
        return f"rtsp://127.0.0.1:{self.port}/cam"

    def start(self) -> Line:
        """Starts the process; the line that it says once it listens."""
        standard = {"width": 320, "height": 240, "fps": 10, "scene": "timecode", "keyframe-interval": KEYFRAME_SECONDS}
        chosen = {**standard, **self.options, "port": self.port, "control-port": self.control_port}
        arguments = [text for name, value in chosen.items() for text in _option(name, value)]
        self._child = Child(module("camera_worker", "simulate", *arguments), name="the simulated camera")
        return self._child.need(lambda text: text.startswith("ready "), log=False, seconds=READY_SECONDS)

    def kill(self) -> None:
        """As a power cut does: no connection is closed in an orderly way by the camera itself."""
        if self._child:
            self._child.kill()

    def switch(self, *commands: str) -> float:
        """Sends commands to the control port, as one piece; when they were sent (monotonic)."""
        with socket.create_connection(("127.0.0.1", self.control_port), timeout=5) as control:
            sent = time.monotonic()
            control.sendall("".join(f"{command}\n" for command in commands).encode())
            with control.makefile() as answers:
                for command in commands:
                    if not (answer := answers.readline()).startswith("ok"):
                        raise RuntimeError(f"the simulated camera answers {command} with {answer.strip() or 'silence'}")
        return sent


def started(stack: contextlib.ExitStack, simulators: Sequence[Simulator]) -> list[Simulator]:
    """Cameras that start side by side and end with the stack."""
    with ThreadPoolExecutor(len(simulators)) as pool:
        return list(pool.map(stack.enter_context, simulators))


class Api:
    """The scoring API in a process of its own; a context manager."""

    def __init__(self) -> None:
        self._port = free_port()
        self._child: Child | None = None

    def __enter__(self) -> Api:
        self._child = Child(module("benchmarks.camera.scoring", "--port", str(self._port)), name="the scoring API")
        deadline = time.monotonic() + READY_SECONDS
        while True:
            try:
                self.records()
            except OSError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(_ATTEMPT_SECONDS)
            else:
                return self

    def __exit__(self, *_: object) -> None:
        if self._child:
            self._child.stop()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    def set(self, *, delay: float = 0.0, look: bool = True) -> None:
        """How many seconds a verdict takes, and whether pictures are decoded on arrival."""
        body = json.dumps({"delay": delay, "look": look}).encode()
        request = urllib.request.Request(f"{self.url}/settings", data=body, method="POST")  # noqa: S310 - loopback
        urllib.request.urlopen(request, timeout=5).close()  # noqa: S310

    def records(self) -> list[dict[str, Any]]:
        """What was posted since the last time."""
        with urllib.request.urlopen(f"{self.url}/records", timeout=10) as answer:  # noqa: S310
            found: list[dict[str, Any]] = json.load(answer)
        return found


class Worker(Child):
    """The camera worker's own command on a configuration file, alarms included; a context manager.

    Args:
        bench: gives it a folder.
        api: where it posts pictures; every camera asks for the model of its own name.
        cameras: configuration of each camera, by name; `source` is needed.
        verdicts: whether it prints every verdict, as `wait_scored` and `scored` need.
    """

    def __init__(
        self, bench: Bench, api: Api, cameras: Mapping[str, Mapping[str, object]], *, verdicts: bool = True
    ) -> None:
        self._status_port = free_port()
        folder = bench.folder / f"worker-{self._status_port}"
        folder.mkdir()
        config = {
            "api": {"url": api.url},
            "status": {"port": self._status_port},
            "cameras": [{"name": name, "model": name, **camera} for name, camera in cameras.items()],
        }
        file = folder / "cameras.yaml"
        file.write_text(yaml.safe_dump(config), encoding="utf-8")
        command = module("camera_worker", "--config", str(file), "--var-dir", str(folder / "var"))
        command += ["--json"] if verdicts else []
        super().__init__(command, folder=folder, name="the camera worker")

    def wait_scored(self, names: Sequence[str], *, after: float = 0.0, seconds: float = READY_SECONDS) -> float:
        """When the last of these cameras was scored for the first time after `after`; RuntimeError when one is not."""
        return max(self.need(_verdict_of(name), after=after, seconds=seconds, log=False).at for name in names)

    def scored(self, name: str, *, after: float, seconds: float) -> float | None:
        """When a camera's first verdict after `after` was printed; None if none was in time."""
        line = self.wait_for(_verdict_of(name), after=after, seconds=seconds, log=False)
        return line.at if line else None

    def became(self, name: str, *states: str, after: float, seconds: float) -> float | None:
        """When the worker first logged one of these states of a camera; None if not in time.

        Without a state it is when it first said that it does not see: by a state that is neither live nor connecting,
        or by its word that nothing can be scored, which comes first when it was live for a moment only.
        """

        def wanted(text: str) -> bool:
            if not states and f" {name}: nothing can be scored" in text:
                return True
            told = _STATE.search(text)
            if told is None or told["name"] != name:
                return False
            return told["state"] in states if states else told["state"] not in {"live", "connecting"}

        line = self.wait_for(wanted, after=after, seconds=seconds)
        return line.at if line else None

    def counters(self, name: str) -> dict[str, int]:
        """What /cameras counts of a camera; OSError when nobody answers."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self._status_port}/cameras", timeout=5) as answer:
            cameras: list[dict[str, Any]] = json.load(answer)
        return next(camera["counters"] for camera in cameras if camera["name"] == name)


def _option(name: str, value: object) -> list[str]:
    if isinstance(value, bool):
        return [f"--{name}" if value else f"--no-{name}"]
    return [f"--{name}", str(value)]


def _verdict_of(name: str) -> Callable[[str], object]:
    return re.compile(f'{{"camera": "{re.escape(name)}",').match
