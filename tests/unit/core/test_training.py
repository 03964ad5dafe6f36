"""Names of models: two assets never share one, and a bad name is refused before anything is trained."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from almenara.errors import InputError
from almenara.training import baseline_name, check_name


def test_a_plain_asset_keeps_its_name() -> None:
    assert baseline_name("bearing", "pump-1") == "bearing-baseline-pump-1"


@pytest.mark.parametrize(
    ("one", "other"), [("Pump 1", "pump-1"), ("насос", "помпа"), ("a" * 30 + "1", "a" * 30 + "2"), ("x/1", "x-1")]
)
def test_similar_assets_get_different_names(one: str, other: str) -> None:
    assert baseline_name("bearing", one) != baseline_name("bearing", other)


@given(st.text(min_size=1, max_size=200))
def test_every_asset_gets_a_name_that_a_card_takes(asset: str) -> None:
    name = baseline_name("n" * 40, asset)
    assert len(name) <= 80
    assert set(name) <= set("abcdefghijklmnopqrstuvwxyz0123456789-_")


@pytest.mark.parametrize("name", ["", "Bearing", "-x", "a b", "é", "a" * 41])
def test_a_bad_name_is_refused(name: str) -> None:
    with pytest.raises(InputError, match="cannot name a model"):
        check_name(name)
