"""The configuration file: what it says, and how it says no."""

from __future__ import annotations

from pathlib import Path

import pytest

from almenara.errors import InputError
from camera_worker.config import TEMPLATE, load_config, parse_config, parse_duration
from camera_worker.sources import SourceKind

MINIMAL = """\
cameras:
  - name: outflow
    source: rtsp://127.0.0.1:8554/cam
"""


def refusal(text: str, **environment: str) -> str:
    with pytest.raises(InputError) as caught:
        parse_config(text, name="cameras.yaml", environment=environment)
    return str(caught.value)


def test_the_least_file_gets_the_defaults() -> None:
    config = parse_config(MINIMAL, name="x", environment={})
    (camera,) = config.cameras
    assert (camera.name, camera.fps, camera.read_timeout) == ("outflow", None, 3.0)
    assert camera.alarm.rule().on_delay_seconds == 2.0
    assert config.alerts


def test_the_template_is_valid() -> None:
    config = parse_config(TEMPLATE, name="template", environment={})
    assert config.cameras[0].model == "sludge-outflow"


def test_durations_and_alarm_reach_the_rule() -> None:
    config = parse_config(
        MINIMAL + "    alarm: {threshold: 0.75, on_delay: 500ms, cooldown: 2m, priority: critical}\n", name="x"
    )
    rule = config.cameras[0].alarm.rule()
    assert (rule.threshold, rule.on_delay_seconds, rule.cooldown_seconds) == (0.75, 0.5, 120.0)
    assert rule.priority == "critical"


@pytest.mark.parametrize(
    ("text", "seconds"), [("500ms", 0.5), ("3s", 3.0), ("2m", 120.0), ("1.5h", 5400.0), ("1d", 86400.0), (" 3 s ", 3.0)]
)
def test_durations(text: str, seconds: float) -> None:
    assert parse_duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize("value", ["3", 3, 3.5, "3 weeks", "-3s", "", None, "s", True])
def test_a_duration_without_its_unit_is_refused(value: object) -> None:
    with pytest.raises(ValueError, match="unit"):
        parse_duration(value)


@pytest.mark.parametrize("value", ["off", "'off'"])
def test_the_frozen_check_can_be_switched_off(value: str) -> None:
    config = parse_config(MINIMAL + f"    frozen_after: {value}\n", name="x")
    assert config.cameras[0].frozen_after is None


def test_a_webcam_is_a_number() -> None:
    config = parse_config("cameras: [{name: desk, source: 0}]", name="x")
    assert config.cameras[0].parsed_source().kind is SourceKind.WEBCAM


def test_secrets_come_from_the_environment_and_odd_characters_survive() -> None:
    text = MINIMAL + "    username: plant.op\n    password: ${CAMERA_PASSWORD}\n"
    config = parse_config(text, name="x", environment={"CAMERA_PASSWORD": "p@ss:w/rd%"})
    source = config.cameras[0].parsed_source()
    assert source.address == "rtsp://plant.op:p%40ss%3Aw%2Frd%25@127.0.0.1:8554/cam"
    assert source.label == "rtsp://***@127.0.0.1:8554/cam"
    assert "p@ss" not in repr(config)
    assert "p%40ss" not in repr(source)


def test_two_dollars_are_one() -> None:
    config = parse_config(MINIMAL + "    password: a$$b\n    username: op\n", name="x", environment={})
    assert config.cameras[0].password is not None
    assert config.cameras[0].password.get_secret_value() == "a$b"


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        (MINIMAL + "    fsp: 2\n", 4, "'fsp' is no setting here"),
        (MINIMAL + "    fps: -1\n", 4, "greater than 0"),
        (MINIMAL + "    fps: .nan\n", 4, "fps"),
        (MINIMAL + "    read_timeout: 3\n", 4, "3s"),
        (MINIMAL + "    read_timeout: 0s\n", 4, "greater than 0"),
        (MINIMAL + "    alarm:\n      threshold: 1.5\n", 5, "less than or equal to 1"),
        (MINIMAL + "    alarm:\n      threshold: 0.5\n      deadband: 0.6\n", 4, "could never return"),
        (MINIMAL + "  - name: second\n", 4, "'source' is missing"),
        (MINIMAL + "  - name: outflow\n    source: 1\n", 1, "two cameras are named outflow"),
        (MINIMAL + "  - name: b\n    source: ftp://x/y\n", 5, "no camera address"),
        (MINIMAL + "  - name: b\n    source: absent.mp4\n", 5, "no video file absent.mp4"),
        (MINIMAL + "    name: again\n", 4, "given twice"),
        (MINIMAL + "  bad: [\n", 4, ""),
        (MINIMAL + "    password: ${NOT_SET}\n", 4, "no variable NOT_SET"),
        ("api:\n  url: nonsense\n" + MINIMAL, 2, "url"),
        ("", 1, "'cameras' is missing"),
        ("cameras: []\n", 1, "cameras"),
        ("- a\n", 1, ""),
    ],
)
def test_a_mistake_is_named_with_its_line(text: str, line: int, words: str) -> None:
    message = refusal(text)
    assert f"cameras.yaml, line {line}:" in message
    assert words in message


def test_every_mistake_is_named_at_once() -> None:
    message = refusal(MINIMAL + "    fsp: 2\n    fps: 0\n")
    assert "line 4" in message
    assert "line 5" in message


def test_a_wrong_value_from_the_environment_is_not_shown() -> None:
    text = "cameras:\n  - name: a\n    source: ${URL}\n"
    message = refusal(text, URL="ftp://op:hunter2@cam")
    assert "hunter2" not in message
    assert "line 3" in message


def test_an_absent_file_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="create-config"):
        load_config(tmp_path / "none.yaml")


def test_a_binary_file_is_refused_plainly(tmp_path: Path) -> None:
    file = tmp_path / "x.yaml"
    file.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match="UTF-8"):
        load_config(file)
