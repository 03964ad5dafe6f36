"""Both clients over real connections to servers that answer well, badly, or not at all."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

from almenara.client import Almenara, ApiError, ApiUnreachable, asking
from almenara.contracts import ModelRef, VibrationVerdict
from almenara.processes import free_port
from tests.support.clients import KINDS, Kind, have
from tests.support.scripted_http import Reply, Script, scripted_http
from tests.support.unreliable import Fate, unreliable_http
from tests.support.web_receiver import mute_server

KEY = "correct-horse-battery"
MODELS = Reply(body=b'{"registry": "up", "models": [], "missing": null}')
VERDICT = VibrationVerdict(
    model=ModelRef(name="bearing", version="1"),
    label="normal",
    probabilities={},
    abstained=False,
    windows=1,
    rms=0.1,
    reason="Quiet.",
)


def models(api: Any) -> Any:
    return api.models()


def window(api: Any) -> Any:
    return api.vibration.predict("bearing", np.linspace(-1, 1, 50), sampling_rate_hz=12_000, asset="pump-1")


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> Kind:
    found: Kind = request.param
    return found


@pytest.fixture
def server() -> Iterator[Script]:
    with scripted_http() as script:
        script.last = MODELS
        yield script


def test_one_connection_serves_all_requests_and_the_key_goes_with_each(server: Script, kind: Kind) -> None:
    have(kind, server.url, models, models, models, key=KEY)
    assert len({asked.connection for asked in server.asked}) == 1
    assert {asked.headers["x-api-key"] for asked in server.asked} == {KEY}
    assert {asked.headers["accept-encoding"] for asked in server.asked} == {"identity"}


def test_a_connection_that_the_server_has_ended_is_made_again(server: Script, kind: Kind) -> None:
    server.replies = [Reply(body=MODELS.body, hangs_up=True)]
    assert len(have(kind, server.url, models, models)) == 2
    assert len({asked.connection for asked in server.asked}) == 2


def test_a_busy_server_is_asked_again_until_it_answers(server: Script, kind: Kind) -> None:
    server.replies = [Reply(503), Reply(429, headers={"Retry-After": "0"}), Reply(0)]
    [found] = have(kind, server.url, models)
    assert found.registry == "up"
    assert len(server.asked) == 4


def test_a_window_is_repeated_word_for_word(server: Script, kind: Kind) -> None:
    server.last, server.replies = Reply(body=VERDICT.model_dump_json().encode()), [Reply(503), Reply(0)]
    assert have(kind, server.url, window) == [VERDICT]
    first, *repeats = [(each.target, each.body, each.headers["idempotency-key"]) for each in server.asked]
    assert repeats == [first, first]


def test_a_server_that_fails_four_times_in_ten_costs_no_window(kind: Kind, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asking, "FIRST_WAIT_SECONDS", 0.05)
    with unreliable_http(Fate(7), json.loads(VERDICT.model_dump_json())) as receiver:
        found = have(kind, f"http://127.0.0.1:{receiver.port}", *[window] * 10, retries=8)
    assert found == [VERDICT] * 10
    taken = Counter(request.headers["idempotency-key"] for request in receiver.requests)
    assert len(taken) == 10
    assert max(taken.values()) > 1, "what was taken and not answered came again, with its key"


def test_retries_can_be_switched_off(server: Script, kind: Kind) -> None:
    server.replies = [Reply(503)]
    with pytest.raises(ApiUnreachable, match="answers 503"):
        have(kind, server.url, models, retries=0)
    assert len(server.asked) == 1


def test_a_problem_ends_it_at_once(server: Script, kind: Kind) -> None:
    told = {"type": "urn:almenara:problem:model-unknown", "detail": "No such model.", "remedy": "GET /v1/models."}
    server.last = Reply(404, json.dumps(told).encode())
    with pytest.raises(ApiError) as error:
        have(kind, server.url, window)
    assert (error.value.status, error.value.code) == (404, "model-unknown")
    assert (error.value.fact, error.value.remedy) == ("No such model.", "GET /v1/models.")
    assert len(server.asked) == 1


def test_a_redirect_is_not_followed_since_it_would_learn_the_key(server: Script, kind: Kind) -> None:
    server.last = Reply(302, headers={"Location": f"{server.url}/elsewhere"})
    with pytest.raises(ApiUnreachable, match="answers 302"):
        have(kind, server.url, models, key=KEY)
    assert len(server.asked) == 1


def test_no_proxy_is_used_since_it_would_learn_the_key(
    server: Script, kind: Kind, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setitem(os.environ, name, f"http://127.0.0.1:{free_port()}")
    assert have(kind, server.url, models)[0].registry == "up"


def test_a_closed_port_is_told_with_the_address_and_the_way_out(kind: Kind) -> None:
    url = f"http://127.0.0.1:{free_port()}"
    with pytest.raises(ApiUnreachable) as error:
        have(kind, url, models, key=KEY, retries=1)
    assert str(error.value).startswith(f"No API answers at {url}: ")
    assert str(error.value).endswith("Start it (almenara serve), or give its address.")


def test_a_server_that_says_nothing_is_given_up(kind: Kind) -> None:
    with mute_server() as port, pytest.raises(ApiUnreachable, match="no answer in time"):
        have(kind, f"http://127.0.0.1:{port}", models, timeout=0.3)


def test_an_answer_of_any_size_is_not_read(server: Script, kind: Kind, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asking, "MOST_BYTES", 1_000_000)
    server.last = Reply(body=b" " * 1_000_001)
    with pytest.raises(ApiUnreachable, match="more than"):
        have(kind, server.url, models)
    server.last = Reply(body=MODELS.body + b" " * 900_000)
    assert have(kind, server.url, models)[0].registry == "up"


def test_several_threads_may_share_a_client(server: Script) -> None:
    with Almenara(server.url) as api, ThreadPoolExecutor(8) as threads:
        found = list(threads.map(lambda _: api.models().registry, range(40)))
    assert found == ["up"] * 40
