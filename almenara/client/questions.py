"""What the API can be asked: each question is a conversation, and becomes a method of both clients."""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Required, TypeAlias, TypedDict, Unpack
from urllib.parse import quote

import numpy as np
from numpy.typing import ArrayLike, NDArray

from almenara.client.answers import ApiError
from almenara.client.asking import Conversation, Request
from almenara.client.results import ServedModels
from almenara.contracts import AlarmKind, Contract, Machine, Reading, VibrationVerdict, VisionVerdict
from almenara.errors import InputError

if TYPE_CHECKING:
    from almenara.alarms.records import AlarmRecord
    from almenara.alarms.vocabulary import Phase, Priority, Verdict

Picture: TypeAlias = bytes | Path | NDArray[np.uint8]
Heatmap = Literal["none", "png", "overlay"]

_MOST_PICTURES = 16
_MOST_PICTURE_BYTES = 8 * 2**20
"""Of one request: half of what the API takes, which has 10 s for all."""
_SIGNATURES = ((b"\xff\xd8\xff", "image/jpeg"), (b"\x89PNG", "image/png"), (b"RIFF", "image/webp"))


class WindowFacts(TypedDict, total=False):
    """What has to be known beside the samples; see `judge_signal`."""

    sampling_rate_hz: Required[float]
    shaft_rpm: float | None
    bearing: str | None
    unit: str | None
    machine: Machine | None
    asset: str | None
    channel: str | None
    measured_at: datetime | None
    record_id: str | None


class _VisionVerdicts(Contract):
    verdicts: tuple[VisionVerdict, ...]


class _VibrationVerdicts(Contract):
    verdicts: tuple[VibrationVerdict, ...]


# --- pictures ---------------------------------------------------------------------------------------------


def judge_picture(model: str, picture: Picture, *, heatmap: Heatmap = "none") -> Conversation[VisionVerdict]:
    """Judge one picture with the model's champion version.

    Args:
        model: registered name.
        picture: a JPEG, PNG or WebP file, its path, or uint8 RGB of shape (height, width, 3).
        heatmap: a picture of the scores in the verdict: `png` the map alone, `overlay` laid over the picture.
    """
    file = _file(picture)
    answer = yield Request(
        "POST",
        f"/v1/vision/{_segment(model)}/predict",
        query={"heatmap": heatmap},
        headers={"Content-Type": _kind(file)},
        content=file,
    )
    return answer.read(VisionVerdict)


def judge_pictures(
    model: str, pictures: Iterable[Picture], *, heatmap: Heatmap = "none"
) -> Conversation[list[VisionVerdict]]:
    """Judge pictures, up to 16 in a request; their verdicts come in the same order.

    One that cannot be judged ends it with an ApiError that tells which.

    Args:
        model: registered name.
        pictures: as of `predict`; files are read when their turn comes.
        heatmap: as of `predict`.
    """
    verdicts: list[VisionVerdict] = []
    for batch in _batches(pictures):
        files = [("file", (f"{number}", file, _kind(file))) for number, file in enumerate(batch)]
        answer = yield Request("POST", f"/v1/vision/{_segment(model)}/predict", query={"heatmap": heatmap}, files=files)
        try:
            found = answer.read(_VisionVerdicts).verdicts if len(batch) > 1 else (answer.read(VisionVerdict),)
        except ApiError as error:
            where = f"pictures[{len(verdicts)}:{len(verdicts) + len(batch)}]"
            raise ApiError(error.status, error.code, f"{where}: {error.fact}", error.remedy, error.request_id) from None
        if len(found) != len(batch):
            raise answer.unreadable(f"{len(found)} verdicts on {len(batch)} pictures")
        verdicts += found
    return verdicts


# --- vibration --------------------------------------------------------------------------------------------


def judge_signal(
    model: str, signal: ArrayLike, *, idempotency_key: str | None = None, **facts: Unpack[WindowFacts]
) -> Conversation[VibrationVerdict]:
    """Judge one vibration signal with the model's champion version; it is sent as raw float32.

    Args:
        model: registered name.
        signal: samples, shape (samples,), finite.
        idempotency_key: by which the API knows a repeat, which gets the first verdict and moves no alarm; by default a
            new one when there is an asset and no `record_id`. 1 to 200 printable ASCII characters.
        sampling_rate_hz: samples a second; never assumed.
        shaft_rpm: revolutions a minute.
        bearing: designation, such as 6205-2RS.
        unit: of the samples, such as g.
        machine: group and support of ISO 20816-3, such as group2-rigid; the verdict's severity then has a zone.
        asset: the machine; its baseline then decides its alarm.
        channel: of the asset's sensor, such as `drive end`.
        measured_at: when the window ended, with its time zone; by default now.
        record_id: your own id of the recording; sent again with the same asset and channel it is a repeat.
    """
    answer = yield Request(
        "POST",
        f"/v1/vibration/{_segment(model)}/predict",
        query=_told(facts),
        headers={"Content-Type": "application/octet-stream", **_repeat(idempotency_key, facts)},
        content=_samples(signal, "signal").tobytes(),
    )
    return answer.read(VibrationVerdict)


def judge_signals(
    model: str, signals: Sequence[ArrayLike], *, idempotency_key: str | None = None, **facts: Unpack[WindowFacts]
) -> Conversation[list[VibrationVerdict]]:
    """Judge several signals of one sensor in one request, oldest first; they count as recorded one after the other.

    They go as JSON, of which the API takes 16 MiB: about 700,000 samples in all.

    Args:
        model: registered name.
        signals: each of shape (samples,), finite.
        idempotency_key: of all together, as of `predict`.
        facts: as of `predict`; of the last signal `measured_at`.
    """
    rows = [_samples(signal, f"signals[{index}]").tolist() for index, signal in enumerate(signals)]
    if not rows:
        return []
    answer = yield Request(
        "POST",
        f"/v1/vibration/{_segment(model)}/predict",
        headers={"Content-Type": "application/json", **_repeat(idempotency_key, facts)},
        content=json.dumps({"signals": rows, **_told(facts)}, separators=(",", ":")).encode(),
    )
    verdicts = answer.read(_VibrationVerdicts).verdicts
    if len(verdicts) != len(rows):
        raise answer.unreadable(f"{len(verdicts)} verdicts on {len(rows)} signals")
    return list(verdicts)


# --- the platform -----------------------------------------------------------------------------------------


def models() -> Conversation[ServedModels]:
    """What is in service, what was refused, and what is missing."""
    answer = yield Request("GET", "/v1/models")
    return answer.read(ServedModels)


def ready() -> Conversation[bool]:
    """Whether a model is in service; `models` tells what is missing."""
    answer = yield Request("GET", "/health/ready", answers=frozenset({503}))
    if answer.status == 503:
        return False
    answer.read(dict[str, Any])
    return True


def alarms(
    *,
    source: str | None = None,
    kind: AlarmKind | None = None,
    phases: Iterable[Phase | str] = (),
    priority: Priority | None = None,
    standing: bool | None = None,
    since: datetime | None = None,
    until: datetime | None = None,
    limit: int = 100,
    before: str | None = None,
) -> Conversation[list[AlarmRecord]]:
    """The alarms of the plant, newest first.

    Args:
        source: glob of cameras and assets, such as ``line-2/*``.
        kind: what they are about.
        phases: one of these, such as ``unacknowledged``.
        priority: exactly this one.
        standing: true: still open; false: over.
        since: raised at or after; with its time zone.
        until: raised before; with its time zone.
        limit: 1 to 1000.
        before: id of an alarm; those that come after it in the list.
    """
    from almenara.alarms.records import AlarmRecord

    chosen = {
        "source": source,
        "kind": kind,
        "phase": [str(phase) for phase in phases] or None,
        "priority": priority,
        "standing": standing,
        "since": _moment(since, "since"),
        "until": _moment(until, "until"),
        "limit": limit,
        "before": before,
    }
    answer = yield Request("GET", "/v1/alarms", query=_given(chosen))
    return answer.read(list[AlarmRecord])


def acknowledge(
    alarm_id: str, user: str, *, comment: str = "", verdict: Verdict | None = None
) -> Conversation[AlarmRecord]:
    """Say that somebody has seen an alarm; twice changes nothing but the verdict.

    Args:
        alarm_id: of the alarm.
        user: who has seen it.
        comment: what is to be kept.
        verdict: what the person found; `false_alarm` keeps what raised it as a confirmed normal.
    """
    from almenara.alarms.records import AlarmRecord

    answer = yield Request(
        "POST",
        f"/v1/alarms/{_segment(alarm_id)}/acknowledge",
        headers={"Content-Type": "application/json"},
        content=json.dumps(_given({"user": user, "comment": comment, "verdict": verdict})).encode(),
    )
    return answer.read(AlarmRecord)


def trend(
    asset: str,
    *,
    channel: str | None = None,
    since: datetime | None = None,
    until: datetime | None = None,
    limit: int = 100,
) -> Conversation[list[Reading]]:
    """An asset's verdicts, the one measured last first; none for an asset that is not known.

    Args:
        asset: as it was posted.
        channel: of this sensor alone; empty: of those without a channel.
        since: measured at or after; with its time zone.
        until: measured before; with its time zone. That of the last one leads to older ones.
        limit: 1 to 1000.
    """
    chosen = {"channel": channel, "since": _moment(since, "since"), "until": _moment(until, "until"), "limit": limit}
    answer = yield Request("GET", f"/v1/assets/{_segment(asset)}/trend", query=_given(chosen))
    return answer.read(list[Reading])


# --- what is sent -----------------------------------------------------------------------------------------


def _file(picture: Picture) -> bytes:
    if isinstance(picture, bytes):
        return picture
    if isinstance(picture, Path):
        try:
            return picture.read_bytes()
        except OSError as error:
            raise InputError(
                "file-unreadable", f"{picture} cannot be read: {error.strerror}.", "Check path and rights."
            ) from error
    if not isinstance(picture, np.ndarray):
        raise InputError(
            "image-type",
            f"A picture is bytes, a pathlib.Path or a NumPy array, and this is a {type(picture).__name__}.",
            'Give the name of a file as a path: Path("frame.jpg").',
        )
    if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[2] != 3 or picture.size == 0:
        raise InputError(
            "image-shape", f"A uint8 RGB picture (height, width, 3) is needed: this is {picture.dtype} {picture.shape}."
        )
    from almenara.vision.images import encode_png

    return encode_png(picture)


def _kind(file: bytes) -> str:
    """As the file begins; the API says what is wrong with any other."""
    return next((kind for signature, kind in _SIGNATURES if file.startswith(signature)), "image/jpeg")


def _batches(pictures: Iterable[Picture]) -> Iterator[list[bytes]]:
    batch: list[bytes] = []
    for file in map(_file, pictures):
        if batch and (len(batch) == _MOST_PICTURES or sum(map(len, batch)) + len(file) > _MOST_PICTURE_BYTES):
            yield batch
            batch = []
        batch.append(file)
    if batch:
        yield batch


def _samples(signal: ArrayLike, name: str) -> NDArray[np.float32]:
    array = np.asarray(signal)
    if array.ndim != 1 or array.dtype.kind not in "iuf" or array.size == 0:
        raise InputError(
            "window-shape", f"{name} is {array.dtype} {array.shape}, not numbers of shape (samples,).", "Send one row."
        )
    with np.errstate(over="ignore"):  # what float32 cannot hold becomes infinite
        samples = array.astype("<f4")
    if not np.isfinite(samples).all():
        index = int(np.argmin(np.isfinite(samples)))
        raise InputError("window-not-finite", f"{name}[{index}] is {array[index]}.", "Leave the window out.")
    return samples


def _told(facts: WindowFacts) -> dict[str, Any]:
    """The facts that were given, as JSON and a query have them."""
    told = _given({**facts, "measured_at": _moment(facts.get("measured_at"), "measured_at")})
    return {name: float(value) if name in {"sampling_rate_hz", "shaft_rpm"} else value for name, value in told.items()}


def _repeat(idempotency_key: str | None, facts: WindowFacts) -> dict[str, str]:
    """The header by which a repeat is known: a window without an asset needs none, a recording has its own id."""
    if idempotency_key is None:
        known = facts.get("asset") is None or facts.get("record_id") is not None
        return {} if known else {"Idempotency-Key": str(uuid.uuid4())}
    if not re.fullmatch(r"[!-~]([ -~]{0,198}[!-~])?", idempotency_key):
        raise InputError(
            "idempotency-key", "The idempotency key is not 1 to 200 printable ASCII characters, without blanks around."
        )
    return {"Idempotency-Key": idempotency_key}


def _given(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}


def _moment(at: datetime | None, name: str) -> str | None:
    if at is not None and at.tzinfo is None:
        raise InputError("time-zone", f"{name} has no time zone.", "Give one: datetime.now(UTC).")
    return None if at is None else at.astimezone(UTC).isoformat()


def _segment(name: str) -> str:
    """A name as one part of a path."""
    if name in {"", ".", ".."}:
        raise InputError("name", f"{name!r} is no name of a model, an alarm or an asset.")
    return quote(name, safe="")
