"""In which language a page answers a browser."""

from __future__ import annotations

import pytest

from almenara_api.routes.pages import preferred


@pytest.mark.parametrize(
    ("accepted", "language"),
    [
        ("", "en"),
        ("es-ES,es;q=0.9,en;q=0.8", "es"),
        ("en-GB, es;q=0.9", "en"),
        ("de, es;q=0.3, en;q=0.2", "es"),
        ("es ; q=0, en;q=0.1", "en"),
        ("de", "en"),
        ("*", "en"),
        ("es;q=much", "en"),
    ],
)
def test_the_language_that_a_browser_wants_most(accepted: str, language: str) -> None:
    assert preferred(accepted, ("en", "es")) == language


def test_the_language_of_the_plant_is_the_first() -> None:
    assert preferred("de", ("es", "en")) == "es"
