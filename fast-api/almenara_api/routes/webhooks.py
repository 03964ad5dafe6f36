"""MLflow tells that its registry changed: the poll hurries."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import time
from typing import Annotated, Literal

from fastapi import APIRouter, Header, Request

from almenara.contracts import Contract
from almenara.errors import InputError
from almenara_api.problems import Problem, responses
from almenara_api.services import ServicesDependency

open_router = APIRouter(prefix="/v1", tags=["platform"])

MOST_BYTES = 65_536
_READ_SECONDS = 10
OLDEST_SECONDS = 300
"""A delivery that was signed longer ago is refused, and one from as far ahead."""


class Accepted(Contract):
    """The registry is asked within a second or so."""

    status: Literal["accepted"] = "accepted"


@open_router.post(
    "/webhooks/mlflow",
    status_code=202,
    summary="MLflow's webhook",
    responses=responses(401, 404, 408, 413, 415, 422),
    openapi_extra={
        "requestBody": {"required": True, "content": {"application/json": {"schema": {"type": "object"}}}},
    },
)
async def mlflow(
    request: Request,
    services: ServicesDependency,
    signature: Annotated[str, Header(alias="X-MLflow-Signature", max_length=200)] = "",
    timestamp: Annotated[str, Header(alias="X-MLflow-Timestamp", max_length=20)] = "",
    delivery: Annotated[str, Header(alias="X-MLflow-Delivery-Id", max_length=200)] = "",
) -> Accepted:
    """A delivery that MLflow signed with `ALMENARA_WEBHOOK_SECRET` makes the service look at the registry at once.

    What it says is not read: the registry itself is asked, once for all deliveries of a second. Polling goes on.
    """
    secret = services.settings.webhook_secret
    if secret is None:
        raise Problem(
            404,
            "webhook-closed",
            "The service has no secret for webhooks.",
            "Set ALMENARA_WEBHOOK_SECRET to that of MLflow's webhook; the registry is polled all the same.",
        )
    _require_recent(timestamp)
    signed = f"{delivery}.{timestamp}.".encode() + await _read(request)
    digest = hmac.new(secret.get_secret_value().encode(), signed, hashlib.sha256).digest()
    if not hmac.compare_digest(signature.encode(), b"v1," + base64.b64encode(digest)):
        raise Problem(
            401,
            "webhook-signature",
            "X-MLflow-Signature does not fit the delivery.",
            "Make MLflow's webhook with the secret that this service has in ALMENARA_WEBHOOK_SECRET.",
        )
    services.models.hurry()
    services.pyfuncs.hurry()
    return Accepted()


def _require_recent(timestamp: str) -> None:
    if timestamp.isascii() and timestamp.isdecimal() and abs(time.time() - int(timestamp)) <= OLDEST_SECONDS:
        return
    raise Problem(
        401,
        "webhook-timestamp",
        f"X-MLflow-Timestamp is {timestamp or 'missing'}, and the delivery may be {OLDEST_SECONDS} s old.",
        "Compare the clocks of the two machines.",
    )


async def _read(request: Request) -> bytes:
    """The body; the route is open, so it holds no more than a delivery has."""
    body = bytearray()
    try:
        async with asyncio.timeout(_READ_SECONDS):
            async for part in request.stream():
                body += part
                if len(body) > MOST_BYTES:
                    raise InputError("body-too-large", f"A delivery may have {MOST_BYTES} bytes and more arrived.")
    except TimeoutError:
        raise Problem(408, "body-timeout", f"The body did not arrive within {_READ_SECONDS} s.") from None
    return bytes(body)
