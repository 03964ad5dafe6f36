"""No password comes out of the command, whatever its cameras and the API do: a process of its own under every fault."""

from __future__ import annotations

import base64
import json
import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote, quote_plus

import pytest

from almenara.processes import free_port
from camera_worker.simulator import FaultKind
from tests.support.camera import CameraThread, Scene, ScoringApi, scoring_api, simulated_camera, wait_for
from tests.support.data import ROOT

pytestmark = pytest.mark.slow

BEGIN, END = "Qx7Zk9wQ", "Zy4Xv2jZ"
"""How every secret begins and ends: long enough that no picture holds these bytes by chance."""
API_KEY = f"{BEGIN}-api-key-{END}"
FAULTS = [
    *("stall", "reset", "refuse", "slow", "unauthorised", "freeze", "black", "blur", "corrupt=1", "drop=0.5"),
    *("resize=160x120", "udp=off", "away"),
]
# The command, with every logger at DEBUG and the event loop in its talkative mode.
VERBOSE = """
import logging, runpy
configure = logging.basicConfig
logging.basicConfig = lambda **options: configure(**{**options, "level": logging.DEBUG})
runpy.run_module("camera_worker", run_name="__main__")
"""


@dataclass(frozen=True)
class Login:
    """Credentials of a camera, as its owner says them."""

    user: str
    password: str

    @property
    def url_part(self) -> str:
        return f"{quote(self.user, safe='')}:{quote(self.password, safe='')}@"

    @property
    def spellings(self) -> set[bytes]:
        """What the password, or both, look like in a URL, in JSON, in Python, in an HTTP header."""
        spellings: set[str] = set()
        for word in (self.password, self.user):
            spellings |= {word, quote(word), quote(word, safe=""), quote(word, safe="").lower(), quote_plus(word)}
            spellings |= {json.dumps(word)[1:-1], repr(word)[1:-1], quote(quote(word, safe=""), safe="")}
        spellings.add(base64.b64encode(f"{self.user}:{self.password}".encode()).decode())
        return {spelling.encode() for spelling in spellings}


LOGINS = [Login("plant.op", f"{BEGIN}@p:a/s?s#1 %&=+é{END}"), Login("op@site", f"{BEGIN}'%41\"<$>\\[x]~{END}")]


class Reader(threading.Thread):
    """Reads all that the status server says, again and again."""

    def __init__(self, address: str) -> None:
        super().__init__(daemon=True)
        self._address, self._stop_wanted = address, threading.Event()
        self.said: set[bytes] = set()
        self.states: dict[str, set[str]] = {}

    def run(self) -> None:
        while not self._stop_wanted.wait(0.2):
            for path in ("healthz", "readyz", "metrics", "cameras"):
                try:
                    with urllib.request.urlopen(f"{self._address}/{path}", timeout=5) as answer:  # noqa: S310
                        body = answer.read()
                except urllib.error.HTTPError as error:
                    body = error.read()
                except OSError:
                    continue
                self.said.add(body)
                if path == "cameras":
                    for camera in json.loads(body):
                        self.states.setdefault(camera["name"], set()).add(camera["state"])

    def stop(self) -> None:
        self._stop_wanted.set()
        self.join(10)


class Rig:
    """Two simulated cameras that want a password, each watched by the command: RTSP over TCP and UDP, and HTTP."""

    def __init__(self, folder: Path, cameras: list[CameraThread], api: ScoringApi) -> None:
        self.folder, self.var, self.cameras, self.api = folder, folder / "var", cameras, api
        self.status = f"http://127.0.0.1:{free_port()}"
        self.environment = {f"PASSWORD_{index}": login.password for index, login in enumerate(LOGINS)}
        (folder / "cameras.yaml").write_text(self._configuration())
        self.reader = Reader(self.status)

    def _configuration(self) -> str:
        port = self.status.rpartition(":")[2]
        text = f"api: {{url: '{self.api.url}', timeout: 1s}}\nstatus: {{port: {port}}}\nblind_after: 1s\n"
        text += f"var_dir: {self.var}\ncameras:\n"
        for index, (login, camera) in enumerate(zip(LOGINS, self.cameras, strict=True)):
            in_url = camera.url.replace("//", f"//{login.url_part}")
            text += self._camera(f"rtsp-url-{index}", f"source: '{in_url}'")
            apart = f"username: '{login.user}'\n    password: ${{PASSWORD_{index}}}"
            text += self._camera(f"http-{index}", f"source: '{camera.mjpeg_url}'\n    {apart}")
            text += self._camera(f"udp-{index}", f"source: '{camera.url}'\n    transport: udp\n    {apart}")
        return text

    @staticmethod
    def _camera(name: str, source: str) -> str:
        return (
            f"  - name: {name}\n    {source}\n    model: wall\n    fps: 5\n    connect_timeout: 1s\n"
            "    read_timeout: 1s\n    unauthorised_retry: 500ms\n    frozen_after: 1s\n"
            "    evidence: {before: 2s, after: 1s}\n"
            "    alarm: {threshold: 0.75, on_delay: 200ms, off_delay: 200ms, cooldown: 0s}\n"
        )

    @contextmanager
    def running(self) -> Iterator[subprocess.Popen[bytes]]:
        """The command, its output in files; killed if the test has not ended it."""
        environment = {**os.environ, **self.environment, "ALMENARA_API_KEY": API_KEY, "PYTHONASYNCIODEBUG": "1"}
        command = [sys.executable, "-c", VERBOSE, "--config", str(self.folder / "cameras.yaml"), "--json"]
        with (self.folder / "out").open("wb") as out, (self.folder / "err").open("wb") as err:
            child = subprocess.Popen(command, cwd=ROOT, stdout=out, stderr=err, env=environment)
            try:
                self.reader.start()
                yield child
            finally:
                self.reader.stop()
                if child.poll() is None:
                    child.kill()
                    child.wait()

    @property
    def log(self) -> str:
        return (self.folder / "err").read_text(errors="replace")

    @property
    def scored(self) -> set[str]:
        """Names of the cameras that have verdicts."""
        lines = (self.folder / "out").read_text().splitlines()
        return {json.loads(line)["camera"] for line in lines if line.endswith("}")}

    def switch(self, fault: str) -> None:
        for camera in self.cameras:
            camera.switch(fault)

    def break_the_alarm_database(self) -> None:
        """Has every later observation end in a logged traceback."""
        with sqlite3.connect(self.var / "alarms" / "worker.db") as database:
            names = database.execute("SELECT name FROM sqlite_master WHERE name LIKE 'alarm_sources'").fetchall()
            assert names
            database.execute("ALTER TABLE alarm_sources RENAME TO gone")
        database.close()

    def everything(self) -> bytes:
        """All that the command has written or said."""
        files = [self.folder / "out", self.folder / "err", *self.var.rglob("*")]
        return b"\n".join([*(path.read_bytes() for path in files if path.is_file()), *self.reader.said])


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    with ExitStack() as stack:
        scenes = [Scene(), Scene()]
        cameras = [
            stack.enter_context(simulated_camera(scene, user=login.user, password=login.password))
            for scene, login in zip(scenes, LOGINS, strict=True)
        ]
        api = stack.enter_context(scoring_api(key=API_KEY))
        made = Rig(tmp_path, cameras, api)
        scenes[0].anomalous = True
        yield made


def test_no_password_comes_out_under_any_fault(rig: Rig) -> None:
    with rig.running() as worker:
        wait_for(lambda: len(rig.scored) == 6, 30, "verdicts of every camera")
        wait_for(lambda: list(rig.var.rglob("strip.jpg")), 10, "evidence")
        for fault in FAULTS:
            if fault == "udp=off":  # which only a new connection meets
                rig.switch("reset")
            rig.switch(fault)
            time.sleep(1.8)
            rig.switch("none")
            time.sleep(0.4)
        for mode in ("503", "nan", "garbage"):
            rig.api.mode = mode
            time.sleep(0.6)
        rig.api.mode, rig.api.key = "ok", "another"
        wait_for(lambda: "(401)" in rig.log, 5, "a refused key")
        rig.api.stop()
        time.sleep(1.5)
        rig.break_the_alarm_database()
        wait_for(lambda: "Traceback" in rig.log, 5, "a traceback")
        worker.send_signal(signal.SIGTERM)
        assert worker.wait(10) == 0
    seen = {state for states in rig.reader.states.values() for state in states}
    assert {"live", "offline", "unauthorised", "black", "frozen"} <= seen
    everything = rig.everything()
    assert b"***@127.0.0.1" in everything
    assert b" DEBUG " in everything
    shown = {spelling for login in LOGINS for spelling in login.spellings if spelling in everything}
    assert shown == set()
    assert BEGIN.encode() not in everything
    assert END.encode() not in everything


def test_every_fault_of_the_simulated_camera_is_tried() -> None:
    tried = {FaultKind(fault.partition("=")[0]) for fault in FAULTS}
    assert set(FaultKind) - tried == {FaultKind.NONE}


@pytest.mark.parametrize(
    "arguments",
    [
        ["--source", f"rtsp://{LOGINS[0].url_part}127.0.0.1:1:2/cam"],
        ["--source", f"rtsp://plant.op:{BEGIN}/p@ss w@{END}@cam/1"],
        ["--source", "0", "--api-url", f"http://op:{BEGIN} p@ss{END}@api"],
        ["--source", f"{BEGIN}:{END}@cam.mp4"],
        ["probe", f"rtsp://plant.op:{BEGIN}p%40ss{END}@127.0.0.1:1/cam"],
        ["probe", f"http://plant.op:{BEGIN}p%40ss{END}@127.0.0.1:1/snap.jpg?password={BEGIN}"],
    ],
)
def test_an_address_that_is_refused_is_told_without_its_password(arguments: list[str], tmp_path: Path) -> None:
    command = [sys.executable, "-m", "camera_worker", *arguments]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, timeout=60, check=False)
    assert done.returncode == 2
    assert BEGIN.encode() not in done.stdout + done.stderr
    assert END.encode() not in done.stdout + done.stderr
