"""Nothing starts on a secret that anybody knows: each is named, never shown, and all are told at once."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from almenara.cli import app
from almenara.env_file import PLACEHOLDER, SECRETS, check, complete, read_settings
from tests.support.data import ROOT

SAMPLE = (ROOT / "sample.env").read_text(encoding="utf-8")
GOOD = {name: f"{name[:3].lower()}-7d0f1c55a29e4b8836" for name in SECRETS}


def checked(*arguments: str, environment: dict[str, str] | None = None) -> Result:
    return CliRunner().invoke(app, ["env", "check", *arguments], env=environment)


def test_what_env_init_writes_is_accepted(tmp_path: Path) -> None:
    file = tmp_path / ".env"
    file.write_text(complete(SAMPLE, None).text, encoding="utf-8")
    result = checked("--file", str(file))
    assert (result.exit_code, result.stderr) == (0, "")


def test_every_placeholder_of_the_sample_is_refused_by_its_name_and_none_is_shown(tmp_path: Path) -> None:
    placeholders = {line.partition("=")[0] for line in SAMPLE.splitlines() if f"={PLACEHOLDER}" in line}
    file = tmp_path / ".env"
    file.write_text(SAMPLE, encoding="utf-8")
    result = checked("--file", str(file))
    assert result.exit_code == 2
    assert placeholders <= {line.partition(":")[0] for line in result.stderr.splitlines()}
    assert "almenara env init" in result.stderr
    assert f"{PLACEHOLDER}-" not in result.stderr


def test_every_placeholder_of_the_sample_is_a_secret_that_is_checked() -> None:
    settings = dict(line.split("=", 1) for line in SAMPLE.splitlines() if "=" in line and not line.startswith("#"))
    assert {name for name, value in settings.items() if value.startswith(PLACEHOLDER)} <= SECRETS.keys()


@pytest.mark.parametrize(
    ("name", "value", "fact"),
    [
        ("POSTGRES_PASSWORD", "", "it is empty"),
        ("POSTGRES_PASSWORD", "   ", "it is empty"),
        ("POSTGRES_PASSWORD", "x7d0f1c55a29e4b", "it has 15 characters and needs 16 or more"),
        ("MINIO_SECRET_KEY", "x7d0f1c", "it has 7 characters and needs 8 or more"),
        ("MINIO_ACCESS_KEY", "ab", "it has 2 characters and needs 3 or more"),
        ("MINIO_ACCESS_KEY", "minioadmin", "it is well known"),
        ("MINIO_SECRET_KEY", "minioadmin", "it is well known"),
        ("MINIO_SECRET_KEY", "Passw0rd", "it is well known"),
        ("ALMENARA_API_KEY", "password-12345678", "it is well known"),
        ("JUPYTER_TOKEN", "ChangeMe-2026-2026", "it is well known"),
        ("GRAFANA_PASSWORD", "aaaaaaaabbbbbbbb", "it is well known or easily guessed"),
        ("SMTP_PASSWORD", f"{PLACEHOLDER}-mail", "it is the placeholder"),
    ],
)
def test_a_secret_that_cannot_stay_is_named_with_the_reason(name: str, value: str, fact: str) -> None:
    (finding,) = check({**GOOD, name: value})
    assert finding.name == name
    assert finding.fact.startswith(fact)
    assert "almenara env init" in finding.remedy
    assert not value.strip() or value not in finding.fact + finding.remedy


def test_a_secret_that_is_not_set_is_refused() -> None:
    (finding,) = check({name: value for name, value in GOOD.items() if name != "JUPYTER_TOKEN"})
    assert (finding.name, finding.fact) == ("JUPYTER_TOKEN", "it is not set.")


@pytest.mark.parametrize("address", ["", "127.0.0.1", "127.0.0.2", "::1", "[::1]", "localhost"])
def test_an_address_of_this_machine_alone_needs_no_word(address: str) -> None:
    assert check({**GOOD, "BIND_ADDRESS": address}) == []


@pytest.mark.parametrize("address", ["0.0.0.0", "::", "192.168.4.7", "plant-server"])
def test_an_address_beyond_this_machine_is_a_warning_and_no_refusal(address: str) -> None:
    result = checked("--environment", environment={**GOOD, "BIND_ADDRESS": address})
    assert result.exit_code == 0
    assert result.stderr.startswith(f"BIND_ADDRESS: {address} is reached from beyond this machine")


def test_as_json_each_finding_has_its_name_and_remedy() -> None:
    result = checked("--environment", "--json", environment={**GOOD, "MINIO_SECRET_KEY": "minioadmin"})
    told = json.loads(result.stdout.splitlines()[-1])
    assert [row["name"] for row in told["refused"]] == ["MINIO_SECRET_KEY"]
    assert (result.exit_code, told["warnings"]) == (2, [])


def test_a_file_that_is_not_there_is_told_with_the_command_that_makes_it(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "almenara", "env", "check"]
    done = subprocess.run(command, cwd=tmp_path, env={**os.environ}, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert ".env: No such file or directory. Make it with almenara env init" in done.stderr


@pytest.mark.parametrize(
    ("line", "value"),
    [
        ("NAME=value", "value"),
        ("export NAME = value  # said so", "value"),
        ("NAME=pa#ss", "pa#ss"),
        ("NAME=# nothing yet", ""),
        ("NAME=", ""),
        ("NAME='pa $s # word'  # quoted", "pa $s # word"),
        ('NAME="a b"', "a b"),
    ],
)
def test_a_line_is_read_as_compose_reads_it(line: str, value: str, tmp_path: Path) -> None:
    (tmp_path / ".env").write_text(f"# NAME=other\n{line}\n", encoding="utf-8")
    assert read_settings(tmp_path / ".env") == {"NAME": value}


def test_an_empty_secret_gets_one_from_env_init() -> None:
    done = complete("# secrets\nKEY=change-me\nFREE=\n", "KEY=\nFREE=\n")
    assert done.secrets == ("KEY",)
    assert "FREE=\n" in done.text
