"""Docker Compose is found as the plugin or the program; why it fails reaches the reader, without secrets."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from almenara.backup.compose import Compose, env_files
from almenara.errors import ConfigurationError

ANSWERS = """#!/bin/sh
case "$*" in
    version) exit 0 ;;
    *fails*) echo 'level=warning is no reason: time="" level=warning msg="x"' >&2
        echo 'cannot connect to http://ana:geheim@host:1/' >&2; exit 3 ;;
    *echo*) cat ;;
    *) echo "$0 $*" ;;
esac
"""


def program(folder: Path, name: str, script: str = ANSWERS) -> None:
    (folder / name).write_text(script)
    (folder / name).chmod(0o755)


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of programs that comes before all others, beside a docker-compose.yaml."""
    (tmp_path / "docker-compose.yaml").touch()
    programs = tmp_path / "bin"
    programs.mkdir()
    monkeypatch.setenv("PATH", f"{programs}:/usr/bin:/bin")
    return programs


def test_the_plugin_is_taken_when_it_answers(path: Path, tmp_path: Path) -> None:
    program(path, "docker", "#!/bin/sh\nshift\n" + ANSWERS.split("\n", 1)[1])
    program(path, "docker-compose")
    assert Compose(tmp_path).call("ps").startswith(f"{path}/docker ")


def test_the_program_is_taken_where_there_is_no_plugin(path: Path, tmp_path: Path) -> None:
    program(path, "docker", "#!/bin/sh\nexit 1\n")
    program(path, "docker-compose")
    assert Compose(tmp_path).call("ps").startswith(f"{path}/docker-compose ")


def test_bytes_pass_as_they_are(path: Path, tmp_path: Path) -> None:
    program(path, "docker-compose", ANSWERS.replace("echo*) cat", "echo*) printf 'a\\000\\nb'"))
    assert b"".join(Compose(tmp_path).read("echo")) == b"a\0\nb"


WAYS: dict[str, Callable[[Compose], object]] = {
    "call": lambda compose: compose.call("fails"),
    "read": lambda compose: list(compose.read("fails")),
    "write": lambda compose: compose.write("fails", blocks=[b"x" * 2**20] * 3),
}


@pytest.mark.parametrize("way", WAYS)
def test_a_failure_is_told_with_its_reason_and_without_passwords(path: Path, tmp_path: Path, way: str) -> None:
    program(path, "docker-compose")
    compose = Compose(tmp_path)
    with pytest.raises(ConfigurationError, match="cannot connect") as failed:
        WAYS[way](compose)
    assert "geheim" not in str(failed.value)
    assert "level=warning" not in str(failed.value)


def test_a_folder_without_a_compose_file_names_both_ways(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError) as refused:
        Compose(tmp_path)
    assert "--project-directory" in refused.value.remedy
    assert "--var-dir" in refused.value.remedy


def test_settings_come_from_where_compose_takes_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("COMPOSE_ENV_FILES", raising=False)
    assert env_files(tmp_path) == [tmp_path / ".env"]
    monkeypatch.setenv("COMPOSE_ENV_FILES", "plant.env")
    assert env_files(tmp_path) == [tmp_path / "plant.env"]
