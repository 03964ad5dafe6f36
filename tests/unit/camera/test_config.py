"""The configuration file: what it says, and how it says no."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import get_args

import pytest
from pydantic import BaseModel

from almenara.configuration.values import Part
from almenara.errors import InputError
from camera_worker.config import TEMPLATE, CameraConfig, WorkerConfig, load_config, parse_config, parse_duration
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
        (MINIMAL + "    fps: -1\n", 4, "fps: it must be more than 0 and at most 60."),
        (MINIMAL + "    fps: .nan\n", 4, "fps"),
        (MINIMAL + "    read_timeout: 3\n", 4, "3s"),
        (MINIMAL + "    read_timeout: 0s\n", 4, "more than 0s and at most 60s"),
        (MINIMAL + "    alarm:\n      threshold: 1.5\n", 5, "threshold: it must be more than 0 and at most 1."),
        (MINIMAL + "    alarm:\n      threshold: 0.5\n      deadband: 0.6\n", 4, "could never return"),
        (MINIMAL + "  - name: second\n", 4, "'source' is missing"),
        (MINIMAL + "  - name: outflow\n    source: 1\n", 4, "two cameras are named outflow"),
        (MINIMAL + "  - name: b\n    source: ftp://x/y\n", 5, "no camera address"),
        (MINIMAL + "  - name: b\n    source: absent.mp4\n", 5, "no video file absent.mp4"),
        (MINIMAL + "    name: again\n", 4, "given twice"),
        (MINIMAL + "  bad: [\n", 4, ""),
        (MINIMAL + "    password: ${NOT_SET}\n", 4, "no variable NOT_SET"),
        ("api:\n  url: nonsense\n" + MINIMAL, 2, "url: write an address such as http://127.0.0.1:8000."),
        (MINIMAL + "  - source: 1\n    name: two words\n", 5, "name: write letters, digits"),
        (MINIMAL + "  - source: 1\n    name: detection\n", 5, "the alarm of missing verdicts is called detection"),
        (MINIMAL + "    model: Wall\n", 4, "model: write small letters"),
        ("", 1, "'cameras' is missing"),
        ("cameras:\n", 1, "cameras: write a list"),
        ("api:\ncameras: [a]\n", 2, "cameras, entry 1: write settings"),
        ("- a\n", 1, "the file: write settings"),
        (MINIMAL + "    schedule: {time_zone: Europe/Madird, active: [daily 06:00-07:00]}\n", 4, "mean Europe/Madrid"),
        (MINIMAL + "    schedule:\n      active:\n        - mon 6-7\n", 6, "active, entry 1: 'mon 6-7' is no window"),
        (MINIMAL + "    schedule:\n      active: []\n", 5, "active: too few entries"),
        (MINIMAL + "    region: {x: 0.6, y: 0, width: 0.5, height: 1}\n", 4, "beyond the picture"),
        (MINIMAL + "    mask: [[[0, 0], [1, 0]]]\n", 4, "mask, entry 1: too few entries; at least 3 needed"),
        (MINIMAL + "    mask: [[[0, 0], [1, 0], [1, 1.5]]]\n", 4, "mask, entry 1, entry 3, entry 2: "),
        (MINIMAL + "    realtime: true\n", 4, "only a video file"),
        ("cameras:\n  - name: a\n    source: 0\n    transport: udp\n", 4, "for rtsp:// sources only"),
        ("cameras:\n  - name: a\n    source: 0\n    frames: keyframes\n", 4, "no key frames"),
        ("cameras:\n  - name: a\n    source: 0\n    username: op\n", 4, "asks for no user"),
        (MINIMAL + "    password: secret\n", 4, "'username' is missing beside it"),
        (MINIMAL + "    frozen_after: 200ms\n", 4, "pictures are 0.5s apart"),
        (MINIMAL + "    read_timeout: 2m\n", 4, "at most 60s"),
        (MINIMAL + "    password: 123456\n", 4, "password: write text; put a number or a date in quotes."),
        (MINIMAL + "    model: 2024-13-45\n", 4, "looks like a date or a number and is none: put text in quotes"),
        (MINIMAL + "    1: x\n", 4, "'1' is no setting here."),
        (MINIMAL + "    alarm: {prioriti: high}\n", 4, "did you mean 'priority'?"),
        ("camera: 1\n" + MINIMAL, 1, "did you mean 'cameras'?"),
        (MINIMAL + "    fps: true\n", 4, "fps: write a number."),
        (MINIMAL + "    alarm: {threshold: true}\n", 4, "threshold: write a number."),
        ("status: {port: true}\n" + MINIMAL, 1, "port: write a number."),
        ("alerts: maybe\n" + MINIMAL, 1, "alerts: write true or false."),
        (MINIMAL + "    region: {x: 0, y: 0, width: 0.001, height: 1}\n", 4, "width: it must be at least 0.01"),
        (MINIMAL + "\tfps: 2\n", 4, "a tab is no indentation: indent with spaces"),
        (MINIMAL + "   fps: 2\n", 4, "this line is indented unlike its neighbours"),
        (MINIMAL + "      fps: 2\n", 4, "this line is indented unlike its neighbours"),
        (MINIMAL + "    fps 2\n", 4, "a name lacks its ':'"),
        (MINIMAL + "    password: ${CAM:-x}\n", 4, "'${' begins a variable, which is written ${NAME}"),
        ("api: {url: 'http://h:99999'}\n" + MINIMAL, 1, "url: write an address"),
        ("api: {url: 'http://[::1'}\n" + MINIMAL, 1, "url: write an address"),
        ("api: {url: 'http://:8000'}\n" + MINIMAL, 1, "url: write an address"),
        (MINIMAL + "    password_file: absent\n", 4, "absent cannot be read: No such file"),
        ("api:\n  key_file: 3\n" + MINIMAL, 2, "write the path of a file"),
    ],
)
def test_a_mistake_is_named_with_its_line(text: str, line: int, words: str) -> None:
    message = refusal(text)
    assert f"cameras.yaml, line {line}:" in message
    assert words in message


def test_a_wrong_camera_does_not_also_count_as_none() -> None:
    message = refusal("cameras:\n  - name: a\n")
    assert message == "cameras.yaml, line 2: 'source' is missing."


def test_every_mistake_is_named_at_once() -> None:
    message = refusal(MINIMAL + "    fsp: 2\n    fps: 0\n")
    assert "line 4" in message
    assert "line 5" in message


def test_a_variable_that_is_not_set_hides_no_other_mistake_and_causes_none() -> None:
    message = refusal(MINIMAL + "    fps: 0\n  - name: b\n    source: ${NOPE}\n    transport: udp\n")
    assert message.splitlines() == [
        "cameras.yaml, line 4: fps: it must be more than 0 and at most 60.",
        "cameras.yaml, line 6: the environment has no variable NOPE.",
    ]


def test_a_wrong_value_from_the_environment_is_not_shown() -> None:
    text = "cameras:\n  - name: a\n    source: ${URL}\n"
    message = refusal(text, URL="ftp://op:hunter2@cam")
    assert "hunter2" not in message
    assert "line 3" in message


def test_a_value_from_the_environment_is_called_by_its_variable() -> None:
    message = refusal(MINIMAL + "    read_timeout: ${PASSWORD}\n", PASSWORD="hunter'2")  # noqa: S106
    assert "hunter" not in message
    assert "${PASSWORD}" in message


def test_a_secret_from_a_file_loses_the_line_end_and_nothing_else(tmp_path: Path) -> None:
    file = tmp_path / "password"
    file.write_bytes(b" p@ss \r\n")
    config = parse_config(MINIMAL + f"    username: op\n    password_file: {file}\n", name="x")
    assert config.cameras[0].parsed_source().address == "rtsp://op:%20p%40ss%20@127.0.0.1:8554/cam"
    assert "p@ss" not in repr(config)


def test_a_key_that_no_header_can_carry_is_refused_and_not_shown(tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_bytes(b"hunter2 \n")
    words = "write printable ASCII characters, without blanks around them."
    told = [refusal(f"api:\n  {given}\n" + MINIMAL) for given in (f"key_file: {file}", r'key: "hunter\n2"')]
    assert told == [f"cameras.yaml, line 2: {name}: {words}" for name in ("key_file", "key")]


def test_a_key_from_a_file_is_its_line(tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_bytes(b"let me in\r\n")
    key = parse_config(f"api: {{key_file: {file}}}\n" + MINIMAL, name="x").api.key
    assert key is not None
    assert key.get_secret_value() == "let me in"


def test_a_secret_that_changed_in_its_file_makes_another_camera(tmp_path: Path) -> None:
    file = tmp_path / "password"
    text = MINIMAL + f"    username: op\n    password_file: {file}\n"
    file.write_text("one")
    first = parse_config(text, name="x")
    file.write_text("two")
    assert parse_config(text, name="x").cameras != first.cameras


def test_a_secret_given_twice_says_which_to_drop(tmp_path: Path) -> None:
    file = tmp_path / "password"
    file.write_text("from file")
    message = refusal(MINIMAL + f"    username: op\n    password_file: {file}\n    password: straight\n")
    assert message == "cameras.yaml, line 6: password: drop 'password', since 'password_file' is given too."


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "only line"),
        (b"\n", "only line"),
        (b"hunter2\nhunter3\n", "only line"),
        (b"hunter2\xff", "not UTF-8"),
        (b"hunter2" * 1000, "more than 4096 bytes"),
    ],
)
def test_a_file_that_holds_no_secret_is_refused_without_showing_it(tmp_path: Path, content: bytes, words: str) -> None:
    file = tmp_path / "key"
    file.write_bytes(content)
    message = refusal(f"api:\n  key_file: {file}\n" + MINIMAL)
    assert "line 2" in message
    assert words in message
    assert "hunter" not in message


def test_how_a_source_is_read_follows_the_settings() -> None:
    text = MINIMAL + "    transport: udp\n    frames: keyframes\n    fps: 5\n    read_timeout: 2s\n"
    options = parse_config(text, name="x").cameras[0].read_options()
    assert (options.connect, options.read, options.unauthorised) == (3.0, 2.0, 60.0)
    assert (options.transport, options.keyframes_only, options.interval) == ("udp", True, 0.2)


def test_slow_snapshots_are_fetched_often_enough_to_notice_that_they_stopped() -> None:
    assert parse_config(MINIMAL + "    fps: 0.01\n", name="x").cameras[0].read_options().interval == 1.5


def test_a_schedule_is_parsed() -> None:
    text = MINIMAL + "    schedule: {time_zone: Europe/Madrid, active: [daily 06:00-07:00]}\n"
    schedule = parse_config(text, name="x").cameras[0].parsed_schedule()
    assert schedule is not None
    assert schedule.is_active(datetime(2026, 7, 1, 4, 30, tzinfo=UTC))
    assert parse_config(MINIMAL, name="x").cameras[0].parsed_schedule() is None


def test_a_video_file_has_no_hours(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").touch()
    text = f"cameras:\n  - name: a\n    source: {tmp_path / 'a.mp4'}\n    schedule: {{active: [daily 06:00-07:00]}}\n"
    assert "line 4: schedule: a video file has no hours" in refusal(text)


def test_a_file_that_unfolds_without_end_is_refused() -> None:
    levels = "".join(f"l{n}: &l{n} [{', '.join([f'*l{n - 1}'] * 9)}]\n" for n in range(1, 9))
    assert "too much in one file" in refusal("l0: &l0 [x]\n" + levels)
    assert "too much in one file" in refusal("a: &a [*a]\n")
    assert "nested too deeply" in refusal("[" * 10_000)


def test_a_file_that_is_too_large_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "x.yaml"
    file.write_bytes(b"#" * (2**20 + 1))
    with pytest.raises(InputError, match="more than 1048576 bytes"):
        load_config(file)


def parts(model: type[BaseModel]) -> Iterator[type[BaseModel]]:
    """Every model of the configuration."""
    yield model
    for field in model.model_fields.values():
        for inner in (field.annotation, *get_args(field.annotation)):
            if isinstance(inner, type) and issubclass(inner, Part):
                yield from parts(inner)


@pytest.mark.parametrize("part", [*parts(WorkerConfig), *parts(CameraConfig)])
def test_every_setting_is_explained_and_shown_in_the_template(part: type[BaseModel]) -> None:
    for name, field in part.model_fields.items():
        assert field.title, name
        assert field.description, name
        assert re.search(rf"\b{name}: ", TEMPLATE) or re.search(rf"\b{name}:$", TEMPLATE, re.MULTILINE), name


def test_what_the_template_only_shows_is_valid_too(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("x")
    plain = {"key: $", "password: $", "realtime"}  # the other of two secrets, and a setting of files
    lines = [
        re.sub(r"/run/secrets/\S+", str(secret), re.sub(r"^( *)# ", r"\1", line))
        for line in TEMPLATE.splitlines()
        if not line.startswith("# ") or line.startswith(("# status", "#   "))
    ]
    text = "\n".join(line for line in lines if not any(part in line for part in plain))
    config = parse_config(text, name="x", environment={})
    assert config.status is not None
    assert config.cameras[0].schedule is not None


def test_an_absent_file_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="create-config"):
        load_config(tmp_path / "none.yaml")


def test_a_folder_is_no_file_that_could_be_made(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="Name a configuration file"):
        load_config(tmp_path)


def test_a_binary_file_is_refused_plainly(tmp_path: Path) -> None:
    file = tmp_path / "x.yaml"
    file.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match="UTF-8"):
        load_config(file)


@pytest.mark.parametrize(
    ("options", "seconds"),
    [
        ("", 10),
        ("    fps: 0.1\n", 30),
        ("    read_timeout: 20s\n", 40),
        ("    frames: keyframes\n", 90),
    ],
)
def test_a_camera_of_which_nothing_is_heard_is_unknown_after_its_pictures_are_overdue(
    options: str, seconds: float
) -> None:
    assert parse_config(MINIMAL + options, name="x").cameras[0].rule().stale_after_seconds == seconds


def test_a_video_file_is_never_overdue_unless_it_is_played_in_real_time(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").touch()
    camera = CameraConfig.model_validate({"name": "a", "source": str(tmp_path / "a.mp4")})
    assert camera.rule().stale_after_seconds is None
    assert camera.model_copy(update={"realtime": True}).rule().stale_after_seconds == 10


def test_k_of_n_latch_and_repeat_interval_reach_the_rule() -> None:
    text = MINIMAL + "    alarm: {k: 3, n: 5, latch: true, repeat_interval: 0s}\n"
    rule = parse_config(text, name="x").cameras[0].rule()
    assert (rule.k, rule.n, rule.latch, rule.repeat_interval_seconds) == (3, 5, True, 0)


def test_more_of_n_than_there_are_is_refused() -> None:
    with pytest.raises(InputError, match="line 4: alarm: k 3 is more than n 1: the alarm could never be raised"):
        parse_config(MINIMAL + "    alarm: {k: 3}\n", name="x")
