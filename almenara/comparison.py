"""Two versions of a model side by side, and whether one may take the other's place."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from pydantic import Field

from almenara.contracts import Card, Contract, Role
from almenara.errors import AlmenaraError

TOLERANCE = 0.01
"""Differences up to this are the same. On the same held-out data another seed moves the AUROC of pictures by 0.01
(standard deviation) and a bearing classifier's macro-F1 by 0.002."""

HIGHER_IS_BETTER: Mapping[str, bool] = {
    **dict.fromkeys(("macro_f1", "macro_f1_faults", "record_macro_f1", "answered_accuracy"), True),
    **dict.fromkeys(("image_auroc", "aupr", "detection_rate"), True),
    **dict.fromkeys(("ece", "false_alarm_rate", "abstention_rate"), False),
}

MAIN: Mapping[Role, Sequence[tuple[str, str]]] = {
    "anomaly": (("held-out-groups", "image_auroc"), ("held-out-groups", "false_alarm_rate")),
    "classifier": (("leave-one-fault-size-out", "macro_f1"),),
    "novelty": (("group cross-validation", "false_alarm_rate"),),
}
"""Protocol and metric that decide, the first that both versions have. None of these protocols leaks."""

_SPLIT = ("seed", "false_alarm_rate")
"""Parameters of a vision training that decide which groups are held out; other groups move its AUROC by 0.03."""

_EXCESS = "false alarms above the promise"


class PromotionError(AlmenaraError):
    """A version may not take the champion's place: it is worse, or nobody can say."""


@dataclass(frozen=True)
class Evaluated:
    """A version with what is known of its evaluation.

    Attributes:
        version: registered version.
        card: with the figures.
        parameters: of its run.
    """

    version: str
    card: Card
    parameters: Mapping[str, str]

    @property
    def fingerprint(self) -> str | None:
        """Of the data that it was trained and evaluated on."""
        found = self.card.training_data.get("fingerprint")
        return None if found is None else str(found)


class Side(Contract):
    """One of the two versions."""

    version: str
    method: str
    fingerprint: str | None = Field(description="of the data that it was trained and evaluated on")
    protocols: tuple[str, ...]
    parameters: dict[str, str] = Field(description="what its training was told")


class Figure(Contract):
    """A metric of both versions; null where a version lacks it."""

    protocol: str
    metric: str
    a: float | None
    b: float | None
    difference: float | None = Field(description="b - a")
    better: Literal["a", "b", "same"] | None = Field(description="null when it cannot be said")
    leaks: bool = Field(description="training and test share records: flatters, and decides nothing")


class Comparison(Contract):
    """What the cards of two versions say."""

    name: str
    a: Side
    b: Side
    figures: tuple[Figure, ...]
    main: Figure | None = Field(
        description="the one that decides a promotion; null without one that both have. When neither has any, nothing "
        "says that one is worse, and `comparable` is true"
    )
    comparable: bool
    obstacles: tuple[str, ...] = Field(description="why the two cannot be compared, sentences")


def compare(a: Evaluated, b: Evaluated) -> Comparison:
    """Compare two versions of one model.

    They are comparable when both were evaluated on the same data (`training_data.fingerprint`), pictures on the same
    held-out groups and vibration in windows of the same length, for the same promise where false alarms decide, by a
    protocol that does not leak and that both cards hold (`MAIN`). When neither holds one (data without severities, few
    healthy records), they are comparable and nothing decides.
    """
    main = _main_figure(a.card, b.card)
    obstacles = tuple(_obstacles(a, b, main))
    metrics = dict.fromkeys(
        (protocol, metric) for card in (a.card, b.card) for protocol, held in card.metrics.items() for metric in held
    )
    figures = tuple(
        _figure(protocol, metric, _value(a.card, protocol, metric), _value(b.card, protocol, metric))
        for protocol, metric in metrics
    )
    return Comparison(
        name=a.card.name,
        a=_side(a),
        b=_side(b),
        figures=figures,
        main=main,
        comparable=not obstacles,
        obstacles=obstacles,
    )


def objection(comparison: Comparison) -> PromotionError | None:
    """Why version b should not take the place of version a, with the figures; None when it may."""
    name, champion, version = comparison.name, comparison.a.version, comparison.b.version
    force = _force(name, version)
    main = comparison.main
    if comparison.obstacles:
        same_data = comparison.a.fingerprint is not None and comparison.a.fingerprint == comparison.b.fingerprint
        watch = "Watch it" if same_data else "Train it on the champion's data, or watch it"
        return PromotionError(
            f"{name} version {version} cannot be compared with the champion, version {champion}: "
            f"{' '.join(comparison.obstacles)}",
            f"{watch} beside the champion: almenara models challenge {name} {version}. {force}",
        )
    if main is None or main.better != "a":
        return None
    return PromotionError(
        f"{name} version {version} is worse than the champion, version {champion}: {main.metric} "
        f"({main.protocol}) is {main.b:.3f} against {main.a:.3f}; {TOLERANCE:g} is tolerated.",
        f"Look closer: almenara models compare {name} {champion} {version}. {force}",
    )


def unreadable(name: str, champion: str, version: str, error: AlmenaraError) -> PromotionError:
    """The objection when a card cannot be read."""
    return PromotionError(
        f"{name} version {version} cannot be compared with the champion, version {champion}: {error.fact}",
        _force(name, version),
    )


def plot(comparison: Comparison) -> bytes:
    """PNG of every rate and score of both versions, one panel a protocol; counts are left out."""
    from matplotlib.figure import Figure as Drawing

    rates = [each for each in comparison.figures if each.metric in HIGHER_IS_BETTER]
    protocols = list(dict.fromkeys(each.protocol for each in rates)) or ["no figures"]
    drawing = Drawing(figsize=(7, 1.2 + 2.6 * len(protocols)), dpi=120, layout="constrained")
    panels = drawing.subplots(len(protocols), 1, squeeze=False)[:, 0]
    for panel, protocol in zip(panels, protocols, strict=True):
        shown = [each for each in rates if each.protocol == protocol]
        places = range(len(shown))
        for shift, version, values in (
            (-0.2, comparison.a.version, [each.a for each in shown]),
            (0.2, comparison.b.version, [each.b for each in shown]),
        ):
            heights = [value or 0.0 for value in values]
            bars = panel.bar([place + shift for place in places], heights, width=0.38, label=f"version {version}")
            panel.bar_label(bars, ["none" if value is None else f"{value:.3f}" for value in values], fontsize=7)
        panel.set_xticks(list(places), [each.metric for each in shown], rotation=20, ha="right", fontsize=8)
        panel.set(title=protocol, ylim=(0, 1.12))
    drawing.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=2, fontsize=8)
    drawing.suptitle(f"{comparison.name}: version {comparison.a.version} and {comparison.b.version}")
    png = io.BytesIO()
    drawing.savefig(png, format="png")
    return png.getvalue()


def _force(name: str, version: str) -> str:
    return f"To promote it all the same: almenara models promote {name} {version} --force --reason …"


def _side(of: Evaluated) -> Side:
    return Side(
        version=of.version,
        method=of.card.method,
        fingerprint=of.fingerprint,
        protocols=tuple(of.card.metrics),
        parameters=dict(of.parameters),
    )


def _main_figure(a: Card, b: Card) -> Figure | None:
    for protocol, metric in MAIN[a.role]:
        values = _value(a, protocol, metric), _value(b, protocol, metric)
        if None in values:
            continue
        if metric == "false_alarm_rate":
            return _figure(protocol, _EXCESS, _excess(a, protocol), _excess(b, protocol), higher_is_better=False)
        return _figure(protocol, metric, *values)
    return None


def _value(card: Card, protocol: str, metric: str) -> float | None:
    return card.metrics.get(protocol, {}).get(metric)


def _excess(card: Card, protocol: str) -> float:
    """False alarms above the card's own promise: one that keeps it is not worse than one that never alarms."""
    promise = card.threshold.false_alarm_rate if card.threshold else 0.0
    return max(0.0, card.metrics[protocol]["false_alarm_rate"] - promise)


def _figure(
    protocol: str, metric: str, a: float | None, b: float | None, higher_is_better: bool | None = None
) -> Figure:
    higher = HIGHER_IS_BETTER.get(metric, higher_is_better)
    difference = None if a is None or b is None else b - a
    better: Literal["a", "b", "same"] | None = None
    if difference is not None and higher is not None:
        # Rounded, because 0.9 - 0.89 is a little more than 0.01.
        within = round(abs(difference), 9) <= TOLERANCE
        better = "same" if within else "b" if (difference > 0) == higher else "a"
    leaks = "leaking" in protocol or protocol == "random-window"
    return Figure(protocol=protocol, metric=metric, a=a, b=b, difference=difference, better=better, leaks=leaks)


def _obstacles(a: Evaluated, b: Evaluated, main: Figure | None) -> Iterator[str]:
    silent = [each.version for each in (a, b) if each.fingerprint is None]
    if silent:
        yield f"Version {' and '.join(silent)} does not say which data it saw (training_data.fingerprint)."
    elif a.fingerprint != b.fingerprint:
        yield (
            f"They were evaluated on different data (fingerprint {a.fingerprint:.12} of version {a.version}, "
            f"{b.fingerprint:.12} of version {b.version})."
        )
    lengths = [getattr(each.card.input, "window_seconds", None) for each in (a, b)]
    if lengths[0] != lengths[1]:
        yield f"Their figures count windows of {lengths[0]} s and {lengths[1]} s."
    for drawn_by in _SPLIT if a.card.task == "vision" else ():
        values = [each.parameters.get(drawn_by) for each in (a, b)]
        if None not in values and values[0] != values[1]:
            yield f"Their held-out groups were drawn differently ({drawn_by} {values[0]} and {values[1]})."
    promises = [each.card.threshold.false_alarm_rate if each.card.threshold else None for each in (a, b)]
    by_false_alarms = a.card.role == "novelty" or (main is not None and main.metric == _EXCESS)
    if by_false_alarms and promises[0] != promises[1]:
        yield f"They promise different false-alarm rates ({promises[0]} and {promises[1]})."
    held = [_deciding(each.card) for each in (a, b)]
    if main is None and any(held):
        told = "; ".join(
            f"version {each.version} has {', '.join(figures) or 'none'}"
            for each, figures in zip((a, b), held, strict=True)
        )
        yield f"They have no deciding figure in common: {told}."


def _deciding(card: Card) -> list[str]:
    """Names of the figures of a card that may decide."""
    return [
        f"{metric} ({protocol})" for protocol, metric in MAIN[card.role] if _value(card, protocol, metric) is not None
    ]
