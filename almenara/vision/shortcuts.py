"""Whether cheaper ways to a picture's score lead to the same verdict, measured with a model on files it does not know.

Two are measured: decoding a large JPEG at reduced scale, and the camera worker's shrinking and encoding.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from almenara.contracts import ImageInput, Shortcut
from almenara.vision.containers import inspect
from almenara.vision.images import MAX_PIXELS, as_sent, decode, enough_for, prepare, read, read_bytes, reduction

BAND = 0.02
"""Share of the threshold by which one score in a hundred may move, and around it within which a label may change."""
LEAST_PICTURES, MOST_PICTURES = 20, 256
_BATCH = 16

Score = Callable[[NDArray[np.uint8]], NDArray[np.float64]]


def measure(
    files: Sequence[Path], scores: NDArray[np.float64], spec: ImageInput, threshold: float, score: Score
) -> ImageInput:
    """The card's input with what was found of its shortcuts.

    Args:
        files: pictures that the model was not fitted on; only the JPEGs among them count.
        scores: of those files decoded whole, shape (n,).
        spec: the card's input.
        threshold: of the raw score.
        score: raw scores, shape (m,), of prepared pictures, uint8 (m, spec.height, spec.width, 3).

    Raises:
        InputError: a file cannot be read or decoded.
    """
    enough = enough_for(spec)
    headers = {place: inspect(read_bytes(file), str(file)) for place, file in enumerate(files)}
    jpegs = _evenly([place for place, header in headers.items() if header.kind == "JPEG"])
    large = _evenly([place for place, header in headers.items() if reduction(header, enough) > 1])

    def judged(places: Sequence[int], look: Callable[[Path], NDArray[np.uint8]], none: str) -> Shortcut:
        pictures = (prepare(look(files[place]), spec) for place in places)
        return compare(scores[places], _scored(pictures, score), threshold, none)

    reduced = judged(
        large,
        lambda file: decode(read_bytes(file), max_pixels=MAX_PIXELS, enough=enough),
        f"No JPEG that the model was not fitted on has {2 * max(enough) - 1} pixels a side, so none is reduced.",
    )
    if large:
        reduced = reduced.model_copy(
            update={"divisor": _divisor([reduction(headers[place], enough) for place in large])}
        )
    served = enough if reduced.allowed else None
    sent = judged(
        jpegs,
        lambda file: decode(as_sent(read(file)), max_pixels=MAX_PIXELS, enough=served),
        "No picture that the model was not fitted on is a JPEG.",
    )
    return spec.model_copy(update={"reduced_decoding": reduced, "reencoding": sent})


def compare(
    before: NDArray[np.float64], after: NDArray[np.float64], threshold: float, none: str = "There is no picture."
) -> Shortcut:
    """What became of the scores of the same pictures, shape (n,), by a shortcut; `none` is the reason when n is 0."""
    count = before.size
    if not count:
        return Shortcut(allowed=False, pictures=0, reason=none)
    change = np.abs(after - before) / abs(threshold)
    p50, p99 = (float(np.quantile(change, share)) for share in (0.5, 0.99))
    sure = np.abs(before - threshold) > BAND * abs(threshold)
    flips = int(np.sum(sure & ((before > threshold) != (after > threshold))))
    against = [
        (flips > 0, f"{flips} of {count} labels change though not within {BAND:.0%} of the threshold."),
        (p99 > BAND, f"One score in a hundred moves by {p99:.1%} of the threshold, and {BAND:.0%} are accepted."),
        (count < LEAST_PICTURES, f"Only {count} JPEGs could be compared, and {LEAST_PICTURES} are needed."),
    ]
    reasons = [reason for found, reason in against if found]
    if not reasons:
        reasons = [f"Of {count} JPEGs 99 in 100 keep their score within {p99:.1%} of the threshold, and their label."]
    return Shortcut(
        allowed=not any(found for found, _ in against),
        pictures=count,
        p50=p50,
        p99=p99,
        flips=flips,
        reason=" ".join(reasons),
    )


def _divisor(divisors: Sequence[int]) -> int:
    """The largest that enough pictures were divided by, or by more."""
    return max((by for by in divisors if sum(each >= by for each in divisors) >= LEAST_PICTURES), default=2)


def _scored(pictures: Iterator[NDArray[np.uint8]], score: Score) -> NDArray[np.float64]:
    parts = []
    while batch := list(islice(pictures, _BATCH)):
        parts.append(score(np.stack(batch)))
    return np.concatenate(parts) if parts else np.empty(0)


def _evenly(places: Sequence[int]) -> list[int]:
    """At most MOST_PICTURES of them, at even steps."""
    if len(places) <= MOST_PICTURES:
        return list(places)
    return [places[step] for step in np.linspace(0, len(places) - 1, MOST_PICTURES).round().astype(int)]
