"""Reading bodies: the deadline holds while a client dawdles, and the media type must be one of the route's."""

from __future__ import annotations

import asyncio

import pytest
from fastapi import Request
from starlette.types import Message

from almenara.errors import InputError
from almenara_api.bodies import FORM, media_type, read_body, read_form_files
from almenara_api.problems import Problem


def request(content_type: str, *chunks: bytes) -> Request:
    """A request whose client sends the chunks and then nothing more, without ending the body."""
    waiting = iter(chunks)

    async def receive() -> Message:
        for chunk in waiting:
            return {"type": "http.request", "body": chunk, "more_body": True}
        await asyncio.sleep(60)
        raise AssertionError("not reached")

    headers = [(b"content-type", content_type.encode())]
    return Request({"type": "http", "method": "POST", "path": "/", "headers": headers, "query_string": b""}, receive)


def test_a_body_that_does_not_end_is_told_408() -> None:
    with pytest.raises(Problem) as late:
        asyncio.run(read_body(request("image/jpeg", b"some"), 0.05))
    assert (late.value.status, late.value.code) == (408, "body-timeout")


def test_a_form_that_does_not_end_is_told_408() -> None:
    begun = b'--x\r\nContent-Disposition: form-data; name="file"; filename="f"\r\n\r\nsome'
    with pytest.raises(Problem) as late:
        asyncio.run(read_form_files(request(f"{FORM}; boundary=x", begun), 0.05, 1))
    assert late.value.code == "body-timeout"


def test_a_form_without_boundary_is_refused() -> None:
    with pytest.raises(InputError) as refused:
        asyncio.run(read_form_files(request(FORM, b"some"), 1, 1))
    assert refused.value.code == "multipart-invalid"


@pytest.mark.parametrize("given", ["image/png", "IMAGE/PNG; charset=x", " image/png "])
def test_parameters_and_case_of_a_media_type_do_not_matter(given: str) -> None:
    assert media_type(request(given), ("image/jpeg", "image/png")) == "image/png"


@pytest.mark.parametrize("given", ["", "image/gif", "image", "application/json"])
def test_another_media_type_is_refused_with_the_accepted_ones(given: str) -> None:
    with pytest.raises(InputError) as refused:
        media_type(request(given), ("image/jpeg", "image/png"))
    assert "image/jpeg, image/png" in refused.value.remedy
