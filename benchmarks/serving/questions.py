"""The questions: which servers are compared with which request, and what was promised of the ratio."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from benchmarks.harness import Bench, Figure, Result, ratio
from benchmarks.serving import payloads, servers
from benchmarks.serving.models import LONG, SHORT, SLUDGE, Models
from benchmarks.serving.trials import Cell, Rounds, Seen, floor, median

OURS = "almenara"
CONNECTIONS = (1, 8, 32)


@dataclass(frozen=True)
class Goal:
    """A ratio and the least, or the most, that it was promised to be."""

    key: str
    value: float
    goal: float
    at_most: bool = False

    @property
    def met(self) -> bool:
        return self.value <= self.goal if self.at_most else self.value >= self.goal


class Comparison:
    """What a question needs: servers that run, requests in files, and rounds of trials."""

    def __init__(self, bench: Bench, models: Models, stack: ExitStack) -> None:
        self.bench, self.models, self._stack = bench, models, stack
        self._running: dict[str, servers.Running] = {}
        self._asks: dict[str, Path] = {}
        bench.folder.mkdir(parents=True, exist_ok=True)

    def start(self, server: servers.Server) -> str:
        """Run a server until the question is answered; its name."""
        running = self._stack.enter_context(servers.Running(server, self.bench.folder))
        self._running[server.name] = running
        return server.name

    def start_ours(self) -> str:
        return self.start(servers.ours(self.models, self.bench.folder))

    def ask(self, name: str, request: bytes) -> str:
        """Keep a request for the load generator; its name."""
        self._asks[name] = self.bench.folder / f"{name}.http"
        self._asks[name].write_bytes(request)
        return name

    def measure(self, *cells: Cell) -> dict[Cell, Seen]:
        return Rounds(self.bench, self._running, self._asks).measure(cells)


Question = Callable[[Comparison], list[Result]]


def mlflow_as_users_get_it(with_: Comparison) -> list[Result]:
    """A forest of 200 trees as a notebook logs it, against the same forest converted."""
    uri = with_.models.forest_as_logged()
    theirs = with_.start(servers.mlflow(with_.models, "forest", uri))
    ours = Cell(with_.start_ours(), with_.ask("raw-2048", payloads.ours_raw(SHORT)), 8)
    other = Cell(theirs, with_.ask("features", payloads.mlflow_features(with_.models.feature_row())), 8)
    seen = with_.measure(ours, other)
    return [_result("mlflow_as_users_get_it", seen, [_rates("mlflow_as_users_get_it", seen, ours, other, 50)])]


def mlflow_same_onnx(with_: Comparison) -> list[Result]:
    """The registered package, which MLflow serves as it is."""
    with_.models.package(SHORT)
    theirs = with_.start(servers.mlflow(with_.models, "package", f"models:/{SHORT}@champion"))
    ours, window = with_.start_ours(), with_.ask("mlflow-2048", payloads.mlflow_window(SHORT))
    raw, text = with_.ask("raw-2048", payloads.ours_raw(SHORT)), with_.ask("json-2048", payloads.ours_json(SHORT))
    others = {count: Cell(theirs, window, count) for count in CONNECTIONS}
    raws = {count: Cell(ours, raw, count) for count in CONNECTIONS}
    json = Cell(ours, text, 8)
    seen = with_.measure(*others.values(), *raws.values(), json)
    keys = {1: "mlflow_same_onnx_raw_c1", 8: "mlflow_same_onnx_raw", 32: "mlflow_same_onnx_raw_c32"}
    promised = {1: 5.0, 8: 3.5, 32: 5.0}
    goals = [_rates(keys[count], seen, raws[count], others[count], promised[count]) for count in CONNECTIONS]
    return [_result("mlflow_same_onnx", seen, [*goals, _rates("mlflow_same_onnx_json", seen, json, others[8], 4)])]


def mlserver(with_: Comparison) -> list[Result]:
    """The same package in MLServer, within one process and as it starts by default."""
    package = with_.models.package(SHORT)
    one = with_.start(servers.mlserver(package, with_.bench.folder, 0))
    default = with_.start(servers.mlserver(package, with_.bench.folder, None))
    ours, theirs = with_.start_ours(), with_.ask("mlserver-2048", payloads.mlserver_window(SHORT))
    raw = with_.ask("raw-2048", payloads.ours_raw(SHORT))
    raws = {count: Cell(ours, raw, count) for count in (8, 32)}
    defaults = {count: Cell(default, theirs, count) for count in (8, 32)}
    alone = Cell(one, theirs, 8)
    seen = with_.measure(*raws.values(), *defaults.values(), alone)
    goals = [
        _rates("mlserver_one_process_raw", seen, raws[8], alone, 3),
        _rates("mlserver_all_cores_c8", seen, raws[8], defaults[8], 4),
        _rates("mlserver_all_cores_c32", seen, raws[32], defaults[32], 6),
    ]
    return [_result("mlserver", seen, goals)]


def mlserver_image(with_: Comparison) -> list[Result]:
    """A JPEG in, a verdict out."""
    package = with_.models.package(SLUDGE)
    theirs = with_.start(servers.mlserver(package, with_.bench.folder, None))
    ours = Cell(with_.start_ours(), with_.ask("picture", payloads.ours_picture()), 8)
    other = Cell(theirs, with_.ask("mlserver-picture", payloads.mlserver_picture()), 8)
    seen = with_.measure(ours, other)
    a_core = ratio(median(seen[ours].per_cpu_second), median(seen[other].per_cpu_second))
    goals = [
        Goal("mlserver_image_per_core", a_core, 1),
        _rates("mlserver_image_all_cores", seen, ours, other, 2),
    ]
    return [_result("mlserver_image", seen, goals)]


def tutorial_image(with_: Comparison) -> list[Result]:
    """A JPEG in, against what tutorials teach."""
    with_.models.package(SLUDGE)
    theirs = with_.start(servers.tutorial())
    ours = Cell(with_.start_ours(), with_.ask("picture", payloads.ours_picture()), 8)
    other = Cell(theirs, with_.ask("upload", payloads.tutorial_picture()), 8)
    seen = with_.measure(ours, other)
    return [_result("tutorial_image", seen, [_rates("tutorial_image", seen, ours, other, 10)])]


def floors(with_: Comparison) -> list[Result]:
    """What HTTP, queue and checks cost on top of decoding, features and graph."""
    packages = {name: with_.models.package(name) for name in (SLUDGE, LONG, SHORT)}
    ours = with_.start_ours()
    asks = {name: with_.ask(f"raw-{name}", payloads.ours_raw(name)) for name in (LONG, SHORT)}
    asks[SLUDGE] = with_.ask("picture", payloads.ours_picture())
    many = {name: Cell(ours, asks[name], 8) for name in packages}
    single, empty = Cell(ours, asks[SHORT], 1), Cell(ours, with_.ask("empty", payloads.empty()), 1)
    seconds = with_.bench.seconds(4.0, 0.5)
    before = {name: floor(package, seconds) for name, package in packages.items()}
    seen = with_.measure(*many.values(), single, empty)
    after = {name: floor(package, seconds) for name, package in packages.items()}
    best = {name: {key: max(before[name][key], after[name][key]) for key in before[name]} for name in packages}
    ideal_ms = median(seen[empty].p50_ms) + min(before[SHORT]["single_ms"], after[SHORT]["single_ms"])
    short = seen[many[SHORT]]
    goals = [
        Goal("floor_vision", ratio(seen[many[SLUDGE]].rate, best[SLUDGE]["rate"]), 0.8),
        Goal("floor_vibration_1s", ratio(seen[many[LONG]].rate, best[LONG]["rate"]), 0.8),
        Goal("floor_vibration_2048_per_core", ratio(median(short.per_cpu_second), best[SHORT]["per_cpu_second"]), 0.75),
        Goal("p50_over_ideal_c1", ratio(median(seen[single].p50_ms), ideal_ms), 1.25, at_most=True),
        Goal("p99_over_p50_c8", ratio(median(short.p99_ms), median(short.p50_ms)), 5, at_most=True),
    ]
    told = {f"floor_{name}_per_s": round(figures["rate"], 1) for name, figures in best.items()}
    return [_result("floors", seen, goals, told)]


def batch64(with_: Comparison) -> list[Result]:
    """Windows a second in requests of 64, against single ones, at one connection."""
    with_.models.package(SHORT)
    ours = with_.start_ours()
    single = Cell(ours, with_.ask("json-2048", payloads.ours_json(SHORT)), 1)
    many = Cell(ours, with_.ask("batch-2048", payloads.ours_batch(SHORT)), 1)
    seen = with_.measure(single, many)
    windows = ratio(payloads.BATCH * seen[many].rate, seen[single].rate)
    return [_result("batch64", seen, [Goal("batch64", windows, 5)])]


def same_against_same(with_: Comparison) -> list[Result]:
    """The API against itself: how far a ratio is from 1 by chance."""
    with_.models.package(SHORT)
    ours, raw = with_.start_ours(), with_.ask("raw-2048", payloads.ours_raw(SHORT))
    first, second = Cell(ours, raw, 8), Cell(ours, raw, 8, copy=1)
    seen = with_.measure(first, second)
    return [_result("same_against_same", seen, [], {"ratio": ratio(seen[first].rate, seen[second].rate)})]


QUESTIONS: Mapping[str, Question] = {
    "mlflow_as_users_get_it": mlflow_as_users_get_it,
    "mlflow_same_onnx": mlflow_same_onnx,
    "mlserver": mlserver,
    "mlserver_image": mlserver_image,
    "tutorial_image": tutorial_image,
    "floors": floors,
    "batch64": batch64,
}


def _rates(key: str, seen: Mapping[Cell, Seen], ours: Cell, theirs: Cell, goal: float) -> Goal:
    return Goal(key, ratio(seen[ours].rate, seen[theirs].rate), goal)


def _result(name: str, seen: Mapping[Cell, Seen], goals: list[Goal], more: Mapping[str, float] | None = None) -> Result:
    """The ratios first, then each cell: answers a second, spread, milliseconds of server CPU an answer, p50 and p99."""
    figures: dict[str, Figure] = {**{goal.key: goal.value for goal in goals}, **(more or {})}
    for cell, found in seen.items():
        key = cell.name.replace(" ", "_")
        figures |= {
            f"{key}_per_s": found.rate,
            f"{key}_spread": found.spread,
            f"{key}_cpu_ms": 1e3 / median(found.per_cpu_second),
            f"{key}_p50_ms": median(found.p50_ms),
            f"{key}_p99_ms": median(found.p99_ms),
            f"{key}_client_cores": median(found.client_share),
        }
    target = ", ".join(f"{goal.key} {'<=' if goal.at_most else '>='} {goal.goal:g}" for goal in goals)
    return Result(
        name,
        target,
        figures,
        met=all(goal.met for goal in goals) if goals else None,
        trials=sum(found.trials for found in seen.values()),
        void=sum(found.void for found in seen.values()),
    )
