"""Signed links: they open one path for seven days, and only with the key that signed them."""

from __future__ import annotations

import pytest

from almenara.alarms.links import VALID_SECONDS, Links

PATH = "/v1/alarms/0c6f/evidence/frame.jpg"


class Clock:
    now = 1_900_000_000.0

    def __call__(self) -> float:
        return self.now


def test_a_link_opens_its_path_for_seven_days() -> None:
    clock = Clock()
    links = Links("key", clock)
    token = links.sign(PATH)
    assert links.valid(PATH, token)
    clock.now += VALID_SECONDS - 1
    assert links.valid(PATH, token)
    clock.now += 2
    assert not links.valid(PATH, token)


def test_a_link_opens_no_other_path_and_no_other_service() -> None:
    token = Links("key").sign(PATH)
    assert not Links("key").valid(PATH.replace("frame", "overlay"), token)
    assert not Links("another key").valid(PATH, token)


def test_the_end_of_a_link_cannot_be_moved() -> None:
    links = Links("key")
    until, _, signature = links.sign(PATH).partition(".")
    assert not links.valid(PATH, f"{int(until) + 1}.{signature}")


def test_a_link_that_is_passed_on_ends_with_the_one_it_comes_from() -> None:
    clock = Clock()
    links = Links("key", clock)
    page = links.sign("/alarms/0c6f")
    clock.now += VALID_SECONDS - 1
    picture = links.pass_on(page, PATH)
    assert links.valid(PATH, picture)
    assert not links.valid("/alarms/0c6f", picture)
    clock.now += 2
    assert not links.valid(PATH, picture)


@pytest.mark.parametrize("token", ["", ".", "x", "99999999999", "99999999999.", "-1.x", "9" * 90, "٣.x", "1e9.x"])
def test_what_is_no_token_opens_nothing(token: str) -> None:
    assert not Links("key").valid(PATH, token)


def test_a_token_fits_into_a_url_and_does_not_show_the_key() -> None:
    token = Links("secret-key").sign(PATH)
    assert len(token) < 100
    assert all(character.isalnum() or character in "-_." for character in token)
    assert "secret" not in token
