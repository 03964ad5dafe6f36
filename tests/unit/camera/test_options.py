"""The configuration that the command line makes, with a file and without."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest

from almenara.errors import InputError
from camera_worker.cli.configuration import validate
from camera_worker.cli.options import Options, configure
from camera_worker.sources import SourceKind

URL = "rtsp://10.0.0.7/stream"
FILE = """\
api: {url: 'http://api:8000'}
status: {host: 0.0.0.0, port: 1}
cameras:
  - {name: a, source: 0, model: wall, alarm: {threshold: 0.9, priority: critical}}
  - {name: b, source: 1, fps: 5}
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "cameras.yaml"
    path.write_text(FILE)
    return path


def refusal(environment: dict[str, str] | None = None, **options: Any) -> str:
    with pytest.raises(InputError) as caught:
        configure(Options(**options), environment or {})
    return str(caught.value)


def test_a_source_is_enough_and_raises_nothing() -> None:
    worker = configure(Options(source="7"), {})
    (camera,) = worker.cameras
    assert (camera.name, camera.model, camera.fps) == ("camera", "sludge-outflow", None)
    assert camera.parsed_source().kind is SourceKind.WEBCAM
    assert not worker.alerts
    assert worker.status is None


def test_options_describe_the_camera_of_the_source() -> None:
    worker = configure(
        Options(
            source=URL, name="line", model="wall", fps=3, transport="udp", keyframes=True, threshold=0.03, alerts=True
        )
    )
    (camera,) = worker.cameras
    assert (camera.name, camera.model, camera.fps, camera.transport) == ("line", "wall", 3, "udp")
    assert camera.frames == "keyframes"
    assert camera.alarm.rule().threshold == 0.03
    assert worker.alerts


def test_a_video_file_can_be_played_in_real_time(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").touch()
    assert configure(Options(source=str(tmp_path / "a.mp4"), realtime=True)).cameras[0].realtime


def test_the_password_comes_from_the_environment() -> None:
    worker = configure(Options(source=URL, username="plant.op"), {"CAMERA_PASSWORD": "p@ss w"})
    assert worker.cameras[0].parsed_source().address == "rtsp://plant.op:p%40ss%20w@10.0.0.7/stream"
    assert "p@ss" not in repr(worker)


def test_a_camera_may_have_an_empty_password() -> None:
    worker = configure(Options(source=URL, username="guest"), {"CAMERA_PASSWORD": ""})
    assert worker.cameras[0].parsed_source().address == "rtsp://guest:@10.0.0.7/stream"


def test_the_file_is_taken_as_it_is(file: Path) -> None:
    worker = configure(Options(config=file))
    assert [camera.name for camera in worker.cameras] == ["a", "b"]
    assert worker.alerts


def test_options_go_before_every_camera_of_the_file(file: Path) -> None:
    options = Options(
        config=file,
        model="tile",
        fps=1,
        threshold=0.2,
        alerts=False,
        api_url="http://x:1",
        var_dir=Path("v"),
        status_port=9,
    )
    worker = configure(options)
    assert {(camera.model, camera.fps, camera.alarm.threshold) for camera in worker.cameras} == {("tile", 1, 0.2)}
    assert worker.cameras[0].alarm.priority == "critical"
    assert (worker.alerts, worker.api.url, worker.var_dir) == (False, "http://x:1", Path("v"))
    assert worker.status is not None
    assert (worker.status.host, worker.status.port) == ("0.0.0.0", 9)


def test_a_source_goes_before_the_cameras_of_the_file_and_keeps_the_rest(file: Path) -> None:
    worker = configure(Options(config=file, source=URL))
    assert [camera.source.get_secret_value() for camera in worker.cameras] == [URL]
    assert (worker.alerts, worker.api.url) == (True, "http://api:8000")


def test_a_status_port_without_a_file_listens_on_this_machine_alone() -> None:
    status = configure(Options(source="0", status_port=0)).status
    assert status is not None
    assert (status.host, status.port) == ("127.0.0.1", 0)


def test_the_file_is_read_anew_each_time(file: Path) -> None:
    options = Options(config=file, fps=4)
    before = configure(options)
    file.write_text(FILE.replace("name: b", "name: c"))
    after = configure(options)
    assert before.cameras[0] == after.cameras[0]
    assert [camera.name for camera in after.cameras] == ["a", "c"]
    assert after.cameras[1].fps == 4


def test_shards_divide_the_cameras_of_a_file(file: Path) -> None:
    cameras = "".join(f"  - {{name: c{n}, source: {n}}}\n" for n in range(30))
    file.write_text("cameras:\n" + cameras)
    shares = [{camera.name for camera in configure(Options(config=file, shard=f"{n}/3")).cameras} for n in (1, 2, 3)]
    assert sorted(name for share in shares for name in share) == sorted(f"c{n}" for n in range(30))
    assert all(shares)


def test_workers_that_share_a_file_have_names_of_their_own(file: Path) -> None:
    names = {configure(Options(config=file, shard=f"{n}/3")).name for n in (1, 2, 3)}
    host = configure(Options(config=file)).name
    assert names == {f"{host}-1", f"{host}-2", f"{host}-3"}


def test_a_shard_without_a_camera_says_so_and_waits(file: Path, caplog: pytest.LogCaptureFixture) -> None:
    file.write_text("cameras: [{name: a, source: 0}]\n")
    with caplog.at_level(logging.WARNING):
        sizes = [len(configure(Options(config=file, shard=f"{n}/2")).cameras) for n in (1, 2)]
    assert sorted(sizes) == [0, 1]
    assert "has none of the 1 cameras; it waits for a reload (SIGHUP)" in caplog.text


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({}, "--source URL or --config FILE"),
        ({"source": URL, "fps": 99}, "--fps cannot be used"),
        ({"source": URL, "name": "no spaces"}, "--name cannot be used"),
        ({"source": URL, "realtime": True}, "--realtime cannot be used: only a video file"),
        ({"source": "0", "transport": "udp"}, "--transport cannot be used: udp is for rtsp:// sources only"),
        ({"source": "0", "keyframes": True}, "--keyframes cannot be used"),
        ({"source": URL, "shard": "1/2"}, "Say it with --config FILE and without --source"),
        ({"source": URL, "username": "op"}, "the environment has no variable CAMERA_PASSWORD"),
        ({"source": URL, "api_url": "http://h:99999"}, "'http://h:99999' is no address of an API"),
        ({"source": URL, "api_url": "ftp://x"}, "'ftp://x' is no address of an API"),
        (
            {"source": "rtsp://op:hunter2/hunter2@cam/1"},
            "--source cannot be used: rtsp://***@cam/1 is no camera address",
        ),
    ],
)
def test_what_cannot_work_without_a_file_is_one_sentence(options: dict[str, Any], words: str) -> None:
    message = refusal(**options)
    assert words in message
    assert "hunter2" not in message
    assert ".." not in message


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"shard": "4/3"}, "--shard cannot be used: 4/3 is no shard"),
        ({"shard": "1/2", "source": URL}, "--shard shares out the cameras of a configuration file"),
        ({"realtime": True}, "--realtime describes the camera of --source"),
        ({"transport": "udp"}, "--transport describes the camera of --source"),
        ({"username": "op"}, "--username describes the camera of --source"),
        ({"name": "x"}, "--name describes the camera of --source"),
        ({"model": "No Such!"}, "--model cannot be used"),
    ],
)
def test_what_cannot_work_with_a_file_is_one_sentence(file: Path, options: dict[str, Any], words: str) -> None:
    assert words in refusal(config=file, **options)


def test_an_option_that_a_camera_of_the_file_cannot_have_is_refused(file: Path) -> None:
    file.write_text("cameras: [{name: a, source: 0, frozen_after: 1s}]\n")
    assert "--fps cannot be used: with frozen_after of a, pictures are 2s apart" in refusal(config=file, fps=0.5)


def test_a_user_needs_a_source_that_asks_for_one() -> None:
    assert "--username cannot be used" in refusal({"CAMERA_PASSWORD": "x"}, source="0", username="op")


def test_the_address_of_the_api_comes_from_the_command_line_then_the_file_then_the_environment(file: Path) -> None:
    environment = {"ALMENARA_API_URL": "http://elsewhere:8000"}
    assert configure(Options(config=file, api_url="http://there:1"), environment).api.url == "http://there:1"
    assert configure(Options(config=file), environment).api.url == "http://api:8000"
    assert configure(Options(source="0"), environment).api.url == "http://elsewhere:8000"
    assert configure(Options(source="0"), {}).api.url is None


def test_validation_looks_into_the_alarms_file_too(tmp_path: Path) -> None:
    cameras, alarms = tmp_path / "cameras.yaml", tmp_path / "alarms.yaml"
    cameras.write_text(f"alarms_file: {alarms}\ncameras: [{{name: a, source: '{URL}'}}]")
    alarms.write_text("language: fr")
    with pytest.raises(InputError, match=r"alarms\.yaml, line 1: language"):
        validate(cameras)
