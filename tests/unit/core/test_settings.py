"""Settings come from the environment; a wrong one is named and its value is not repeated."""

from __future__ import annotations

import traceback
from pathlib import Path

import pytest

from almenara.errors import ConfigurationError
from almenara.settings import load_settings


@pytest.fixture(autouse=True)
def folder_without_env_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)


def set_key(monkeypatch: pytest.MonkeyPatch, key: str) -> str:
    """The key as the settings have it."""
    monkeypatch.setenv("ALMENARA_API_KEY", key)
    settings = load_settings()
    assert settings.api_key is not None
    return settings.api_key.get_secret_value()


def test_defaults_are_embedded_and_on_loopback(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    settings = load_settings()
    assert settings.api_host == "127.0.0.1"
    assert settings.tracking_uri == f"sqlite:///{tmp_path / 'var' / 'mlflow' / 'mlflow.db'}"


def test_env_file_and_environment_are_read(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("ALMENARA_API_PORT=8123\nMLFLOW_TRACKING_URI=http://file:5000\n")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://environment:5000")
    settings = load_settings()
    assert settings.api_port == 8123
    assert settings.tracking_uri == "http://environment:5000"


@pytest.mark.parametrize("key", ["se-\ncret", "se-cret\n\n", "se-\x07cret", "se-crèt", " se-cret", "se-cret\t", " "])
def test_a_key_that_no_header_can_carry_is_refused_and_not_shown(monkeypatch: pytest.MonkeyPatch, key: str) -> None:
    with pytest.raises(ConfigurationError, match="ALMENARA_API_KEY: write printable ASCII") as caught:
        set_key(monkeypatch, key)
    assert "se-" not in "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize("end", ["", "\n", "\r\n"])
def test_a_key_may_have_blanks_in_it_and_a_last_line_s_end(monkeypatch: pytest.MonkeyPatch, end: str) -> None:
    assert set_key(monkeypatch, f"let me in{end}") == "let me in"


def test_a_wrong_setting_is_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALMENARA_API_PORT", "se-cret")
    with pytest.raises(ConfigurationError, match="ALMENARA_API_PORT: Input should be a valid integer") as caught:
        load_settings()
    assert "se-cret" not in str(caught.value)
