"""The whole line on one machine, on embedded defaults: registry, champions, API, camera, worker, alarms."""

from __future__ import annotations

import json
import signal
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from pydantic import TypeAdapter

from almenara.alarms import AlarmRecord, Phase
from almenara.console import progress_bars, stdout, table
from almenara.demo_pump import Pump
from almenara.errors import AlmenaraError, ConfigurationError
from almenara.processes import ENDING_SIGNALS, Children, answers, require_free_port
from almenara.registry import Registry
from almenara.settings import Settings, load_settings
from almenara.training import Trainer, baseline_name

VISION_MODEL = "sludge-outflow"
BEARING_MODEL = "bearing"
CAMERA = "outflow-camera"
ALARM_BOUND_SECONDS = 180.0
SCENE_SEED = 7
WORKER_THRESHOLD = "0.75"  # 5 % of normal frames may pass .5, the calibrated threshold
ANOMALY_EVERY, ANOMALY_FOR = 20, 10  # seconds of the simulated camera

Alarms = dict[str, list[AlarmRecord]]
_ALARMS = TypeAdapter(list[AlarmRecord])


@dataclass(frozen=True)
class Line:
    """Addresses, files and commands of the running line."""

    settings: Settings
    camera: bool

    @property
    def mlflow_url(self) -> str:
        return f"http://127.0.0.1:{self.settings.mlflow_port}"

    @property
    def api_url(self) -> str:
        return f"http://127.0.0.1:{self.settings.api_port}"

    @property
    def camera_url(self) -> str:
        return f"rtsp://127.0.0.1:{self.settings.camera_port}/cam"

    @property
    def var(self) -> Path:
        return self.settings.var_dir.resolve()

    @property
    def models(self) -> tuple[str, ...]:
        vibration = (BEARING_MODEL, baseline_name(BEARING_MODEL, Pump.asset))
        return (*vibration, VISION_MODEL) if self.camera else vibration

    @property
    def headers(self) -> dict[str, str]:
        key = self.settings.api_key
        return {"X-API-Key": key.get_secret_value()} if key else {}

    @property
    def kinds(self) -> tuple[str, ...]:
        """Kinds of alarms that come."""
        return ("vibration", "vision") if self.camera else ("vibration",)

    def command(self, name: str) -> list[str]:
        """How each child is started."""
        port = str(self.settings.mlflow_port)
        simulate = [
            "simulate",
            "--scene",
            "sludge",
            "--seed",
            str(SCENE_SEED),
            "--port",
            str(self.settings.camera_port),
        ]
        simulate += ["--anomaly-every", str(ANOMALY_EVERY), "--anomaly-for", str(ANOMALY_FOR)]
        worker = ["--source", self.camera_url, "--name", CAMERA, "--model", VISION_MODEL, "--api-url", self.api_url]
        worker += ["--threshold", WORKER_THRESHOLD, "--alerts", "--var-dir", str(self.var)]
        modules = {
            "mlflow": [
                *("mlflow", "server", "--host", "127.0.0.1", "--port", port, "--workers", "1", "--no-serve-artifacts"),
                *("--backend-store-uri", f"sqlite:///{self.settings.mlflow_dir / 'mlflow.db'}"),
                *("--default-artifact-root", (self.settings.mlflow_dir / "artifacts").as_uri()),
                *("--allowed-hosts", f"localhost:{port},127.0.0.1:{port}"),
            ],
            "api": ["almenara_api", "--host", "127.0.0.1", "--port", str(self.settings.api_port)],
            "camera": ["camera_worker", *simulate],
            "worker": ["camera_worker", *worker],
        }
        return [sys.executable, "-m", *modules[name]]


def run(*, once: bool, camera: bool) -> int:
    """Bring the line up, show its alarms, and keep it running until Ctrl-C (or, once, the first alarm of each kind).

    Returns:
        Exit code: 0, or 1 when `once` and an alarm did not come within 180 s.

    Raises:
        ConfigurationError: a port in use, a child that ended, or a broken var/.
    """
    line = Line(load_settings(), camera)
    started, wall = datetime.now(UTC), time.monotonic()
    seconds: dict[str, float] = {}

    def lap(stage: str) -> None:
        seconds[stage] = round(time.monotonic() - wall - sum(seconds.values()), 1)

    _require_ports(line)
    environment = {
        "MLFLOW_TRACKING_URI": line.mlflow_url,
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "ALMENARA_VAR_DIR": str(line.var),
        "ALMENARA_ALARMS_URL": f"sqlite:///{line.var / 'alarms' / 'api.db'}",
        "PYTHONUNBUFFERED": "1",
    }
    with _terminable(), Children(line.var / "logs", environment) as children:
        stdout.print(f"Starting the MLflow registry at {line.mlflow_url} …")
        _prepare_folders(line)
        children.start("mlflow", line.command("mlflow"))
        children.wait_until("mlflow", lambda: answers(f"{line.mlflow_url}/health"), 90)
        lap("registry")
        _ensure_champions(Registry(line.mlflow_url), line.settings, line.models)
        lap("models")
        children.start("api", line.command("api"))
        children.wait_until("api", lambda: set(line.models) <= _serving(line), 90)
        lap("api")
        _acknowledge_leftovers(line)
        if line.camera:
            children.start("camera", line.command("camera"))
            children.start("worker", line.command("worker"))
        with Pump(line.api_url, BEARING_MODEL, line.headers):
            complete = _watch(line, children, started, once=once)
        alarms = _alarms(line, started)
        lap("alarms")
        _summary(line, alarms)
        if once:
            counts = {f"{kind}_alarms": len(alarms.get(kind, [])) for kind in ("vision", "vibration")}
            versions = {model["name"]: model["version"] for model in _api_models(line)}
            seconds["total"] = round(time.monotonic() - wall, 1)
            sys.stdout.write(json.dumps({**counts, "models": versions, "seconds": seconds}) + "\n")
            sys.stdout.flush()
        return 0 if complete or not once else 1


def train() -> None:
    """Register at MLFLOW_TRACKING_URI the champions that the demo needs and the registry lacks.

    Raises:
        ConfigurationError: the registry is half-written.
    """
    settings = load_settings()
    _ensure_champions(Registry(settings.tracking_uri), settings, Line(settings, camera=True).models)


def _require_ports(line: Line) -> None:
    require_free_port(line.settings.mlflow_port, "the MLflow server", "ALMENARA_MLFLOW_PORT")
    require_free_port(line.settings.api_port, "the API", "ALMENARA_API_PORT")
    if line.camera:
        require_free_port(line.settings.camera_port, "the simulated camera", "ALMENARA_CAMERA_PORT")


def _prepare_folders(line: Line) -> None:
    for folder in (line.settings.mlflow_dir / "artifacts", line.settings.evidence_dir, line.var / "alarms"):
        folder.mkdir(parents=True, exist_ok=True)


def _ensure_champions(registry: Registry, settings: Settings, models: tuple[str, ...]) -> None:
    """Train what the registry lacks; what is there must be whole."""
    have = {served.name: served.version for served in registry.served()}
    for name in set(models) & set(have):
        try:
            with tempfile.TemporaryDirectory() as folder:
                registry.fetch(name, have[name], Path(folder))
        except AlmenaraError as error:
            where = settings.mlflow_tracking_uri or settings.var_dir.resolve()
            raise ConfigurationError(
                f"{where} is half-written: the files of {name} version {have[name]} are gone.",
                f"Remove {where} (make clean removes ./var) and start again.",
            ) from error
    missing = [name for name in models if name not in have]
    if not missing:
        stdout.print("The champions of an earlier run are there; nothing to train.")
        return
    stdout.print(f"Training {', '.join(missing)} …")
    with progress_bars() as progress:
        trainer = Trainer(registry, settings.mlflow_experiment_name, promote=True, progress=progress)
        outcomes = []
        if set(missing) - {VISION_MODEL}:
            outcomes.append(trainer.vibration(Pump.recordings(), name=BEARING_MODEL))
        if VISION_MODEL in missing:
            outcomes.append(trainer.vision(_pictures(settings.var_dir.resolve(), progress), name=VISION_MODEL))
    for outcome in outcomes:
        for registered in outcome.registered:
            stdout.print(registered.sentence)


def _pictures(var_dir: Path, progress: Any) -> Any:
    from almenara.vision import images, scenes

    folder = var_dir / "demo" / "sludge"
    scenes.render_dataset(folder, normals=160, anomalies=24, groups=80, seed=SCENE_SEED, progress=progress)
    return images.load_folder(folder)


def _api_models(line: Line) -> list[dict[str, Any]]:
    return list(json.loads(_ask(line, "/v1/models"))["models"])


def _ask(line: Line, path: str, body: dict[str, str] | None = None) -> bytes:
    """What the API answers; with a body it is posted."""
    headers = line.headers | {"Content-Type": "application/json"}
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(f"{line.api_url}{path}", data, headers)  # noqa: S310  our own address
    with urllib.request.urlopen(request, timeout=10) as response:  # noqa: S310
        return bytes(response.read())


def _serving(line: Line) -> set[str]:
    """Names of the champions that the API has loaded; none while it starts."""
    if not answers(f"{line.api_url}/health/live"):
        return set()
    return {model["name"] for model in _api_models(line) if model["loaded_since"]}


def _recorded(line: Line, **query: str) -> list[AlarmRecord]:
    """Alarms of pump and camera at the plant-wide record, newest first."""
    path = f"/v1/alarms?{urlencode({'limit': '1000', **query})}"
    return [each for each in _ALARMS.validate_json(_ask(line, path)) if each.source in (CAMERA, Pump.asset)]


def _acknowledge_leftovers(line: Line) -> None:
    """Alarms that an earlier run left standing are acknowledged, so that this run's are seen as new."""
    for alarm in _recorded(line, standing="true"):
        if alarm.phase in (Phase.UNACKNOWLEDGED, Phase.RETURNED_UNACKNOWLEDGED):
            body = {"user": "demo", "comment": "left by an earlier run of the demo"}
            _ask(line, f"/v1/alarms/{alarm.id}/acknowledge", body)


def _alarms(line: Line, since: datetime) -> Alarms:
    """Alarms raised since the line came up, by kind, oldest first."""
    raised = _recorded(line, since=since.isoformat())[::-1]
    return {kind: [alarm for alarm in raised if alarm.kind == kind] for kind in line.kinds}


def _watch(line: Line, children: Children, since: datetime, *, once: bool) -> bool:
    """Show alarms as they come, until Ctrl-C or, once, until there is one of each kind or the bound has passed."""
    stdout.print("The line is up. Waiting for the first alarm of each kind …" if once else "The line is up.")
    deadline = time.monotonic() + ALARM_BOUND_SECONDS
    shown: set[str] = set()
    summarised = False
    with _interruptible():
        while True:
            children.check()
            alarms = _alarms(line, since)
            for alarm in (alarm for each in alarms.values() for alarm in each if alarm.idempotency_key not in shown):
                shown.add(alarm.idempotency_key)
                stdout.print(f"[bold red]ALARM[/] {alarm.source}: {alarm.reason} (anomaly {alarm.score:.2f})")
            complete = all(alarms.values())
            if once and complete:
                return True
            if once and time.monotonic() > deadline:
                lacking = ", ".join(kind for kind, raised in alarms.items() if not raised)
                stdout.print(f"No {lacking} alarm came within {ALARM_BOUND_SECONDS:.0f} s. Logs: {children.logs}")
                return False
            if complete and not summarised:
                _summary(line, alarms)
                stdout.print("Running until Ctrl-C.")
                summarised = True
            time.sleep(0.5)
    return False


def _summary(line: Line, alarms: Alarms) -> None:
    services = [
        ["MLflow registry", line.mlflow_url],
        ["API (documentation at /docs)", line.api_url],
        *([["simulated camera", line.camera_url]] if line.camera else []),
        ["logs, databases, evidence", str(line.var)],
    ]
    table("What runs where", ["service", "address"], services)
    rows = [[model["name"], str(model["version"]), model["role"]] for model in _api_models(line)]
    table("Models served", ["name", "version", "role"], rows)
    for alarm in (alarm for each in alarms.values() for alarm in each):
        stdout.print(f"[bold red]ALARM[/] {alarm.source} at {alarm.raised_at:%H:%M:%S} UTC, anomaly {alarm.score:.2f}")
        stdout.print(f"  {alarm.reason}")
        for shown in [file.uri for file in alarm.evidence] or [alarm.note]:
            stdout.print(f"  evidence: {shown}", soft_wrap=True)


@contextmanager
def _terminable() -> Iterator[None]:
    """A closed terminal and SIGTERM end the line as Ctrl-C does, even where a background job ignores SIGINT."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    before = {number: signal.signal(number, interrupt) for number in ENDING_SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def _interruptible() -> Iterator[None]:
    """Ctrl-C ends the watching, not the programme: the summary and the orderly stop follow."""
    try:
        yield
    except KeyboardInterrupt:
        stdout.print("Stopping …")
