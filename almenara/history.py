"""What happened to the aliases of a model, as the tags of its versions tell."""

from __future__ import annotations

import getpass
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime

from pydantic import Field

from almenara.contracts import Contract
from almenara.errors import InputError

MOST_REASON = 1000  # characters; a tag of MLflow holds 5,000
NOTES = ("rolled_back", "restored", "challenged", "withdrawn")
"""Tags `almenara.NOTE` of a version, `when who: why`; a later one of a kind takes the earlier one's place."""


class Change(Contract):
    """Something that happened to a version's alias."""

    at: str = Field(description="ISO 8601, UTC")
    version: str
    what: str
    who: str
    why: str


def changes(version: str, tags: Mapping[str, str]) -> Iterator[Change]:
    """What the tags of a version tell of it, in no order."""
    if "almenara.promoted_at" in tags:
        forced = tags.get("almenara.forced")
        yield Change(
            at=tags["almenara.promoted_at"],
            version=version,
            what="promoted" if forced is None else "promoted by force",
            who=tags.get("almenara.promoted_by", ""),
            why=tags.get("almenara.reason", "") + ("" if forced is None else f" ({forced})"),
        )
    for note in NOTES:
        at, _, rest = tags.get(f"almenara.{note}", "").partition(" ")
        who, _, why = rest.partition(":")
        if at:
            yield Change(at=at, version=version, what=note.replace("_", " "), who=who, why=why.strip())


def require_reason(reason: str) -> None:
    """Refuse an empty reason (`reason-empty`) and one of more than 1,000 characters (`reason-too-long`)."""
    if not reason.strip():
        raise InputError("reason-empty", "The reason is empty.", "Say in a few words why: --reason …")
    if len(reason) > MOST_REASON:
        raise InputError(
            "reason-too-long",
            f"The reason has {len(reason)} characters and {MOST_REASON} are kept.",
            "Say it shorter, or where the rest is written.",
        )


def now() -> str:
    """ISO 8601, UTC, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def user() -> str:
    """Who runs this, for a tag."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container may run a user id without a name; Python before 3.13 says KeyError
        return "unknown"
