"""Nothing of an Apprise URL that may be secret comes out in an error, whatever way a plugin words it."""

from __future__ import annotations

import threading
import time
from urllib.parse import quote

import pytest
from apprise import Apprise
from hypothesis import given
from hypothesis import strategies as st

from almenara.alarms.channels import apprise_log
from almenara.alarms.channels.patience import within


def hidden(url: str, text: str) -> str:
    plugin = Apprise.instantiate(url)
    assert plugin is not None
    return apprise_log.hide(apprise_log.secrets(url, plugin), text)


@given(password=st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=4, max_size=30))
def test_a_password_is_hidden_as_written_and_decoded(password: str) -> None:
    written = quote(password, safe="")
    shown = hidden(f"json://user:{written}@hook.example/", f"a [{password}] b [{written}] c")
    assert f"[{password}]" not in shown
    assert f"[{written}]" not in shown


def test_a_token_for_a_host_is_hidden() -> None:
    token = "123456789:AAbbCCddEEffGGhhIIjjKKllMMnnOOppQQr"  # noqa: S105 - invented
    failure = f"Max retries exceeded with url: /bot{token}/sendMessage"
    assert "AAbbCC" not in hidden(f"tgram://{token}/-100123456789", failure)


def test_a_host_that_is_one_stays() -> None:
    assert "mail.plant.example" in hidden("mailto://u:pw@mail.plant.example", "no route to mail.plant.example")


def test_a_reason_is_cut() -> None:
    assert len(hidden("json://hook.example", "very long " * 1000)) == 400


def test_a_call_that_is_late_is_left_alone() -> None:
    release = threading.Event()
    start = time.monotonic()
    with pytest.raises(TimeoutError):
        within(0.05, lambda: release.wait(10), "late")
    assert time.monotonic() - start < 2
    release.set()


def test_a_call_in_time_gives_its_result_or_its_error() -> None:
    assert within(5, lambda: 4, "quick") == 4
    with pytest.raises(ZeroDivisionError):
        within(5, lambda: 1 // 0, "wrong")
