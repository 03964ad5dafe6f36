"""Sources: names of hosts within a bounded time, and errors in plain words."""

from __future__ import annotations

import socket
import threading
import time

import av
import pytest

from camera_worker.sources import ReadOptions, SourceLostError, UnauthorisedError
from camera_worker.sources.reading import lost, plain
from camera_worker.sources.resolving import require_host


def test_a_name_server_that_is_away_does_not_hold_a_reader(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_: time.sleep(2))
    begun = time.monotonic()
    with pytest.raises(SourceLostError, match=r"camera\.example was not resolved within 0.1 s"):
        require_host("camera.example", 0.1)
    assert time.monotonic() - begun < 1


def test_a_name_is_resolved_by_one_thread_however_often_it_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    answer = threading.Event()
    asked: list[object] = []

    def getaddrinfo(*request: object) -> None:
        asked.append(request)
        answer.wait(5)

    def threads() -> int:
        return sum(thread.name == "resolve-host slow.example" for thread in threading.enumerate())

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    for _ in range(10):
        with pytest.raises(SourceLostError, match="not resolved within"):
            require_host("slow.example", 0.01)
    assert (len(asked), threads()) == (1, 1)
    threading.Timer(0.1, answer.set).start()
    require_host("slow.example", 3.0)
    require_host("slow.example", 3.0)
    assert len(asked) == 2


@pytest.mark.parametrize("host", ["no-such-host.invalid", "a" * 70, "x..y"])
def test_a_name_that_does_not_exist_is_a_reason(host: str) -> None:
    with pytest.raises(SourceLostError, match="cannot be resolved"):
        require_host(host, 10.0)


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost"])
def test_hosts_that_are_known_pass(host: str) -> None:
    require_host(host, 5.0)


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (av.error.HTTPUnauthorizedError(0, ""), "refuses the credentials"),
        (av.error.HTTPForbiddenError(0, ""), "forbids"),
        (av.error.HTTPNotFoundError(0, ""), "no such stream"),
        (av.error.HTTPServerError(0, ""), "503"),
        (av.error.ExitError(0, ""), "nothing came for 3 s"),
        (OSError(93, "Protocol not supported"), "refuses UDP .461.: say transport: tcp"),
        (OSError(111, "Connection refused"), "connection refused"),
        (av.error.HTTPOtherClientError(0, ""), "refuses the request"),
        (av.error.InvalidDataError(0, ""), "is not understood"),
        (av.error.EOFError(0, ""), "cut the connection"),
        (av.error.ConnectionResetError(104, ""), "cut the connection"),
        (OSError(5, "Input/output error"), "the connection broke"),
    ],
)
def test_errors_are_told_in_plain_words(error: Exception, reason: str) -> None:
    with pytest.raises(SourceLostError, match=reason):
        raise lost(error, ReadOptions(transport="udp"))


@pytest.mark.parametrize(
    ("error", "reason"),
    [(av.error.EOFError(0, ""), "it ends too early"), (OSError(5, "Input/output error"), "its disk cannot be read")],
)
def test_errors_of_a_file_are_told_in_plain_words(error: Exception, reason: str) -> None:
    assert plain(error) == reason


def test_who_is_forbidden_waits_as_who_is_refused() -> None:
    assert isinstance(lost(av.error.HTTPForbiddenError(0, ""), ReadOptions()), UnauthorisedError)
