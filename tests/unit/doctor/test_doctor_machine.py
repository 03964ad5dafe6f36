"""What the doctor says of this machine: secrets, the folder, alarms.yaml."""

from __future__ import annotations

from pathlib import Path

import pytest

from almenara.doctor import Finding, Place, machine
from almenara.settings import Settings


def told_of_file(path: Path, text: str) -> dict[str, Finding]:
    path.write_text(text, encoding="utf-8")
    return {each.subject: each for each in machine.alarms_file(Place(Settings(alarms_file=path), {}))}


def test_a_placeholder_and_a_well_known_secret_are_named_and_not_shown() -> None:
    environment = {"MINIO_SECRET_KEY": "minioadmin", "ALMENARA_API_KEY": "change-me-api", "MINIO_ACCESS_KEY": "plant"}
    found = list(machine.secrets(Place(Settings(), environment)))
    assert [(each.state, each.fact.partition(":")[0]) for each in found] == [
        ("problem", "ALMENARA_API_KEY"),
        ("problem", "MINIO_SECRET_KEY"),
    ]
    assert not any("minioadmin" in each.fact or "change-me-api" in each.fact for each in found)


def test_a_folder_that_is_to_be_made_is_no_problem(tmp_path: Path) -> None:
    place = Place(Settings(var_dir=tmp_path / "var"), {})
    assert [each.state for each in machine.folder(place)] == ["skipped"]
    assert [each.subject for each in machine.disk(place)] == ["disk"]


def test_a_folder_that_cannot_be_written_is_a_problem(tmp_path: Path) -> None:
    (tmp_path / "var").write_text("a file in its place", encoding="utf-8")
    (finding,) = machine.folder(Place(Settings(var_dir=tmp_path / "var"), {}))
    assert (finding.state, "cannot be written" in finding.fact) == ("problem", True)


def test_without_alarms_yaml_somebody_is_told_that_nobody_is_told() -> None:
    (finding,) = machine.alarms_file(Place(Settings(), {}))
    assert (finding.state, "docs/alarms.md" in finding.remedy) == ("warning", True)


def test_without_heartbeat_and_channels_both_are_warnings(tmp_path: Path) -> None:
    found = told_of_file(tmp_path / "alarms.yaml", "language: en\n")
    assert {name: each.state for name, each in found.items()} == {"alarms.yaml": "warning", "heartbeat": "warning"}
    assert "nobody notices when the platform dies" in found["heartbeat"].fact


def test_a_heartbeat_and_a_channel_are_told(tmp_path: Path) -> None:
    channel = "channels: [{name: shift, type: mqtt, url: 'mqtt://broker'}]\n"
    found = told_of_file(tmp_path / "alarms.yaml", channel + "heartbeat: {url: 'http://watcher/ping'}\n")
    assert {name: each.state for name, each in found.items()} == {"alarms.yaml": "ok", "heartbeat": "ok"}
    assert "shift" in found["alarms.yaml"].fact


@pytest.mark.parametrize(("text", "line"), [("langage: en\n", "line 1"), ("heartbeat: {url: 'ftp://x'}\n", "line 1")])
def test_a_mistake_in_alarms_yaml_is_told_with_its_line(tmp_path: Path, text: str, line: str) -> None:
    found = told_of_file(tmp_path / "alarms.yaml", text)
    assert found["alarms.yaml"].state == "problem"
    assert line in found["alarms.yaml"].fact
