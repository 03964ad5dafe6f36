"""The file of keys: what it keeps, who may read it, what it refuses."""

from __future__ import annotations

import json
import os
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from almenara.api_keys import ClientKey, Scope, create_key, hash_key, read_keys, revoke_key
from almenara.errors import ConfigurationError, InputError


def test_a_key_is_kept_as_its_hash_by_its_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "var" / "api-keys.json"
    key = create_key(path, "line-2", ["predict", "predict"], requests_per_second=5)
    [kept] = read_keys(path)
    assert (kept.name, kept.scopes, kept.requests_per_second) == ("line-2", ("predict",), 5)
    assert kept.sha256 == hash_key(key)
    assert key not in path.read_text()
    assert path.stat().st_mode & 0o777 == 0o600


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_a_file_that_root_makes_belongs_to_the_owner_of_its_folder(tmp_path: Path) -> None:
    os.chown(tmp_path, 1234, 1234)
    path = tmp_path / "keys.json"
    create_key(path, "line-1", ["predict"])
    create_key(path, "line-2", ["predict"])
    assert {(each.stat().st_uid, each.stat().st_mode & 0o777) for each in tmp_path.iterdir()} == {(1234, 0o600)}


def test_a_link_to_the_file_stays_a_link(tmp_path: Path) -> None:
    (tmp_path / "secrets").mkdir()
    path = tmp_path / "keys.json"
    path.symlink_to(tmp_path / "secrets" / "keys.json")
    create_key(path, "line-2", ["predict"])
    assert path.is_symlink()
    assert [key.name for key in read_keys(tmp_path / "secrets" / "keys.json")] == ["line-2"]


def test_two_keys_differ(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    made = {create_key(path, f"client-{number}", ["predict"]) for number in range(3)}
    assert len(made) == 3
    assert all(len(key) > 40 for key in made)
    assert [key.name for key in read_keys(path)] == ["client-0", "client-1", "client-2"]


def test_a_name_is_given_once(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    create_key(path, "line-2", ["predict"])
    before = path.read_bytes()
    with pytest.raises(InputError, match="There is a key line-2 already"):
        create_key(path, "line-2", ["admin"])
    assert path.read_bytes() == before


def test_a_revoked_key_is_gone_and_the_others_stay(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    create_key(path, "line-1", ["predict"])
    create_key(path, "line-2", ["predict"])
    revoke_key(path, "line-1")
    assert [key.name for key in read_keys(path)] == ["line-2"]
    with pytest.raises(InputError, match="There are: line-2"):
        revoke_key(path, "line-1")


def test_keys_made_at_the_same_time_are_all_kept(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda number: create_key(path, f"client-{number}", ["predict"]), range(24)))
    assert len(read_keys(path)) == 24


@pytest.mark.parametrize("name", ["", " line", "a b", "x" * 65, "a/b", "line\n2"])
def test_a_name_that_no_log_should_hold_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="name"):
        create_key(tmp_path / "keys.json", name, ["predict"])


def test_a_key_that_is_over_already_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="over before"):
        create_key(tmp_path / "keys.json", "line", ["predict"], expires_at=datetime.now(UTC) - timedelta(seconds=1))


def test_a_rate_that_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="requests_per_second"):
        create_key(tmp_path / "keys.json", "line", ["predict"], requests_per_second=0)
    assert not (tmp_path / "keys.json").exists()


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("", "Invalid JSON"),
        ("[]", "should be an object"),
        ('{"keys": [{"name": "line"}]}', "keys.0.scopes"),
        ('{"keys": [], "more": 1}', "more"),
        (" " * (2**20 + 1), "larger than"),
    ],
)
def test_a_file_of_something_else_is_refused_and_not_replaced(content: str, reason: str, tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    path.write_text(content)
    with pytest.raises(ConfigurationError, match=reason):
        read_keys(path)
    with pytest.raises(ConfigurationError, match=reason):
        create_key(path, "line", ["predict"])
    assert path.read_text() == content


def test_two_keys_of_one_name_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    create_key(path, "line", ["predict"])
    content = json.loads(path.read_text())
    path.write_text(json.dumps({"keys": content["keys"] * 2}))
    with pytest.raises(ConfigurationError, match="two keys have one name"):
        read_keys(path)


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigurationError, match="cannot be written"):
        create_key(tmp_path / "file" / "keys.json", "line", ["predict"])


@pytest.mark.parametrize(
    ("scopes", "opened"),
    [
        (("predict",), {"predict"}),
        (("predict", "operate"), {"predict", "operate"}),
        (("admin",), {"predict", "report", "operate", "admin"}),
    ],
)
def test_admin_opens_everything_and_the_others_only_their_own(scopes: tuple[Scope, ...], opened: set[Scope]) -> None:
    key = ClientKey(name="x", scopes=scopes, sha256="0" * 64, created_at=datetime.now(UTC))
    every: tuple[Scope, ...] = ("predict", "report", "operate", "admin")
    assert {scope for scope in every if key.allows(scope)} == opened
