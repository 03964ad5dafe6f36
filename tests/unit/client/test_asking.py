"""What the client would do, step by step, without a network: what it sends, when it waits, what it refuses."""

from __future__ import annotations

import inspect
import json
from collections.abc import Generator
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from almenara.client import Almenara, ApiError, ApiUnreachable, AsyncAlmenara, questions
from almenara.client.answers import Answer
from almenara.client.asking import Asking, Conversation, Outcome
from almenara.contracts import ModelRef, VibrationVerdict, VisionVerdict
from almenara.errors import InputError

KEY = "correct-horse-battery"
MODEL = ModelRef(name="outflow", version="1")
PICTURE = VisionVerdict(model=MODEL, label="normal", score=1, anomaly=0.1, p_value=0.5, threshold=2)
SIGNAL = VibrationVerdict(
    model=MODEL, label="normal", probabilities={}, abstained=False, windows=1, rms=0.1, reason="Quiet."
)
WINDOW = np.linspace(-1, 1, 100, dtype=np.float32)


def answer(status: int, body: bytes = b"{}", **headers: str) -> Answer:
    return Answer(status, {name.replace("_", "-"): value for name, value in headers.items()}, body, "http://api")


def problem(status: int, **told: str) -> Answer:
    content = {"type": "urn:almenara:problem:queue-full", "detail": "Full.", **told}
    return answer(status, json.dumps(content).encode())


def steps(conversation: Conversation[Any], retries: int = 3) -> Generator[Any, Outcome, Any]:
    return Asking("http://api", KEY, 5, retries).steps(conversation)


def sent(conversation: Conversation[Any]) -> httpx.Request:
    """The first request of a conversation."""
    request = next(steps(conversation))
    assert isinstance(request, httpx.Request)
    request.read()
    return request


def waits(outcome: Answer | httpx.TransportError, retries: int = 3) -> tuple[list[float], Exception]:
    """The waits before a question fails that always has the same outcome, and how it fails."""
    found: list[float] = []
    asked = steps(questions.models(), retries)
    step = next(asked)
    try:
        while True:
            if isinstance(step, float):
                found.append(step)
                step = asked.send(None)
            else:
                step = asked.send(outcome)
    except (ApiError, ApiUnreachable) as error:
        return found, error


# --- when it is asked again -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "outcome", [httpx.ConnectError("refused"), httpx.ReadError(""), httpx.RemoteProtocolError("gone"), answer(503)]
)
def test_waits_double_with_jitter_until_the_retries_are_over(outcome: Answer | httpx.TransportError) -> None:
    found, error = waits(outcome)
    assert isinstance(error, ApiUnreachable)
    assert all(0.125 * 2**number <= wait <= 0.25 * 2**number for number, wait in enumerate(found))
    assert len(found) == 3
    assert waits(outcome)[0] != found, "clients that failed together must not come back together"


@pytest.mark.parametrize("status", [429, 503])
def test_a_busy_api_is_asked_again_after_what_it_said_and_a_little_more(status: int) -> None:
    found, error = waits(problem(status))
    assert isinstance(error, ApiError)
    assert len(found) == 3
    told, _ = waits(answer(status, Retry_After="7"), retries=1)
    assert 7.125 <= told[0] <= 7.25


def test_what_would_take_longer_than_a_minute_is_told_at_once() -> None:
    assert waits(answer(429, Retry_After="3600"))[0] == []


def test_a_date_to_come_back_at_is_passed_over() -> None:
    assert all(wait < 1 for wait in waits(answer(503, Retry_After="Wed, 21 Oct 2026 07:28:00 GMT"))[0])


@pytest.mark.parametrize("outcome", [httpx.ReadTimeout("slow"), problem(500), problem(404), problem(422)])
def test_nothing_else_is_asked_again(outcome: Answer | httpx.TransportError) -> None:
    assert waits(outcome)[0] == []


def test_an_api_that_is_not_ready_is_an_answer_and_not_asked_again() -> None:
    asked = steps(questions.ready())
    next(asked)
    with pytest.raises(StopIteration) as done:
        asked.send(problem(503))
    assert done.value.value is False


# --- repeats that are known as such -----------------------------------------------------------------------


def window(**facts: Any) -> Conversation[VibrationVerdict]:
    return questions.judge_signal("bearing", WINDOW, sampling_rate_hz=12_000, **facts)


def test_a_window_of_an_asset_has_one_key_in_all_its_attempts_and_the_next_another() -> None:
    asked = steps(window(asset="pump-1"))
    keys = [next(asked).headers["Idempotency-Key"]]
    for _ in range(3):
        assert isinstance(asked.send(httpx.ReadError("")), float)
        keys.append(asked.send(None).headers["Idempotency-Key"])
    assert len(set(keys)) == 1
    assert sent(window(asset="pump-1")).headers["Idempotency-Key"] != keys[0]


def test_a_window_that_is_known_otherwise_gets_no_key_of_ours() -> None:
    assert "Idempotency-Key" not in sent(window()).headers
    assert "Idempotency-Key" not in sent(window(asset="pump-1", record_id="7")).headers
    assert sent(window(asset="pump-1", idempotency_key="mine 7")).headers["Idempotency-Key"] == "mine 7"


@pytest.mark.parametrize("key", ["", "x" * 201, "línea", "a\nb", " a"])
def test_an_idempotency_key_that_no_header_can_carry_is_refused(key: str) -> None:
    with pytest.raises(InputError, match="printable ASCII"):
        sent(window(asset="pump-1", idempotency_key=key))


# --- what is sent -----------------------------------------------------------------------------------------


def test_a_window_goes_as_raw_float32_with_what_is_known_in_the_query() -> None:
    at = datetime(2026, 11, 22, 15, 5, tzinfo=timezone(timedelta(hours=1)))
    asked = window(
        shaft_rpm=np.float32(1772), bearing="6205-2RS", unit=None, machine="group2-rigid", channel="a&b", measured_at=at
    )
    request = sent(asked)
    assert dict(request.url.params) == {
        "sampling_rate_hz": "12000.0",
        "shaft_rpm": "1772.0",
        "bearing": "6205-2RS",
        "machine": "group2-rigid",
        "channel": "a&b",
        "measured_at": "2026-11-22T14:05:00+00:00",
    }
    assert np.array_equal(np.frombuffer(request.content, "<f4"), WINDOW)
    assert request.headers["X-API-Key"] == KEY


def test_signals_of_one_request_go_as_json() -> None:
    asked = questions.judge_signals("bearing", [WINDOW, WINDOW[:50]], sampling_rate_hz=12_000, asset="pump-1")
    request = sent(asked)
    content = json.loads(request.content)
    assert [len(signal) for signal in content.pop("signals")] == [100, 50]
    assert content == {"sampling_rate_hz": 12000.0, "asset": "pump-1"}
    assert request.headers["Idempotency-Key"]


@pytest.mark.parametrize(
    "signal",
    [[1.0, float("nan")], [1e39], [[1.0, 2.0]], [], ["a"], [True, False], [1 + 2j], 3.0],
    ids=["nan", "too large", "two dimensions", "empty", "text", "booleans", "complex", "scalar"],
)
def test_a_signal_that_json_or_the_api_cannot_take_is_named(signal: Any) -> None:
    with pytest.raises(InputError, match=r"signals\[1\]"):
        sent(questions.judge_signals("bearing", [WINDOW, signal], sampling_rate_hz=12_000))


def test_a_moment_without_a_time_zone_is_refused() -> None:
    with pytest.raises(InputError, match="measured_at has no time zone"):
        sent(window(measured_at=datetime(2026, 11, 22)))


@pytest.mark.parametrize(
    ("file", "kind"),
    [
        (b"\xff\xd8\xff\xe0", "image/jpeg"),
        (b"\x89PNG", "image/png"),
        (b"RIFF....WEBP", "image/webp"),
        (b"?", "image/jpeg"),
    ],
)
def test_a_picture_says_what_it_is(file: bytes, kind: str, tmp_path: Path) -> None:
    (tmp_path / "frame").write_bytes(file)
    for given in (file, tmp_path / "frame"):
        request = sent(questions.judge_picture("outflow", given, heatmap="png"))
        assert (request.content, request.headers["Content-Type"]) == (file, kind)
    assert request.url.path == "/v1/vision/outflow/predict"
    assert request.url.query == b"heatmap=png"


@pytest.mark.parametrize(
    "picture", [np.zeros((4, 4)), np.zeros((4, 4, 3)), np.zeros((4, 4), np.uint8), np.zeros((0, 4, 3), np.uint8)]
)
def test_an_array_that_is_no_rgb_picture_is_refused(picture: Any) -> None:
    with pytest.raises(InputError, match="uint8 RGB"):
        sent(questions.judge_picture("outflow", picture))


@pytest.mark.parametrize(
    ("picture", "told"), [("frame.jpg", "this is a str"), (Path("away.jpg"), "away.jpg cannot be")]
)
def test_what_is_no_picture_is_refused_in_a_sentence(picture: Any, told: str) -> None:
    with pytest.raises(InputError, match=told):
        sent(questions.judge_picture("outflow", picture))


def batches(files: list[bytes]) -> list[int]:
    """How many pictures each request of a list carries; every one is answered."""
    conversation, found = questions.judge_pictures("outflow", files), list[int]()
    outcome: Answer | None = None
    while True:
        try:
            request = next(conversation) if outcome is None else conversation.send(outcome)
        except StopIteration:
            return found
        found.append(len(request.files))
        verdict = PICTURE.model_dump_json()
        body = verdict if found[-1] == 1 else f'{{"verdicts": [{",".join([verdict] * found[-1])}]}}'
        outcome = answer(200, body.encode())


@pytest.mark.parametrize(
    ("files", "expected"),
    [([], []), ([b"a"] * 40, [16, 16, 8]), ([b"a"], [1]), ([bytes(5 * 2**20)] * 2 + [b"a"], [1, 2])],
)
def test_a_list_of_pictures_goes_in_requests_that_the_api_takes(files: list[bytes], expected: list[int]) -> None:
    assert batches(files) == expected


def test_a_picture_that_is_refused_is_told_with_its_place() -> None:
    asked = steps(questions.judge_pictures("outflow", [b"a"] * 20))
    next(asked)
    asked.send(answer(200, f'{{"verdicts": [{",".join([PICTURE.model_dump_json()] * 16)}]}}'.encode()))
    with pytest.raises(ApiError, match=r"pictures\[16:20\]: file\[2\]: It ends early\."):
        asked.send(problem(400, detail="file[2]: It ends early."))


def test_fewer_verdicts_than_pictures_are_no_answer() -> None:
    asked = steps(questions.judge_pictures("outflow", [b"a"] * 3))
    next(asked)
    with pytest.raises(ApiUnreachable, match="1 verdicts on 3 pictures"):
        asked.send(answer(200, f'{{"verdicts": [{PICTURE.model_dump_json()}]}}'.encode()))


@pytest.mark.parametrize(("name", "path"), [("a/b", "a%2Fb"), ("línea 2", "l%C3%ADnea%202"), ("a?b#c", "a%3Fb%23c")])
def test_a_name_is_one_part_of_the_path(name: str, path: str) -> None:
    assert sent(questions.acknowledge(name, "eva")).url.raw_path == f"/v1/alarms/{path}/acknowledge".encode()


@pytest.mark.parametrize("name", ["", ".", ".."])
def test_a_name_that_would_lead_elsewhere_is_refused(name: str) -> None:
    with pytest.raises(InputError, match="no name"):
        sent(questions.judge_picture(name, b"a"))


def test_alarms_are_filtered_by_what_was_given() -> None:
    since = datetime(2026, 11, 22, tzinfo=UTC)
    request = sent(
        questions.alarms(source="line-2/*", phases=["unacknowledged", "latched"], standing=True, since=since)
    )
    assert request.url.params.multi_items() == [
        ("source", "line-2/*"),
        ("phase", "unacknowledged"),
        ("phase", "latched"),
        ("standing", "true"),
        ("since", "2026-11-22T00:00:00+00:00"),
        ("limit", "100"),
    ]


# --- where it is sent -------------------------------------------------------------------------------------


@pytest.mark.parametrize("url", ["127.0.0.1:8000", "ftp://api", "http://", "http://a b", "http://eva:hidden@api"])
@pytest.mark.parametrize("client", [Almenara, AsyncAlmenara])
def test_an_address_that_is_none_is_refused_without_its_password(url: str, client: type) -> None:
    with pytest.raises(InputError) as error:
        client(url)
    assert "hidden" not in str(error.value)


def test_an_api_behind_a_path_is_asked_there() -> None:
    asked = Asking("http://plant/almenara/?old=1", None, 5, 0).steps(questions.models())
    request = next(asked)
    assert isinstance(request, httpx.Request)
    assert str(request.url) == "http://plant/almenara/v1/models"
    assert "X-API-Key" not in request.headers


@pytest.mark.parametrize("key", ["with a\nline", "clé", " hidden "])
def test_a_key_that_no_header_can_carry_is_refused_and_not_told(key: str) -> None:
    with pytest.raises(InputError) as error:
        Almenara("http://api", key=key)
    assert key.strip() not in str(error.value)


@pytest.mark.parametrize("options", [{"timeout": 0}, {"timeout": float("nan")}, {"retries": -1}])
def test_options_that_make_no_sense_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="more than 0 s"):
        Almenara("http://api", **options)


def test_methods_show_the_parameters_of_their_question() -> None:
    for vibration in (Almenara("http://api").vibration, AsyncAlmenara("http://api").vibration):
        shown = inspect.signature(vibration.predict)
        assert list(shown.parameters) == ["model", "signal", "idempotency_key", "facts"]
        assert shown.return_annotation == "VibrationVerdict"
    assert inspect.iscoroutinefunction(AsyncAlmenara("http://api").models)


# --- how answers are read ---------------------------------------------------------------------------------


def test_what_a_newer_api_adds_is_passed_over() -> None:
    body = {**json.loads(SIGNAL.model_dump_json()), "later": 1}
    body["model"]["later"] = 2
    assert answer(200, json.dumps(body).encode()).read(VibrationVerdict) == SIGNAL


@pytest.mark.parametrize("body", [b"<html>", b"{}", b"[]", b'{"label": 3}', b"[" * 100_000])
def test_an_answer_that_is_no_verdict_is_told_with_its_remedy(body: bytes) -> None:
    with pytest.raises(ApiUnreachable, match="cannot be read"):
        answer(200, body).read(VibrationVerdict)


@pytest.mark.parametrize("body", [b"<html>", b"[]", b'{"detail": "x"}', b'"x"', b"[" * 100_000, b"\xff"])
def test_an_error_of_another_service_is_told_by_its_status(body: bytes) -> None:
    with pytest.raises(ApiUnreachable, match="answers 404, and not as an Almenara API"):
        answer(404, body).read(VibrationVerdict)


def test_a_problem_is_told_in_its_parts_and_never_with_the_key() -> None:
    told = {
        "type": "urn:almenara:problem:image-truncated",
        "detail": f"It ends early, {KEY}.",
        "remedy": f"Send it whole, {KEY}.",
        "instance": "urn:almenara:request:r-1",
    }
    given = Answer(400, {}, json.dumps(told).encode(), "http://api", KEY)
    with pytest.raises(ApiError) as found:
        given.read(VisionVerdict)
    error = found.value
    assert (error.status, error.code, error.request_id) == (400, "image-truncated", "r-1")
    assert str(error) == "It ends early, ***. Send it whole, ***."
    assert KEY not in repr(given)
