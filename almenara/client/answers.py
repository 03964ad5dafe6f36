"""What comes back from the API: an answer that is read as a contract, or an error."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeVar

from pydantic import TypeAdapter, ValidationError

from almenara.errors import AlmenaraError

T = TypeVar("T")

MOST_BYTES = 64 * 2**20
"""Of an answer; a picture list with its heatmaps has some tens of MB."""
_MOST_CHARACTERS = 2000
_TYPE_PREFIX = "urn:almenara:problem:"
_REQUEST_PREFIX = "urn:almenara:request:"


class ApiError(AlmenaraError):
    """The API refuses, and says why (problem+json).

    Attributes:
        status: HTTP status, 400 to 599.
        code: stable slug, such as ``image-truncated``.
        request_id: this one request, as the API's log names it.
    """

    def __init__(self, status: int, code: str, fact: str, remedy: str = "", request_id: str = "") -> None:
        super().__init__(fact, remedy)
        self.status = status
        self.code = code
        self.request_id = request_id


class ApiUnreachable(AlmenaraError):  # noqa: N818  it may well be in order, behind a network that is not
    """Nothing answers at the address, or nothing that is an Almenara API of this version."""


@dataclass(frozen=True)
class Answer:
    """An HTTP answer that has come in whole.

    Attributes:
        address: of the API, without credentials.
        key: is never told.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes = field(repr=False)
    address: str
    key: str | None = field(default=None, repr=False)

    def read(self, kind: type[T]) -> T:
        """The answer as a contract; what a newer API adds to it is passed over.

        Raises:
            ApiError: it is a problem.
            ApiUnreachable: it is neither.
        """
        if not 200 <= self.status < 300:
            raise self._problem()
        try:
            return TypeAdapter(kind).validate_json(self.body, extra="ignore")
        except ValidationError as error:
            raise self.unreadable(f"{error.error_count()} mistakes") from None

    def unreadable(self, why: str) -> ApiUnreachable:
        """The error of an answer that is not what was asked for."""
        return ApiUnreachable(
            f"The answer of {self.address} cannot be read ({why}).", "Use the client of the API's own version."
        )

    def _problem(self) -> AlmenaraError:
        try:
            told = json.loads(self.body)
            fact, code = str(told["detail"]), str(told["type"]).removeprefix(_TYPE_PREFIX)
            remedy = str(told.get("remedy", ""))
            request_id = str(told.get("instance", "")).removeprefix(_REQUEST_PREFIX)
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            return ApiUnreachable(
                f"{self.address} answers {self.status}, and not as an Almenara API does.",
                "Check the address, and what stands between.",
            )
        return ApiError(self.status, code, self._plain(fact), self._plain(remedy), request_id)

    def _plain(self, text: str) -> str:
        return (text.replace(self.key, "***") if self.key else text)[:_MOST_CHARACTERS]
