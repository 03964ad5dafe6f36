"""Reading request bodies: the media type, the whole body within a deadline, the files of a form."""

from __future__ import annotations

import asyncio
from collections.abc import Collection

from fastapi import Request
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.formparsers import MultiPartException

from almenara.errors import InputError
from almenara_api.patience import left
from almenara_api.problems import Problem

FORM = "multipart/form-data"


def media_type(request: Request, accepted: Collection[str]) -> str:
    """The request's media type without its parameters, if the route takes it."""
    found = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if found not in accepted:
        raise InputError(
            "media-type",
            f"The Content-Type is {found!r}." if found else "The request has no Content-Type.",
            f"Send one of: {', '.join(accepted)}.",
        )
    return found


async def read_body(request: Request, timeout_seconds: float) -> bytes:
    """The whole body, within the deadline and the service's size limit."""
    try:
        async with asyncio.timeout(left(timeout_seconds)):
            return await request.body()
    except TimeoutError:
        raise _too_slow(timeout_seconds) from None


async def read_form_files(request: Request, timeout_seconds: float, most: int) -> tuple[bytes, ...]:
    """The files of a multipart form, in its fields `file`, in their order; `most` at the most."""
    try:
        async with asyncio.timeout(left(timeout_seconds)), request.form(max_files=most, max_fields=8) as form:
            files = [await file.read() for file in form.getlist("file") if isinstance(file, UploadFile)]
    except TimeoutError:
        raise _too_slow(timeout_seconds) from None
    except (HTTPException, MultiPartException) as error:
        reason = error.detail if isinstance(error, HTTPException) else error.message
        raise InputError("multipart-invalid", f"The form cannot be read: {reason}", _FORM_REMEDY) from error
    if not files:
        raise InputError("multipart-invalid", "The form has no file in a field named `file`.", _FORM_REMEDY)
    return tuple(files)


_FORM_REMEDY = "Send files: curl -F file=@frame.jpg -F file=@next.jpg, or the bare bytes with their own Content-Type."


def _too_slow(timeout_seconds: float) -> Problem:
    return Problem(
        408,
        "body-timeout",
        f"The body did not arrive within {timeout_seconds:g} s.",
        "Send it again over a better connection, or raise ALMENARA_REQUEST_TIMEOUT_SECONDS.",
    )
