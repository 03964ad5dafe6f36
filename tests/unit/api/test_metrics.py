"""Verdicts are counted by model and version, and the series of a version end with its service."""

from __future__ import annotations

from pathlib import Path

from almenara.contracts import VibrationVerdict
from almenara_api.cache import ModelCache
from almenara_api.metrics import Metrics
from almenara_api.store import ModelStore
from tests.support.api import FolderRegistry
from tests.support.packages import classifier_candidate


class Bench:
    """A store whose models the metrics show."""

    def __init__(self, root: Path) -> None:
        self.metrics = Metrics()
        self.registry = FolderRegistry(root / "registry")
        cache = ModelCache(root / "cache", "here")
        self.store = ModelStore(lambda: self.registry, cache, 60, on_change=self.metrics.show_models)

    def serve(self, version: str, challenger: str) -> None:
        self.registry.register(classifier_candidate(), version)
        self.registry.challenge(classifier_candidate(), challenger)
        self.store.refresh()
        assert self.store.snapshot.loaded["bearing"].entry.version == version

    def judge(self, version: str) -> None:
        """A verdict of a version that abstains, with a baseline of the same version."""
        novelty = {"label": "normal", "score": 1.0, "anomaly": 0.25, "p_value": 0.5, "threshold": 2.0}
        model = {"name": "bearing", "version": version}
        self.metrics.show_vibration(
            VibrationVerdict.model_validate(
                {
                    "model": model,
                    "label": "unknown",
                    "probabilities": {"normal": 0.35, "ball": 0.65},
                    "abstained": True,
                    "novelty": {"model": model, **novelty},
                    "windows": 1,
                    "rms": 0.1,
                    "reason": "It is not sure.",
                }
            )
        )

    def value(self, name: str, labels: dict[str, str]) -> float | None:
        return self.metrics.registry.get_sample_value(f"almenara_{name}", labels)

    @property
    def judged(self) -> set[str]:
        """Versions that have a series of verdicts."""
        names = ("almenara_anomaly", "almenara_confidence", "almenara_abstentions")
        families = [each for each in self.metrics.registry.collect() if each.name in names]
        assert len(families) == len(names)
        found = [{sample.labels["version"] for sample in each.samples} for each in families]
        assert found[0] == found[1] == found[2]
        return found[0]


def test_a_verdict_is_counted_under_its_version_by_how_sure_and_how_unusual_it_is(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.serve("1", "2")
    for _ in range(3):
        bench.judge("1")
    served = {"model": "bearing", "version": "1"}
    assert bench.value("abstentions_total", served) == 3
    assert bench.value("confidence_sum", served) == 3 * 0.65
    assert [bench.value("confidence_bucket", served | {"le": le}) for le in ("0.6", "0.7")] == [0, 3]
    assert [bench.value("anomaly_bucket", served | {"le": le}) for le in ("0.2", "0.3")] == [0, 3]


def test_the_series_of_a_version_end_with_its_service_and_those_of_the_others_go_on(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.serve("1", "3")
    bench.judge("1")
    bench.store.refresh()
    assert bench.judged == {"1"}
    bench.serve("2", "3")
    assert bench.judged == set()
    bench.judge("1")  # it was begun before the swap
    bench.judge("2")
    bench.store.refresh()
    assert bench.judged == {"2"}
    assert bench.value("confidence_count", {"model": "bearing", "version": "2"}) == 1


def test_a_challengers_series_end_when_another_takes_its_place(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.serve("1", "2")
    shadow = bench.metrics.shadow

    def compare(version: str) -> None:
        shadow.requests.labels("bearing", version, "compared").inc()
        shadow.requests.labels("bearing", version, "dropped").inc()
        shadow.labels_differ.labels("bearing", version).inc()
        shadow.difference.labels("bearing", version).observe(0.1)

    def compared(version: str) -> list[float | None]:
        told = {"name": "bearing", "version": version}
        names = ("labels_differ_total", "difference_sum")
        counted = [bench.value("shadow_requests_total", told | {"outcome": each}) for each in ("compared", "dropped")]
        return counted + [bench.value(f"shadow_{each}", told) for each in names]

    compare("2")
    bench.store.refresh()
    assert compared("2") == [1, 1, 1, 0.1]
    bench.serve("1", "3")
    compare("3")
    bench.store.refresh()
    assert (compared("2"), compared("3")) == ([None] * 4, [1, 1, 1, 0.1])
