"""How `almenara alarms` speaks with an API that answers badly, or not at all."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from typer.testing import CliRunner

from almenara.alarms.records import AlarmRecord
from almenara.cli import app
from almenara.cli.alarms_api import AlarmsApi
from almenara.errors import AlmenaraError, ConfigurationError, InputError
from almenara.processes import free_port


@dataclass
class Answers:
    """A server on loopback: it answers every request with the same, and notes what it was asked."""

    status: int = 200
    body: bytes = b"[]"
    location: str | None = None
    asked: list[tuple[str, str, dict[str, str], bytes]] = field(default_factory=list)
    url: str = ""


@pytest.fixture
def answers() -> Iterator[Answers]:
    script = Answers()

    class Handler(BaseHTTPRequestHandler):
        def answer(self) -> None:
            content = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            script.asked.append((self.command, self.path, dict(self.headers), content))
            self.send_response(script.status)
            if script.location:
                self.send_header("Location", script.location)
            self.end_headers()
            self.wfile.write(script.body)

        do_GET = do_POST = do_DELETE = answer  # noqa: N815  names that http.server calls

        def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002  http.server's name
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    script.url = f"http://127.0.0.1:{server.server_address[1]}"
    yield script
    server.shutdown()
    server.server_close()


def test_key_and_filters_are_sent(answers: Answers) -> None:
    assert AlarmsApi(answers.url, "secret").get("", list[AlarmRecord], [("phase", "latched"), ("source", "a/*")]) == []
    [(method, path, headers, _)] = answers.asked
    assert (method, path) == ("GET", "/v1/alarms?phase=latched&source=a%2F%2A")
    assert headers["X-API-Key"] == "secret"


def test_without_a_key_none_is_sent(answers: Answers) -> None:
    AlarmsApi(answers.url, None).get("", list[AlarmRecord])
    assert "X-API-Key" not in answers.asked[0][2]


def test_api_behind_a_path_is_reached(answers: Answers) -> None:
    AlarmsApi(f"{answers.url}/almenara/", None).get("/silences", list[AlarmRecord])
    assert answers.asked[0][1] == "/almenara/v1/alarms/silences"


def test_what_is_not_given_is_not_sent(answers: Answers) -> None:
    AlarmsApi(answers.url, None).post("/x/acknowledge", list[AlarmRecord], {"user": "eva", "verdict": None})
    assert json.loads(answers.asked[0][3]) == {"user": "eva"}


def test_problem_is_told_with_its_remedy(answers: Answers) -> None:
    answers.status, answers.body = 404, b'{"detail": "There is no alarm 7.", "remedy": "List them."}'
    with pytest.raises(AlmenaraError) as error:
        AlarmsApi(answers.url, None).get("/7", AlarmRecord)
    assert str(error.value) == "There is no alarm 7. List them."


def test_watch_says_once_that_the_api_is_away_and_once_that_it_is_back_and_ends_when_it_refuses(
    answers: Answers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ALMENARA_API_URL", answers.url)
    busy = b'{"detail": "100 clients watch the alarms already.", "remedy": "Try again later."}'
    problems = [
        *[(503, busy), (503, b""), (200, b""), (200, b""), (503, busy)],
        (401, b'{"detail": "The X-API-Key is not the service\'s."}'),
    ]

    def next_answer(seconds: float) -> None:
        answers.status, answers.body = problems.pop(0)

    monkeypatch.setattr("time.sleep", next_answer)
    done = CliRunner().invoke(app, ["alarms", "watch"])
    assert isinstance(done.exception, AlmenaraError)
    assert "X-API-Key" in str(done.exception)
    away = "100 clients watch the alarms already. Trying again until it answers."
    assert " ".join(done.stderr.split()) == f"{away} The API answers again. {away}"
    assert len(answers.asked) == 8, "what stands, and seven times the events"


@pytest.mark.parametrize("status", [200, 503])
def test_answer_of_any_size_is_not_read(answers: Answers, status: int) -> None:
    answers.status, answers.body = status, b"x" * (2**24 + 1)
    with pytest.raises(ConfigurationError, match="more than 16 MiB"):
        AlarmsApi(answers.url, None).get("", list[AlarmRecord])


def test_event_of_any_size_is_not_read(answers: Answers) -> None:
    answers.body = b"id: 7\ndata: {}\n\nid: 8\ndata: " + b"x" * 2**24
    events = AlarmsApi(answers.url, None).events(None)
    assert next(events) == ("7", "{}")
    with pytest.raises(ConfigurationError, match="more than 16 MiB"):
        next(events)


@pytest.mark.parametrize("body", [b"<html>not found</html>", b'["no problem"]', b"{}"])
def test_answer_of_another_service_is_told_by_its_status(answers: Answers, body: bytes) -> None:
    answers.status, answers.body = 404, body
    with pytest.raises(ConfigurationError, match=r"answers 404 Not Found\. Give the address of an Almenara API"):
        AlarmsApi(answers.url, None).get("", list[AlarmRecord])


def test_redirect_is_not_followed_since_it_would_learn_the_key(answers: Answers) -> None:
    answers.status, answers.location = 302, f"{answers.url}/elsewhere"
    with pytest.raises(ConfigurationError, match="302"):
        AlarmsApi(answers.url, "secret").get("", list[AlarmRecord])
    assert len(answers.asked) == 1


def test_answer_of_another_version_is_said_to_be_one(answers: Answers) -> None:
    answers.body = b'[{"number": 7}]'
    with pytest.raises(ConfigurationError, match="Use the command of the API's own version"):
        AlarmsApi(answers.url, None).get("", list[AlarmRecord])


def test_api_that_is_away_is_a_sentence_with_the_way_out() -> None:
    port = free_port()
    with pytest.raises(ConfigurationError, match=rf"No API answers at http://127\.0\.0\.1:{port}: .*--api-url"):
        AlarmsApi(f"http://127.0.0.1:{port}", None).get("", list[AlarmRecord])


@pytest.mark.parametrize("url", ["127.0.0.1:8000", "ftp://api", "http://", "http://a b"])
def test_address_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(InputError, match="no address of an API"):
        AlarmsApi(url, None)


def test_password_in_an_address_is_not_told() -> None:
    with pytest.raises(ConfigurationError) as error:
        AlarmsApi(f"http://eva:hidden@127.0.0.1:{free_port()}", None).get("", list[AlarmRecord])
    assert "hidden" not in str(error.value)


def test_events_are_read_past_comments_until_the_stream_ends(answers: Answers) -> None:
    answers.body = b': listening\nretry: 2000\n\nid: 7\nevent: raised\ndata: {"n": 1}\n\n: ping\n\nid: 8\ndata: {}\n\n'
    assert list(AlarmsApi(answers.url, None).events(None)) == [("7", '{"n": 1}'), ("8", "{}")]
    assert "Last-Event-ID" not in answers.asked[0][2]


def test_events_are_resumed_after_the_last_one(answers: Answers) -> None:
    answers.body = b""
    assert list(AlarmsApi(answers.url, None).events("7")) == []
    assert answers.asked[0][2]["Last-Event-ID"] == "7"


def test_event_that_was_cut_off_is_not_told(answers: Answers) -> None:
    answers.body = b'id: 7\ndata: {"n":'
    assert list(AlarmsApi(answers.url, None).events(None)) == []
