"""RFC 9457 problem details: every error that a client sees, with the fact, the remedy and a stable type."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from pydantic import BaseModel, ConfigDict, Field
from starlette.exceptions import HTTPException

from almenara.errors import AlmenaraError, InputError
from almenara_api.logs import current_request_id

MEDIA_TYPE = "application/problem+json"
TYPE_PREFIX = "urn:almenara:problem:"
PROTOCOL_PATH = "/v2"

_STATUS_BY_CODE = {
    "alarm-unknown": 404,
    "source-unknown": 404,
    "silence-unknown": 404,
    "alarm-not-latched": 409,
    "report-of-own-alarm": 409,
    "body-too-large": 413,
    "image-too-large": 413,
    "recording-too-long": 413,
    "image-type": 415,
    "recording-type": 415,
    "media-type": 415,
    "content-encoding": 415,
    "image-empty": 400,
    "image-truncated": 400,
    "image-corrupt": 400,
    "recording-empty": 400,
    "recording-truncated": 400,
    "json-invalid": 400,
    "multipart-invalid": 400,
}
_SERVER_FAULTS = ("package-", "card-", "calibration-", "feature", "map-", "region-", "image-encode")


class ProblemDetails(BaseModel):
    """The body of every error answer."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "type": f"{TYPE_PREFIX}image-truncated",
                "title": "Image truncated",
                "status": 400,
                "detail": "The JPEG ends after 1024 bytes without its end marker.",
                "remedy": "Send the whole file.",
                "instance": "urn:almenara:request:5f0c4d7c9f4e4d0e8a8a1c6f1d2e3b4a",
            }
        }
    )

    type: str = Field(description="stable, machine readable")
    title: str
    status: int
    detail: str = Field(description="what is wrong and where")
    remedy: str = Field(default="", description="what to do about it")
    instance: str = Field(description="this one request, as it is named in the service's log")


class ProtocolProblem(ProblemDetails):
    """The body of every error answer under /v2: problem details, with the member that the protocol's clients read."""

    error: str = Field(description="detail and remedy, as the Open Inference Protocol has it")


class Problem(AlmenaraError):  # noqa: N818  the name that RFC 9457 gives it
    """An answer that is no verdict: what HTTP status it has, and why."""

    def __init__(
        self, status: int, code: str, fact: str, remedy: str = "", *, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(fact, remedy)
        self.status = status
        self.code = code
        self.headers = dict(headers or {})

    def details(self, path: str) -> ProblemDetails:
        """The body of the answer to the current request, which went to a path."""
        details = ProblemDetails(
            type=TYPE_PREFIX + self.code,
            title=self.code.replace("-", " ").capitalize(),
            status=self.status,
            detail=self.fact,
            remedy=self.remedy,
            instance=f"urn:almenara:request:{current_request_id()}",
        )
        if path == PROTOCOL_PATH or path.startswith(f"{PROTOCOL_PATH}/"):
            return ProtocolProblem(**dict(details), error=str(self))
        return details

    def response(self, path: str) -> Response:
        """The problem as that answer."""
        return Response(self.details(path).model_dump_json(), self.status, self.headers, media_type=MEDIA_TYPE)


def problem_of(error: InputError) -> Problem:
    """The HTTP side of an input error; one of our own package or card is the service's fault, not the client's."""
    status = 500 if error.code.startswith(_SERVER_FAULTS) else _STATUS_BY_CODE.get(error.code, 422)
    return Problem(status, error.code, error.fact, error.remedy)


def internal_error() -> Problem:
    """What a client is told of a fault of ours: nothing but where to look."""
    return Problem(
        500,
        "internal-error",
        "The service failed on this request.",
        "Its log has the reason under the request's id; the same request may succeed later.",
    )


def shutting_down() -> Problem:
    """What a client is told of a service that ends."""
    return Problem(
        503,
        "shutting-down",
        "The service is being shut down.",
        "Send the request again: another instance answers it, or this one once it is back.",
        headers={"Retry-After": "1"},
    )


def install(app: FastAPI) -> None:
    """Answer every error of the app's routes as problem+json."""
    app.add_exception_handler(Problem, _on_problem)
    app.add_exception_handler(InputError, _on_input_error)
    app.add_exception_handler(RequestValidationError, _on_invalid_parameters)
    app.add_exception_handler(HTTPException, _on_http_exception)


def responses(*statuses: int, details: type[ProblemDetails] = ProblemDetails) -> dict[int | str, dict[str, Any]]:
    """OpenAPI's description of the error answers of a route."""
    return {
        status: {
            "description": HTTPStatus(status).phrase,
            "content": {MEDIA_TYPE: {"schema": details.model_json_schema()}},
        }
        for status in statuses
    }


def sentence(error: Mapping[str, Any]) -> str:
    """One pydantic error as `where: what (got …)`."""
    where = ".".join(str(part) for part in error["loc"])
    got = f" (got {shown(error['input'])!r})" if "input" in error else ""
    return f"{where}: {error['msg']}{got}"


def shown(value: object, most: int = 80) -> str:
    """The beginning of what somebody sent, for an error; of lists and objects the type, since they may be deep."""
    return type(value).__name__ if isinstance(value, list | dict | tuple) else str(value)[:most]


def _answer(request: Request, problem: Problem) -> Response:
    request.state.problem_code = problem.code  # for the log and the metrics
    return problem.response(request.url.path)


async def _on_problem(request: Request, error: Exception) -> Response:
    assert isinstance(error, Problem)  # noqa: S101  it is registered for this class alone
    return _answer(request, error)


async def _on_input_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, InputError)  # noqa: S101  it is registered for this class alone
    return _answer(request, problem_of(error))


async def _on_invalid_parameters(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)  # noqa: S101  it is registered for this class alone
    fact = "; ".join(sentence(each) for each in error.errors())
    remedy = "The parameters of each route are listed under /docs."
    return _answer(request, Problem(422, "parameters-invalid", fact, remedy))


async def _on_http_exception(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101  it is registered for this class alone
    cause = error.__cause__
    if isinstance(cause, InputError):  # FastAPI hides what went wrong while it read a body
        return _answer(request, problem_of(cause))
    if isinstance(cause, Problem):
        return _answer(request, cause)
    if isinstance(cause, ValueError | RecursionError):
        remedy = "Send JSON in UTF-8; the fields of the body are listed under /docs."
        return _answer(
            request, Problem(422, "parameters-invalid", f"body: it cannot be read as JSON: {cause}.", remedy)
        )
    code = HTTPStatus(error.status_code).phrase.lower().replace(" ", "-").replace("'", "")
    fact = f"{request.method} {request.url.path}: {error.detail}."
    remedy = "The routes are listed under /docs."
    return _answer(request, Problem(error.status_code, code, fact, remedy, headers=error.headers))
