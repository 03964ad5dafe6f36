"""The `camera-worker` command as a process of its own."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import av
import httpx
import pytest

from almenara.alarms import AlarmStore
from almenara.processes import free_port
from tests.support.camera import Scene, scoring_api, simulated_camera, wait_for, write_video
from tests.support.commands import ended, process, run
from tests.support.data import require_data

pytestmark = pytest.mark.slow


def everything_written(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())


def test_a_whole_worker_raises_one_alarm_and_shows_no_password(tmp_path: Path) -> None:
    scene, var = Scene(), tmp_path / "var"
    with simulated_camera(scene, user="plant.op", password="hunter2") as camera, scoring_api() as api:  # noqa: S106
        url = camera.url.replace("//", "//plant.op:hunter2@")
        options = ["--source", url, "--name", "outflow", "--model", "wall", "--api-url", api.url, "--fps", "5"]
        options += ["--threshold", "0.75", "--alerts", "--var-dir", str(var), "--json"]
        with process(options, tmp_path) as worker:
            wait_for((tmp_path / "out").read_text, 20, "a first verdict")
            with AlarmStore(f"sqlite:///{var / 'alarms' / 'worker.db'}") as store:
                scene.anomalous = True
                wait_for(store.alarms, 8, "an alarm")
                time.sleep(1)
                camera.switch("unauthorised")
                wait_for(lambda: "unauthorised" in (tmp_path / "err").read_text(), 3)
                assert ended(worker) < 3
                assert worker.returncode == 0
                (alarm,) = store.alarms()
        assert alarm.source == "outflow"
        names = ["frame.jpg", "overlay.png", "strip.jpg", "verdict.json"]
        assert [file.name for file in alarm.evidence] == names
    lines = [json.loads(line) for line in (tmp_path / "out").read_text().splitlines()]
    assert {line["label"] for line in lines} == {"normal", "anomaly"}
    assert {line["camera"] for line in lines} == {"outflow"}
    assert b"hunter2" not in everything_written(tmp_path)


def test_interrupt_ends_a_worker_whose_camera_stalls(tmp_path: Path) -> None:
    with simulated_camera() as camera, scoring_api() as api:
        camera.switch("stall")
        with process(["--source", camera.url, "--model", "wall", "--api-url", api.url], tmp_path) as worker:
            wait_for(lambda: "connecting" in (tmp_path / "err").read_text(), 20)
            assert ended(worker, signal.SIGINT) < 3
            assert worker.returncode == 0


def test_a_worker_ends_in_time_though_the_api_does_not_answer(tmp_path: Path) -> None:
    with (
        simulated_camera() as camera,
        scoring_api(mode="hang") as api,
        process(["--source", camera.url, "--model", "wall", "--api-url", api.url], tmp_path) as worker,
    ):
        wait_for(lambda: api.requests, 20)
        assert ended(worker) < 3
        assert worker.returncode == 0


HANGING = """
import socket, sys, time
import camera_worker.playback
from camera_worker.cli import main

def hang(*_, **__):
    sys.stderr.write("hangs")
    sys.stderr.flush()
    time.sleep(60)

if sys.argv.pop(1) == "name":
    socket.getaddrinfo = hang
else:
    camera_worker.playback.read_file = hang
main()
"""


@pytest.mark.parametrize("what", ["name", "file"])
def test_a_worker_ends_in_time_though_a_name_server_or_a_disk_does_not_answer(tmp_path: Path, what: str) -> None:
    script, video = tmp_path / "hanging.py", write_video(tmp_path / "a.mp4", frames=10)
    script.write_text(HANGING)
    command = [sys.executable, str(script), what, "--source", str(video), "--api-url", "http://api.example:8000"]
    with (
        (tmp_path / "err").open("wb") as errors,
        subprocess.Popen(command, cwd=tmp_path, stderr=errors, text=True) as worker,
    ):
        try:
            wait_for(lambda: "hangs" in (tmp_path / "err").read_text(), 20)
            assert ended(worker) < 3
            assert worker.returncode == 0
        finally:
            worker.kill()


def test_a_reader_that_pauses_holds_up_a_film_and_nothing_else(tmp_path: Path) -> None:
    video, port = write_video(tmp_path / "a.mp4", frames=1500), free_port()
    with scoring_api() as api:
        command = [sys.executable, "-m", "camera_worker", "--source", str(video), "--model", "wall", "--json"]
        command += ["--api-url", api.url, "--status-port", str(port)]
        with (
            (tmp_path / "err").open("wb") as errors,
            subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True) as worker,
        ):
            try:
                held_up = [0.0, 0]

                def is_held_up() -> bool:
                    if len(api.requests) != held_up[1]:
                        held_up[:] = time.monotonic(), len(api.requests)
                    return held_up[1] > 1000 and time.monotonic() - held_up[0] > 1

                wait_for(is_held_up, 60, "the end of the pipe")
                assert held_up[1] < 1500
                assert httpx.get(f"http://127.0.0.1:{port}/healthz", timeout=2).status_code == 200
                assert ended(worker) < 4
                assert worker.returncode == 0
            finally:
                worker.kill()


def test_without_alerts_nothing_is_stored(tmp_path: Path) -> None:
    video = write_video(tmp_path / "a.mp4", frames=10, fps=10)
    with scoring_api() as api:
        done = run(
            *("--source", str(video), "--model", "wall", "--api-url", api.url, "--fps", "20", "--json"),
            *("--var-dir", str(tmp_path / "var")),
        )
    assert done.returncode == 0, done.stderr
    assert not (tmp_path / "var").exists()
    verdicts = [json.loads(line) for line in done.stdout.splitlines()]
    assert 2 <= len(verdicts) <= 10
    assert all(0 <= verdict["anomaly"] <= 1 for verdict in verdicts)


def test_a_configuration_file_runs_every_camera_and_the_key_comes_from_the_environment(tmp_path: Path) -> None:
    video = write_video(tmp_path / "a.mp4", frames=10, fps=10)
    cameras = "".join(f"  - {{name: cam{n}, source: {video}, model: wall, fps: 10}}\n" for n in range(2))
    with scoring_api(key="let me in") as api:
        file = tmp_path / "cameras.yaml"
        file.write_text(f"api: {{url: '{api.url}'}}\nalerts: false\ncameras:\n{cameras}")
        done = run("--config", str(file), "--json", ALMENARA_API_KEY="let me in")
    assert done.returncode == 0, done.stderr
    assert {json.loads(line)["camera"] for line in done.stdout.splitlines()} == {"cam0", "cam1"}


def test_a_file_that_is_no_video_is_one_sentence(tmp_path: Path) -> None:
    file = tmp_path / "notes.mp4"
    file.write_text("not a video at all")
    done = run("--source", str(file), "--api-url", "http://127.0.0.1:9")
    assert done.returncode == 2
    assert "holds no picture that can be read" in done.stderr
    assert "Traceback" not in done.stderr


def test_one_camera_that_fails_leaves_the_others_running_and_is_told(tmp_path: Path) -> None:
    good = write_video(tmp_path / "a.mp4", frames=30, fps=10)
    bad = tmp_path / "notes.mp4"
    bad.write_text("not a video at all")
    with scoring_api() as api:
        file = tmp_path / "cameras.yaml"
        file.write_text(
            f"api: {{url: '{api.url}'}}\nalerts: false\ncameras:\n"
            f"  - {{name: bad, source: {bad}}}\n  - {{name: good, source: {good}, model: wall, fps: 10}}\n"
        )
        done = run("--config", str(file), "--json")
    assert len(done.stdout.splitlines()) > 20
    assert done.returncode == 2
    assert "bad has failed for good" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_folder_comes_from_the_environment_when_nothing_else_names_one(tmp_path: Path) -> None:
    video = write_video(tmp_path / "a.mp4", frames=10, fps=10)
    with scoring_api() as api:
        options = ["--source", str(video), "--model", "wall", "--api-url", api.url, "--alerts"]
        done = run(*options, cwd=tmp_path, ALMENARA_VAR_DIR=str(tmp_path / "there"))
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "there" / "alarms" / "worker.db").is_file()
    assert not (tmp_path / "var").exists()


def test_a_wrong_setting_is_one_sentence_that_names_its_variable(tmp_path: Path) -> None:
    done = run("--source", "0", cwd=tmp_path, ALMENARA_API_PORT="abc")
    assert done.returncode == 2
    assert "ALMENARA_API_PORT" in done.stderr
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "--source URL or --config FILE"),
        (["--source", "ftp://op:hunter2@cam/1"], "no camera address"),
        (["--source", "rtsp://admin:hunter2/hunter2@10.0.0.7/stream"], "no camera address"),
        (["--source", "absent.mp4"], "There is no video file absent.mp4"),
        (["--source", "0", "--model", "No Such!"], "--model"),
        (["--config", "absent.yaml"], "absent.yaml cannot be read"),
        (["validate", "absent.yaml"], "create-config"),
        (["simulate", "--scene", "beach"], "'beach' is no scene"),
        (["simulate", "--width", "641"], "even width"),
        (["--source", "0", "--threshold", "7"], "threshold"),
    ],
)
def test_what_cannot_work_is_one_sentence_and_exit_code_2(arguments: list[str], words: str, tmp_path: Path) -> None:
    done = run(*arguments, cwd=tmp_path)
    assert done.returncode == 2
    assert words in done.stderr
    assert "Traceback" not in done.stderr
    assert "hunter2" not in done.stderr


def test_the_created_configuration_is_valid_and_never_overwrites(tmp_path: Path) -> None:
    assert run("--create-config", cwd=tmp_path).returncode == 0
    valid = run("validate", "cameras.yaml", cwd=tmp_path)
    assert valid.returncode == 0
    assert "outflow-camera: rtsp://127.0.0.1:8554/cam" in valid.stdout
    again = run("create-config", cwd=tmp_path)
    assert again.returncode == 2
    assert "there already" in again.stderr


def test_the_simulated_camera_is_ready_obeys_and_ends(tmp_path: Path) -> None:
    options = ["simulate", "--port", "0", "--control-port", "0", "--width", "320", "--height", "240"]
    with process(options, tmp_path) as camera:
        wait_for(lambda: (tmp_path / "out").read_text().startswith("ready rtsp://127.0.0.1:"), 20)
        url = (tmp_path / "out").read_text().split()[1]
        assert url.endswith("/cam")
        with av.open(url, options={"rtsp_transport": "tcp"}, timeout=(3, 3)) as container:
            frame = next(container.decode(video=0))
            assert (frame.width, frame.height) == (320, 240)
            port = int((tmp_path / "err").read_text().split("127.0.0.1:")[1].split()[0])
            with socket.create_connection(("127.0.0.1", port), 2) as control:
                control.sendall(b"refuse\n")
                assert control.recv(200).startswith(b"ok fault=refuse clients=")
        with pytest.raises(av.FFmpegError):
            av.open(url, options={"rtsp_transport": "tcp"}, timeout=(3, 3))
        taken = run("simulate", "--port", url.split(":")[2].split("/")[0])
        assert taken.returncode == 2
        assert "cannot be used" in taken.stderr
        assert ended(camera) < 3
        assert camera.returncode == 0


def test_help_documents_every_fault() -> None:
    text = run("simulate", "--help", COLUMNS="200").stdout
    for fault in ("stall", "reset", "refuse", "slow", "unauthorised", "freeze", "corrupt", "drop", "resize"):
        assert fault in text


def test_real_pictures_of_a_folder_are_streamed(tmp_path: Path) -> None:
    folder = require_data("vision", "sludge_tank", "daylight")
    with process(["simulate", "--port", "0", "--scene", f"folder:{folder}"], tmp_path):
        wait_for((tmp_path / "out").read_text, 20, "the camera")
        url = (tmp_path / "out").read_text().split()[1]
        with av.open(url, options={"rtsp_transport": "tcp"}, timeout=(3, 3)) as container:
            frames = [frame for _, frame in zip(range(12), container.decode(video=0), strict=False)]
    shown = {frame.to_ndarray(format="gray")[::40, ::40].tobytes() for frame in frames}
    assert frames[0].width == 640
    assert len(shown) > 1


def test_an_api_address_that_is_none_is_a_sentence(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "camera_worker", "--source", "rtsp://127.0.0.1:9/cam", "--api-url", "foo"]
    ended = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, timeout=60, check=False)
    assert ended.returncode == 2
    assert "'foo' is no address of an API. Give one such as http://127.0.0.1:8000." in ended.stderr
