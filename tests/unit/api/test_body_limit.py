"""The body limit: refused by its announced length before a byte is read, else while it streams in."""

from __future__ import annotations

import asyncio

import pytest
from starlette.requests import Request
from starlette.types import Message, Receive, Scope, Send

from almenara.errors import InputError
from almenara_api.middleware import BodyLimit


async def reads_the_body(scope: Scope, receive: Receive, send: Send) -> None:
    scope["read"] = await Request(scope, receive).body()


def post(chunks: list[bytes], headers: dict[str, str], max_bytes: int = 10) -> tuple[bytes, int]:
    """The body that the app read, and how many chunks were taken from the client."""
    taken = 0

    async def receive() -> Message:
        nonlocal taken
        taken += 1
        return {"type": "http.request", "body": chunks[taken - 1], "more_body": taken < len(chunks)}

    async def send(message: Message) -> None:
        raise AssertionError(message)

    pairs = [(key.encode(), value.encode()) for key, value in headers.items()]
    scope: Scope = {"type": "http", "method": "POST", "path": "/", "headers": pairs}
    try:
        asyncio.run(BodyLimit(reads_the_body, max_bytes)(scope, receive, send))
    except InputError as error:
        return error.code.encode(), taken
    return scope["read"], taken


def test_a_body_at_the_limit_passes() -> None:
    assert post([b"01234", b"56789"], {}) == (b"0123456789", 2)


def test_an_announced_length_is_refused_before_anything_is_read() -> None:
    assert post([b"x"], {"content-length": "11"}) == (b"body-too-large", 0)


def test_a_longer_stream_is_refused_where_it_passes_the_limit() -> None:
    assert post([b"01234", b"567890", b"never read"], {}) == (b"body-too-large", 2)


@pytest.mark.parametrize("length", ["5", "-1", "abc", ""])
def test_a_lying_length_does_not_help(length: str) -> None:
    assert post([b"01234", b"567890"], {"content-length": length}) == (b"body-too-large", 2)
