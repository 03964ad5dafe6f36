"""What happened to the aliases of a model, as the tags of its versions tell."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from pydantic import Field

from almenara.contracts import Contract

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
