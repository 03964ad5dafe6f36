"""The served API against broken and hostile bodies: a 4xx that says what is wrong, never a failure, and no growth.

ALMENARA_API_MUTATIONS raises the number of mutated files that are made up for each type.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import httpx
import psutil
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from almenara.contracts import VibrationVerdict, VisionVerdict
from tests.support.api import RunningApi, cache_champions, running_api
from tests.support.broken_bodies import MAX_BODY_BYTES, MAX_SAMPLES, VALID, VISION, Body, path_of, refused, taken
from tests.support.packages import classifier_candidate, vision_candidate

MUTATIONS = int(os.environ.get("ALMENARA_API_MUTATIONS", "60"))
GROWTH_BYTES = 50_000_000
REFUSED = [body.name for body in refused(Path("mark"))]
TAKEN = {body.name: body for body in taken()}


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningApi]:
    var = tmp_path_factory.mktemp("fuzz") / "var"
    cache_champions(var, [vision_candidate(), classifier_candidate()])
    limits = {"ALMENARA_MAX_BODY_BYTES": str(MAX_BODY_BYTES), "ALMENARA_MAX_SAMPLES": str(MAX_SAMPLES)}
    with running_api(var, limits) as running:
        yield running
        assert not [line for line in running.lines() if line["level"] == "error"]


@pytest.fixture(scope="module")
def mark(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the dangerous bodies would make where they are loaded."""
    return tmp_path_factory.mktemp("mark") / "loaded"


@pytest.fixture(scope="module")
def bodies(mark: Path) -> dict[str, Body]:
    return {body.name: body for body in refused(mark)}


def post(api: RunningApi, body: Body) -> httpx.Response:
    return api.http.post(body.path, content=body.content, headers=body.headers)


def assert_problem(answer: httpx.Response) -> None:
    assert 400 <= answer.status_code < 500, (answer.status_code, answer.text[:500])
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json()
    assert problem["status"] == answer.status_code
    assert problem["detail"]
    assert len(answer.content) < 5000, "an answer does not repeat what it refuses"


@pytest.mark.parametrize("name", REFUSED)
def test_a_broken_body_is_refused(api: RunningApi, bodies: dict[str, Body], mark: Path, name: str) -> None:
    assert_problem(post(api, bodies[name]))
    assert not mark.exists()


@pytest.mark.parametrize(
    ("content", "encoding", "code"),
    [
        (b'{"origin": "\xff"}', "", "parameters-invalid"),
        (b"[" * 400_000, "", "parameters-invalid"),
        (b" " * (MAX_BODY_BYTES + 1), "", "body-too-large"),
        (b"{}", "gzip", "content-encoding"),
    ],
    ids=["not UTF-8", "too deep", "too large", "packed"],
)
def test_what_is_wrong_with_a_json_body_is_told(api: RunningApi, content: bytes, encoding: str, code: str) -> None:
    answer = post(api, Body("JSON", "/v1/alarms/reports", "application/json", content, encoding))
    assert_problem(answer)
    assert answer.json()["type"].endswith(f":{code}")


@pytest.mark.parametrize("name", TAKEN)
def test_an_odd_body_is_judged(api: RunningApi, name: str) -> None:
    answer = post(api, TAKEN[name])
    assert answer.status_code == 200, answer.text
    contract = VisionVerdict if TAKEN[name].path == VISION else VibrationVerdict
    contract.model_validate_json(answer.content)


@st.composite
def mutated(draw: st.DrawFn, content: bytes) -> bytes:
    """A file with a few places overwritten, cut out, doubled or ended."""
    file = bytearray(content)
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(file)) | st.integers(0, min(64, len(file))))
        length = draw(st.integers(1, 8))
        change = draw(st.sampled_from(["overwrite", "cut", "double", "end", "flip"]))
        if change == "overwrite":
            file[at : at + length] = draw(st.binary(min_size=length, max_size=length))
        elif change == "cut":
            del file[at : at + length * 50]
        elif change == "double":
            file[at:at] = file[at : at + length * 50]
        elif change == "end":
            del file[at:]
        elif at < len(file):
            file[at] ^= 1 << draw(st.integers(0, 7))
    return bytes(file)


@pytest.mark.slow
@pytest.mark.parametrize("kind", VALID)
def test_a_mutated_file_is_judged_or_refused(api: RunningApi, kind: str) -> None:
    @settings(max_examples=MUTATIONS, deadline=None, derandomize=True, database=None)
    @given(mutated(VALID[kind]))
    def check(content: bytes) -> None:
        answer = post(api, Body(kind, path_of(kind), kind, content))
        if answer.status_code != 200:
            assert_problem(answer)

    check()


@pytest.mark.slow
def test_broken_bodies_leave_no_memory_behind(api: RunningApi, bodies: dict[str, Body]) -> None:
    process = psutil.Process(api.process.pid)

    def rounds(count: int) -> int:
        for body in list(bodies.values()) * count:
            post(api, body)
        return int(process.memory_info().rss)

    before = rounds(3)
    after = rounds(6)
    assert after - before <= GROWTH_BYTES, f"{(after - before) / 1e6:.1f} MB more after six more rounds"
