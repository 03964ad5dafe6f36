"""What people post about alarms is text that any database keeps."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from almenara.contracts import Contract
from almenara_api.alarm_bodies import Acknowledgement, Confirmation, NewSilence, Shelving

SHELVING = {"source": "line-2/outflow", "user": "maria", "seconds": 60}
SILENCE = {"sources": "line-2/*", "user": "maria", "seconds": 60}


@pytest.mark.parametrize("text", ["a\0b", "x" * 2001])
@pytest.mark.parametrize(
    ("body", "facts", "field"),
    [
        (Acknowledgement, {"user": "maria"}, "user"),
        (Acknowledgement, {"user": "maria"}, "comment"),
        (Shelving, SHELVING, "source"),
        (NewSilence, SILENCE, "sources"),
        (Confirmation, {"origin": "worker-1", "ids": ()}, "origin"),
    ],
)
def test_text_with_nul_or_without_bound_is_refused(
    body: type[Contract], facts: dict[str, object], field: str, text: str
) -> None:
    body.model_validate(facts)
    with pytest.raises(ValidationError, match=field):
        body.model_validate({**facts, field: text})


def test_a_comment_may_have_lines() -> None:
    assert Acknowledgement(user="maria", comment="belt tracked\nroller 3 changed").comment.count("\n") == 1
