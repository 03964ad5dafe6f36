"""Who promotes, where the account has no name."""

from __future__ import annotations

import getpass

import pytest

from almenara import history


@pytest.mark.parametrize("error", [KeyError, OSError])
def test_an_account_without_a_name_is_unknown(error: type[Exception], monkeypatch: pytest.MonkeyPatch) -> None:
    def nameless() -> str:
        raise error("uid not found: 1000")

    monkeypatch.setattr(getpass, "getuser", nameless)
    assert history.user() == "unknown"
