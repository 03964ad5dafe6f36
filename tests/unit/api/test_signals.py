"""Posted vibration: JSON and raw bodies become float32 signals with a rate, or say what is wrong."""

from __future__ import annotations

import json
import tracemalloc
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from almenara.errors import InputError
from almenara_api.signals import JSON, RAW, VibrationQuery, parse

NOTHING = VibrationQuery()
RATE = VibrationQuery(sampling_rate_hz=12_000)


def body(**content: Any) -> bytes:
    return json.dumps(content).encode()


def code_of(content: bytes, query: VibrationQuery = NOTHING, kind: str = JSON) -> str:
    with pytest.raises(InputError) as refused:
        parse(content, kind, query, max_samples=100)
    assert refused.value.fact
    assert refused.value.remedy
    return refused.value.code


@settings(max_examples=50)
@given(st.lists(st.floats(-1e6, 1e6, width=32), min_size=1, max_size=100))
def test_json_and_raw_bodies_give_the_same_signal(samples: list[float]) -> None:
    raw = parse(np.asarray(samples, "<f4").tobytes(), RAW, RATE, 100)
    written = parse(body(signal=samples, sampling_rate_hz=12_000), JSON, NOTHING, 100)
    np.testing.assert_array_equal(raw.signals[0], written.signals[0])
    assert raw.signals[0].dtype == np.float32
    assert raw.sampling_rate_hz == written.sampling_rate_hz == 12_000


def test_several_signals_stay_several() -> None:
    posted = parse(body(signals=[[1, 2], [3, 4, 5]], sampling_rate_hz=10), JSON, NOTHING, 100)
    assert posted.several
    assert [signal.tolist() for signal in posted.signals] == [[1, 2], [3, 4, 5]]


def test_the_body_wins_over_the_query() -> None:
    query = VibrationQuery(sampling_rate_hz=48_000, unit="g")
    posted = parse(body(signal=[1, 2], sampling_rate_hz=12_000, asset="pump-1"), JSON, query, 100)
    assert posted.sampling_rate_hz == 12_000
    assert (posted.parameters.unit, posted.parameters.asset) == ("g", "pump-1")


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (b"", "json-invalid"),
        (b"{", "json-invalid"),
        (b'{"signal": [1, NaN], "sampling_rate_hz": 1}', "json-invalid"),
        (b"[1, 2]", "json-invalid"),
        (body(sampling_rate_hz=1), "json-signal"),
        (body(signal=[1], signals=[[1]], sampling_rate_hz=1), "json-signal"),
        (body(signals=[], sampling_rate_hz=1), "json-signal"),
        (body(signal=[], sampling_rate_hz=1), "recording-empty"),
        (body(signal="abc", sampling_rate_hz=1), "recording-empty"),
        (body(signals=[1, 2], sampling_rate_hz=1), "recording-empty"),
        (body(signal=[1, "2"], sampling_rate_hz=1), "window-dtype"),
        (body(signal=["1", "2"], sampling_rate_hz=1), "window-dtype"),
        (body(signal=[1, None], sampling_rate_hz=1), "window-dtype"),
        (body(signal=[True, False], sampling_rate_hz=1), "window-dtype"),
        (body(signal=[[1, 2], [3]], sampling_rate_hz=1), "window-dtype"),
        (body(signal=[[1], [3]], sampling_rate_hz=1), "window-dtype"),
        (body(signal=[0] * 101, sampling_rate_hz=1), "recording-too-long"),
        (body(signals=[[0] * 60, [0] * 60], sampling_rate_hz=1), "recording-too-long"),
        (body(signal=[1, 2]), "sampling-rate-missing"),
        (body(signal=[1, 2], sampling_rate_hz=-1), "parameters-invalid"),
        (body(signal=[1, 2], sampling_rate_hz="12000"), "parameters-invalid"),
        (body(signal=[1, 2], sampling_rate=12000), "parameters-invalid"),
    ],
)
def test_a_bad_json_body_says_what_is_wrong(content: bytes, code: str) -> None:
    assert code_of(content) == code


def test_a_wrong_element_is_named_with_its_index() -> None:
    with pytest.raises(InputError, match=r"signals\[1\]\[2\] is 'x'"):
        parse(body(signals=[[1, 2], [3, 4, "x"]], sampling_rate_hz=1), JSON, NOTHING, 100)


def test_a_raw_body_without_a_rate_is_refused() -> None:
    assert code_of(np.zeros(4, "<f4").tobytes(), kind=RAW) == "sampling-rate-missing"


def test_what_float32_cannot_hold_becomes_infinite_and_is_left_to_the_quality_checks() -> None:
    posted = parse(body(signal=[1e300, 0], sampling_rate_hz=1), JSON, NOTHING, 100)
    assert np.isinf(posted.signals[0][0])


@given(st.lists(st.integers(-32768, 32767), min_size=1, max_size=100), st.floats(1e-6, 1e3))
def test_counts_of_a_converter_become_the_unit(counts: list[int], scale: float) -> None:
    query = VibrationQuery(sampling_rate_hz=12_000, dtype="int16", scale=scale, unit="g")
    posted = parse(np.asarray(counts, "<i2").tobytes(), RAW, query, 100)
    assert posted.signals[0].dtype == np.float32
    np.testing.assert_allclose(posted.signals[0], np.asarray(counts) * scale, rtol=1e-6)
    assert posted.parameters.model_dump(exclude_none=True) == {"sampling_rate_hz": 12_000, "unit": "g"}


@pytest.mark.parametrize(
    ("content", "query", "code"),
    [
        (b"1234", VibrationQuery(sampling_rate_hz=1, dtype="int16"), "scale-invalid"),
        (b"1234", VibrationQuery(sampling_rate_hz=1, scale=0.1), "scale-invalid"),
        (b"1234", VibrationQuery(sampling_rate_hz=1, dtype="int16", scale=0), "scale-invalid"),
        (b"1234", VibrationQuery(sampling_rate_hz=1, dtype="int16", scale=1e-50), "scale-invalid"),
        (b"123", VibrationQuery(sampling_rate_hz=1, dtype="int16", scale=0.1), "recording-truncated"),
        (b"", VibrationQuery(sampling_rate_hz=1, dtype="int16", scale=0.1), "recording-empty"),
        (b"12" * 101, VibrationQuery(sampling_rate_hz=1, dtype="int16", scale=0.1), "recording-too-long"),
        (b"1234", VibrationQuery(dtype="int16", scale=0.1), "sampling-rate-missing"),
    ],
)
def test_counts_without_what_they_mean_are_refused(content: bytes, query: VibrationQuery, code: str) -> None:
    assert code_of(content, query, RAW) == code


def test_counts_are_for_raw_samples_alone() -> None:
    query = VibrationQuery(sampling_rate_hz=1, dtype="int16", scale=0.1)
    assert code_of(body(signal=[1, 2]), query) == "scale-invalid"
    assert code_of(b"1,2", query, "text/csv") == "scale-invalid"


def test_counts_that_float32_cannot_hold_are_left_to_the_quality_checks() -> None:
    query = VibrationQuery(sampling_rate_hz=1, dtype="int16", scale=1e300)
    posted = parse(np.asarray([0, 1, -1], "<i2").tobytes(), RAW, query, 100)
    assert not np.isfinite(posted.signals[0]).any()


NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    "written",
    ["2026-03-01T12:00:00Z", "2026-03-01t12:00:00.000z", "2026-03-01T14:00:00+02:00", "2026-03-01T07:30:00-04:30"],
)
def test_when_it_was_measured_is_read_with_its_offset(written: str) -> None:
    assert VibrationQuery.model_validate({"measured_at": written}).measured_at == NOON
    posted = parse(body(signal=[1, 2], sampling_rate_hz=10, measured_at=written), JSON, NOTHING, 100)
    assert posted.parameters.measured_at == NOON
    query = VibrationQuery.model_validate({"measured_at": written, "sampling_rate_hz": 10})
    assert parse(body(signal=[1, 2]), JSON, query, 100).parameters.measured_at == NOON


@pytest.mark.parametrize(
    "written",
    [
        "2026-03-01T12:00:00",
        "2026-03-01",
        "2026-03-01T12:00:00 02:00",
        "2026-02-30T12:00:00Z",
        "1969-12-31T23:59:59Z",
        "0001-01-01T00:00:00+14:00",
        "9999-12-31T23:59:59-14:00",
        "yesterday",
        1772366400,
        True,
    ],
)
def test_a_moment_without_offset_or_out_of_range_is_refused(written: object) -> None:
    assert code_of(body(signal=[1, 2], sampling_rate_hz=10, measured_at=written)) == "parameters-invalid"
    with pytest.raises(ValidationError):
        VibrationQuery.model_validate({"measured_at": written})


def test_a_clock_may_be_a_little_ahead() -> None:
    def ahead(minutes: float) -> dict[str, str]:
        return {"measured_at": (datetime.now(UTC) + timedelta(minutes=minutes)).isoformat()}

    assert VibrationQuery.model_validate(ahead(4)).measured_at is not None
    with pytest.raises(ValidationError, match="5 minutes"):
        VibrationQuery.model_validate(ahead(6))


@pytest.mark.parametrize("name", ["channel", "record_id", "asset"])
@pytest.mark.parametrize("text", ["", "a\nb", "\x00", "x" * 201])
def test_names_are_short_and_printable(name: str, text: str) -> None:
    assert code_of(body(signal=[1, 2], sampling_rate_hz=10, **{name: text})) == "parameters-invalid"


def nested(depth: int) -> str:
    return "[" * depth + "]" * depth


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (f'{{"sampling_rate_hz": 1000, "signal": {nested(1000)}}}', "window-dtype"),
        (f'{{"sampling_rate_hz": {nested(1000)}, "signal": [1]}}', "parameters-invalid"),
    ],
)
def test_a_body_of_a_thousand_lists_in_each_other_is_named_without_being_shown(content: str, code: str) -> None:
    assert code_of(content.encode()) == code


def test_a_long_text_among_numbers_takes_no_memory() -> None:
    content = body(signal=["x" * 100_000, *[1] * 10_000], sampling_rate_hz=1000)
    tracemalloc.start()
    try:
        with pytest.raises(InputError, match="no number"):
            parse(content, JSON, NOTHING, max_samples=20_000)
        assert tracemalloc.get_traced_memory()[1] < 10 * 2**20
    finally:
        tracemalloc.stop()
