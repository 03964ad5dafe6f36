"""Who is admitted: keys, scopes, times, rates, and a file that changes while the service runs."""

from __future__ import annotations

import logging
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from pydantic import SecretStr

from almenara import api_keys
from almenara.api_keys import create_key, revoke_key
from almenara.errors import ConfigurationError
from almenara.settings import Settings
from almenara_api.access import OWN, Access, name_of
from almenara_api.problems import Problem


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "api-keys.json"


def settings(file: Path, *, own: str | None = None, rate: float | None = None) -> Settings:
    key = None if own is None else SecretStr(own)
    return Settings(var_dir=file.parent, api_key=key, requests_per_second=rate)


def enter(access: Access, key: str | None, scope: api_keys.Scope | None) -> str | None:
    """The name under which the key is admitted."""
    caller = access.identify(key)
    access.admit(caller, scope)
    return name_of(caller)


def refused(access: Access, key: str | None, scope: api_keys.Scope = "predict") -> tuple[int, str]:
    with pytest.raises(Problem) as raised:
        enter(access, key, scope)
    return raised.value.status, raised.value.code


def test_without_any_key_the_service_is_open(file: Path, clock: Clock) -> None:
    access = Access(settings(file), clock)
    assert access.open
    assert enter(access, None, "admin") is None
    assert enter(access, "whatever", "admin") is None


def test_its_own_key_opens_everything_at_any_rate(file: Path, clock: Clock) -> None:
    access = Access(settings(file, own="the-own-key", rate=1), clock)
    assert not access.open
    assert {enter(access, "the-own-key", "admin") for _ in range(50)} == {OWN}
    assert refused(access, None) == (401, "api-key")
    assert refused(access, "the-own-kez") == (401, "api-key")
    assert refused(access, "ключ") == (401, "api-key")


def test_a_clients_key_opens_its_scope_alone(file: Path, clock: Clock) -> None:
    key = create_key(file, "line-2", ["predict"])
    access = Access(settings(file), clock)
    assert not access.open
    assert enter(access, key, "predict") == "line-2"
    assert enter(access, key, None) == "line-2"
    assert refused(access, key, "operate") == (403, "key-scope")
    assert refused(access, None) == (401, "api-key")
    assert refused(access, key[:-1]) == (401, "api-key")


def test_a_key_ends_at_its_time(file: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    key = create_key(file, "guest", ["predict"], expires_at=datetime.now(UTC) + timedelta(hours=1))
    access = Access(settings(file), clock)
    assert enter(access, key, "predict") == "guest"
    monkeypatch.setattr(api_keys.ClientKey, "is_over", lambda self, now: now >= self.expires_at - timedelta(hours=2))
    assert refused(access, key) == (401, "api-key")


def test_keys_are_rotated_without_a_restart(file: Path, clock: Clock) -> None:
    old = create_key(file, "line-2", ["predict"])
    access = Access(settings(file), clock)
    new = create_key(file, "line-2b", ["predict"])
    clock.now += 1
    assert enter(access, new, "predict") == "line-2b"
    assert enter(access, old, "predict") == "line-2"
    revoke_key(file, "line-2")
    clock.now += 1
    assert refused(access, old) == (401, "api-key")
    assert enter(access, new, "predict") == "line-2b"


def test_the_file_is_looked_at_once_a_second(file: Path, clock: Clock) -> None:
    key = create_key(file, "line-2", ["predict"])
    access = Access(settings(file), clock)
    revoke_key(file, "line-2")
    clock.now += 0.9
    assert enter(access, key, "predict") == "line-2"
    clock.now += 0.1
    assert refused(access, key) == (401, "api-key")


def test_the_last_key_that_is_revoked_leaves_the_service_closed(file: Path, clock: Clock) -> None:
    create_key(file, "line-2", ["predict"])
    revoke_key(file, "line-2")
    access = Access(settings(file), clock)
    assert not access.open
    assert refused(access, None) == (401, "api-key")


def test_the_first_key_closes_a_running_service(file: Path, clock: Clock) -> None:
    access = Access(settings(file), clock)
    assert enter(access, None, "predict") is None
    key = create_key(file, "line-2", ["predict"])
    clock.now += 1
    assert refused(access, None) == (401, "api-key")
    assert enter(access, key, "predict") == "line-2"


@pytest.mark.parametrize("content", ["{", None])
def test_a_file_that_broke_or_went_leaves_the_keys_as_they_were(
    content: str | None, file: Path, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    key = create_key(file, "line-2", ["predict"])
    whole = file.read_text()
    access = Access(settings(file), clock)
    file.unlink() if content is None else file.write_text(content)
    with caplog.at_level(logging.WARNING, logger="almenara_api.access"):
        for _ in range(3):
            clock.now += 1
            assert enter(access, key, "predict") == "line-2"
            assert refused(access, None) == (401, "api-key")
    assert [record.message for record in caplog.records if record.name == "almenara_api.access"] == [
        "the keys stay as they were"
    ]
    file.write_text(whole.replace("line-2", "line-3"))
    clock.now += 1
    assert enter(access, key, "predict") == "line-3"


def test_a_first_file_that_cannot_be_read_closes_an_open_service(
    file: Path, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    access = Access(settings(file), clock)
    file.write_text("{")
    clock.now += 1
    with caplog.at_level(logging.WARNING, logger="almenara_api.access"):
        assert refused(access, None) == (401, "api-key")
    assert "is no file of keys" in str(vars(caplog.records[-1])["reason"])
    file.unlink()
    key = create_key(file, "line-2", ["predict"])
    clock.now += 1
    assert enter(access, key, "predict") == "line-2"


def test_an_answer_that_goes_on_ends_with_its_key(file: Path, clock: Clock) -> None:
    key = create_key(file, "panel", ["operate"])
    access = Access(settings(file, own="the-own-key"), clock)
    panel, own = access.identify(key), access.identify("the-own-key")
    assert access.holds(panel)
    assert access.holds(own)
    revoke_key(file, "panel")
    create_key(file, "panel", ["operate"])
    clock.now += 1
    assert not access.holds(panel)
    assert access.holds(own)


def test_an_answer_without_a_key_ends_when_the_service_closes(file: Path, clock: Clock) -> None:
    access = Access(settings(file), clock)
    assert access.holds(access.identify(None))
    create_key(file, "panel", ["operate"])
    clock.now += 1
    assert not access.holds(None)


def test_a_key_that_is_made_anew_does_not_pay_for_the_one_before(file: Path, clock: Clock) -> None:
    slow = create_key(file, "line-2", ["predict"], requests_per_second=0.001)
    access = Access(settings(file), clock)
    enter(access, slow, "predict")
    assert refused(access, slow) == (429, "rate-limit")
    revoke_key(file, "line-2")
    fast = create_key(file, "line-2", ["predict"], requests_per_second=100)
    clock.now += 1
    assert enter(access, fast, "predict") == "line-2"


def test_a_rate_that_is_raised_holds_at_once(file: Path, clock: Clock) -> None:
    key = create_key(file, "line-2", ["predict"], requests_per_second=0.001)
    access = Access(settings(file), clock)
    enter(access, key, "predict")
    file.write_text(file.read_text().replace("0.001", "10.0"))
    clock.now += 1
    assert refused(access, key) == (429, "rate-limit")
    clock.now += 0.1
    assert enter(access, key, "predict") == "line-2"


def test_a_file_that_cannot_be_read_keeps_the_service_from_starting(file: Path) -> None:
    file.write_text("{")
    with pytest.raises(ConfigurationError, match="is no file of keys"):
        Access(settings(file))
    file.unlink()
    file.mkdir()
    with pytest.raises(ConfigurationError, match="cannot be read"):
        Access(settings(file))


def test_a_file_that_is_named_has_to_be_there(tmp_path: Path) -> None:
    named = tmp_path / "keys.json"
    with pytest.raises(ConfigurationError, match="ALMENARA_API_KEYS_FILE"):
        Access(Settings(var_dir=tmp_path, api_keys_file=named))
    create_key(named, "line-2", ["predict"])
    assert not Access(Settings(var_dir=tmp_path, api_keys_file=named)).open


def test_a_key_has_a_burst_of_a_second_and_then_its_rate(file: Path, clock: Clock) -> None:
    key = create_key(file, "line-2", ["predict"], requests_per_second=5)
    other = create_key(file, "line-3", ["predict"], requests_per_second=5)
    access = Access(settings(file), clock)
    for _ in range(5):
        enter(access, key, "predict")
    with pytest.raises(Problem) as raised:
        enter(access, key, "predict")
    assert (raised.value.status, raised.value.code) == (429, "rate-limit")
    assert raised.value.headers["Retry-After"] == "1"
    assert enter(access, other, "predict") == "line-3"
    clock.now += 0.2
    assert enter(access, key, "predict") == "line-2"
    assert refused(access, key) == (429, "rate-limit")
    clock.now += 60
    for _ in range(5):
        enter(access, key, "predict")
    assert refused(access, key) == (429, "rate-limit")


def test_a_rate_below_one_a_second_says_how_long_to_wait(file: Path, clock: Clock) -> None:
    key = create_key(file, "line-2", ["predict"], requests_per_second=0.1)
    access = Access(settings(file), clock)
    enter(access, key, "predict")
    clock.now += 2.5
    with pytest.raises(Problem) as raised:
        enter(access, key, "predict")
    assert raised.value.headers["Retry-After"] == "8"
    clock.now += 7.5
    enter(access, key, "predict")


def test_the_service_s_rate_is_for_keys_without_their_own(file: Path, clock: Clock) -> None:
    key = create_key(file, "line-2", ["predict"])
    fast = create_key(file, "gateway", ["predict"], requests_per_second=100)
    access = Access(settings(file, rate=2), clock)
    assert [enter(access, key, "predict") for _ in range(2)] == ["line-2"] * 2
    assert refused(access, key) == (429, "rate-limit")
    assert {enter(access, fast, "predict") for _ in range(100)} == {"gateway"}


def test_a_refused_request_does_not_count(file: Path, clock: Clock) -> None:
    key = create_key(file, "line-2", ["predict"], requests_per_second=1)
    access = Access(settings(file), clock)
    for _ in range(5):
        assert refused(access, key, "operate") == (403, "key-scope")
    assert enter(access, key, "predict") == "line-2"
