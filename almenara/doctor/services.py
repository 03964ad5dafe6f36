"""Our own services: the API, the models that it serves, the camera worker."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from almenara import __version__
from almenara.doctor import web
from almenara.doctor.findings import Finding, ok, problem, skipped, warning
from almenara.doctor.place import Place
from almenara.redaction import redact_address


def api(place: Place) -> Iterator[Finding]:
    """Whether it lives, and its version."""
    shown = redact_address(place.api)
    try:
        live = web.get(place.api, "/health/live")
        described = web.get(place.api, "/openapi.json").json()
    except web.NoAnswerError as error:
        remedy = "Start it (docker compose up --detach api, or almenara serve), or give its address with --api-url."
        yield problem("API", f"Nothing answers at {shown}: {error}.", remedy)
        return
    if live.status != 200:
        fact = f"{shown} answers {live.status} when asked whether it lives."
        yield problem("API", fact, "See its log (docker compose logs api), or correct --api-url.")
        return
    yield ok("API", f"{shown} answers.")
    theirs = str(described.get("info", {}).get("version", "")) if isinstance(described, dict) else ""
    if theirs == __version__:
        yield ok("API version", f"{theirs}, as here.")
    else:
        fact = f"The API has {theirs or 'none that it tells'}, this command {__version__}."
        yield warning("API version", fact, "Bring both to one release, and start the API again.")


def models(place: Place) -> Iterator[Finding]:
    """What is in service, and what was refused."""
    try:
        ready = web.get(place.api, "/health/ready")
        answer = web.get(place.api, "/v1/models", place.api_headers)
    except web.NoAnswerError:
        return  # the check of the API says so
    if answer.status == 401:
        remedy = "Set ALMENARA_API_KEY here to the one that the API was started with, or to one of `almenara keys`."
        yield problem("API key", "The API refuses the key." if place.api_headers else "The API wants a key.", remedy)
    listed = answer.json()
    rows = listed["models"] if answer.status == 200 and isinstance(listed, dict) else []
    for row in rows:
        if refused := row.get("refused"):
            fact = f"{row['name']}: version {refused['version']} is champion and cannot be served: {refused['reason']}"
            yield problem("models", fact, f"Register it again, or go back: almenara models rollback {row['name']}")
    content = ready.json()
    if ready.status == 200 and isinstance(content, dict):
        yield from _in_service(content)
    elif not any(row.get("refused") for row in rows):
        yield _not_ready(content if isinstance(content, dict) else {})


def camera_worker(place: Place) -> Iterator[Finding]:
    """Whether it lives, and whether every camera is scored."""
    shown = redact_address(place.worker)
    try:
        alive, ready = web.get(place.worker, "/healthz"), web.get(place.worker, "/readyz")
    except web.NoAnswerError as error:
        fact = f"Nothing answers at {shown}: {error}."
        if place.worker_url is None:
            yield skipped("camera worker", fact, "If one runs elsewhere, give its address with --worker-url.")
        else:
            yield problem("camera worker", fact, "Start it: docker compose up --detach camera-worker")
        return
    for answer in (alive, ready):
        content = answer.json()
        told = content if isinstance(content, dict) else {}
        detail = str(told.get("detail") or f"{shown} answers {answer.status}.")
        if answer.status != 200 and detail == "no camera is watched":
            yield warning("camera worker", "It watches no camera.", "Name some in cameras.yaml.")
            return
        if answer.status != 200:
            yield problem("camera worker", detail, str(told.get("remedy") or "See its log."))
            return
    yield ok("camera worker", f"{shown}: {ready.json().get('cameras', 0)} cameras, and each that should be is scored.")


def _in_service(content: Mapping[str, Any]) -> Iterator[Finding]:
    names = [row["name"] for row in content.get("models", ()) if row.get("version")]
    yield ok("models", f"In service: {', '.join(names[:10])}.")
    if content.get("registry") != "up":
        fact = "The API cannot ask the registry and serves what it had."
        yield warning("models", fact, "See the lines of MLflow; promotions arrive when it answers again.")


def _not_ready(content: Mapping[str, Any]) -> Finding:
    fact = str(content.get("detail") or "The API does not say whether it is ready.")
    remedy = str(content.get("remedy") or "See its log: docker compose logs api")
    empty = str(content.get("type", "")).endswith((":no-champion", ":models-loading"))
    return warning("models", fact, remedy) if empty else problem("models", fact, remedy)
