"""Starting: nothing beyond loopback without a key, and a plain sentence when it cannot start."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import SecretStr

from almenara.api_keys import create_key
from almenara.errors import ConfigurationError
from almenara.settings import Settings
from almenara_api.__main__ import check_exposure, listen, main


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.4", "plant.example"])
def test_an_address_beyond_this_machine_needs_a_key(host: str, tmp_path: Path) -> None:
    settings = Settings(var_dir=tmp_path, api_host=host, api_key=None)
    with pytest.raises(ConfigurationError, match="ALMENARA_API_KEY"):
        check_exposure(settings)
    assert not check_exposure(settings.model_copy(update={"api_key": SecretStr("k")})).open
    create_key(tmp_path / "api-keys.json", "line-2", ["predict"])
    assert not check_exposure(settings).open


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.8.8", "::1", "localhost"])
def test_loopback_needs_none(host: str, tmp_path: Path) -> None:
    assert check_exposure(Settings(var_dir=tmp_path, api_host=host, api_key=None)).open


def test_an_empty_key_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="empty"):
        check_exposure(Settings(var_dir=tmp_path, api_key=SecretStr("")))


def test_a_port_in_use_is_named() -> None:
    with listen("127.0.0.1", 0) as taken, pytest.raises(ConfigurationError, match="in use"):
        listen("127.0.0.1", taken.getsockname()[1])


def test_a_free_port_listens() -> None:
    with listen("127.0.0.1", 0) as free:
        socket.create_connection(free.getsockname(), 1).close()


def start(tmp_path: Path, *options: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "almenara_api", *options],
        cwd=tmp_path,
        env={key: value for key, value in os.environ.items() if not key.startswith("ALMENARA_")} | environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_an_alarm_database_that_cannot_be_opened_ends_the_start_with_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "var").write_text("a file where the folder should be")
    ended = start(tmp_path, "--port", "0")
    assert ended.returncode == 2
    assert ended.stderr.splitlines()[-1].startswith(f"almenara-api: {tmp_path / 'var'} cannot be written")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("language: en\nchanels: []\n", "line 2: 'chanels' is no setting here; did you mean 'channels'?"),
        ("channels:\n  - {name: a, type: apprise, url: 'nothing://x'}\n", "Apprise"),
    ],
)
def test_a_mistake_in_the_alarms_file_ends_the_start_with_a_sentence(tmp_path: Path, text: str, told: str) -> None:
    (tmp_path / "alarms.yaml").write_text(text)
    ended = start(tmp_path, "--port", "0", ALMENARA_ALARMS_FILE="alarms.yaml")
    assert ended.returncode == 2
    last = ended.stderr.splitlines()[-1]
    assert last.startswith("almenara-api: ")
    assert told in last
    assert "Traceback" not in ended.stderr


def test_refusing_to_start_is_one_sentence_and_exit_code_2(tmp_path: Path) -> None:
    ended = start(tmp_path, "--host", "0.0.0.0")
    assert ended.returncode == 2
    assert ended.stderr.startswith("almenara-api: The API would listen on 0.0.0.0")
    assert len(ended.stderr.splitlines()) == 1


def test_a_wrong_setting_names_itself(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("ALMENARA_API_PORT", "99999")
    assert main([]) == 2
    assert "api_port" in capsys.readouterr().err.lower()
