"""What the command line promises: reload, shards, status, verdicts for pipes, passwords out of the process list."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path

import httpx
import pytest

from camera_worker.sharding import Shard
from tests.support.camera import scoring_api, simulated_camera, wait_for, write_video
from tests.support.commands import command, ended, process, run
from tests.support.data import ROOT

pytestmark = pytest.mark.slow


def log_of(folder: Path) -> str:
    return (folder / "err").read_text()


def status_of(folder: Path) -> str:
    """The address that a worker logs; waits for it."""
    wait_for(lambda: re.search(r"http://127\.0\.0\.1:\d+/cameras", log_of(folder)), 20, "the status address")
    found = re.search(r"(http://127\.0\.0\.1:\d+)/cameras", log_of(folder))
    assert found
    return found[1]


def get(url: str) -> tuple[int, str]:
    answer = httpx.get(url, timeout=5)
    return answer.status_code, answer.text


def test_a_video_file_is_scored_picture_by_picture_with_its_own_times(tmp_path: Path) -> None:
    video = write_video(tmp_path / "a.mp4", frames=20, fps=10)
    with scoring_api() as api:
        done = run("--source", str(video), "--model", "wall", "--api-url", api.url, "--json")
    assert done.returncode == 0, done.stderr
    verdicts = [json.loads(line) for line in done.stdout.splitlines()]
    positions = [verdict["position_seconds"] for verdict in verdicts]
    assert len(positions) == 20
    assert all(after - before == pytest.approx(0.1, abs=0.002) for before, after in pairwise(positions))
    assert all(0 <= verdict["posted_age_seconds"] <= verdict["age_seconds"] for verdict in verdicts)


def test_a_reader_that_has_seen_enough_ends_the_worker_quietly(tmp_path: Path) -> None:
    video = write_video(tmp_path / "a.mp4", frames=200, fps=10)
    with scoring_api() as api:
        arguments = command("--source", str(video), "--model", "wall", "--api-url", api.url, "--json")
        worker = subprocess.Popen(arguments, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        assert worker.stdout is not None
        assert worker.stderr is not None
        assert json.loads(worker.stdout.readline())["camera"] == "camera"
        worker.stdout.close()
        assert worker.wait(20) == 0
        log = worker.stderr.read().decode()
        worker.stderr.close()
    assert "BrokenPipe" not in log
    assert "Traceback" not in log
    assert len(api.requests) < 200


def test_the_password_of_a_user_comes_from_the_environment_and_stays_there(tmp_path: Path) -> None:
    with simulated_camera(user="plant.op", password="p@ss:w rd%") as camera, scoring_api() as api:  # noqa: S106
        options = ["--source", camera.url, "--username", "plant.op", "--model", "wall", "--api-url", api.url, "--json"]
        with process(options, tmp_path, CAMERA_PASSWORD="p@ss:w rd%") as worker:  # noqa: S106
            wait_for((tmp_path / "out").read_text, 20, "a verdict")
            shown = Path(f"/proc/{worker.pid}/cmdline").read_bytes() if sys.platform == "linux" else b""
            assert b"p@ss" not in shown
            assert ended(worker) < 3
    assert "p@ss" not in log_of(tmp_path)
    assert "p%40ss" not in log_of(tmp_path)


def test_a_webcam_that_is_not_there_is_waited_for_and_told_in_a_line(tmp_path: Path) -> None:
    with process(["--source", "97", "--api-url", "http://127.0.0.1:9"], tmp_path) as worker:
        wait_for(lambda: "there is no webcam 97" in log_of(tmp_path), 20)
        time.sleep(2.5)  # several attempts
        assert worker.poll() is None
        assert ended(worker) < 3
        assert worker.returncode == 0
    assert log_of(tmp_path).count("(97) is offline: there is no webcam 97") == 1
    assert "VIDEOIO" not in log_of(tmp_path)


def test_a_worker_reads_its_file_again_and_keeps_what_the_command_line_says(tmp_path: Path) -> None:
    file = tmp_path / "cameras.yaml"
    with simulated_camera() as camera, scoring_api() as api:
        line = f"  - {{name: NAME, source: '{camera.url}', model: other}}\n"
        text = f"api: {{url: '{api.url}'}}\nalerts: false\ncameras:\n"
        file.write_text(text + line.replace("NAME", "first"))
        options = ["--config", str(file), "--model", "wall", "--status-port", "0", "--json"]
        with process(options, tmp_path) as worker:
            wait_for(lambda: '"first"' in (tmp_path / "out").read_text(), 20, "a verdict")

            file.write_text(text + line.replace("NAME", "first").replace("model", "modle"))
            worker.send_signal(signal.SIGHUP)
            wait_for(lambda: "line 4: 'modle' is no setting here" in log_of(tmp_path), 5)

            file.write_text(text + line.replace("NAME", "first") + line.replace("NAME", "second"))
            worker.send_signal(signal.SIGHUP)
            wait_for(lambda: '"second"' in (tmp_path / "out").read_text(), 10, "a verdict of the new camera")
            assert {each["name"] for each in json.loads(get(status_of(tmp_path) + "/cameras")[1])} == {
                "first",
                "second",
            }
            assert ended(worker) < 3
            assert worker.returncode == 0


def test_a_reload_while_the_worker_starts_does_not_end_it(tmp_path: Path) -> None:
    file = tmp_path / "cameras.yaml"
    with simulated_camera() as camera:
        file.write_text(f"var_dir: {tmp_path}\ncameras: [{{name: a, source: '{camera.url}'}}]\n")
        with process(["--config", str(file), "--shard", "1/1"], tmp_path) as worker:
            wait_for(lambda: "shard 1/1 watches 1 of 1 cameras: a" in log_of(tmp_path), 20)
            worker.send_signal(signal.SIGHUP)
            wait_for(lambda: f"a ({camera.url}) is live" in log_of(tmp_path), 10)
            assert ended(worker) < 3
            assert worker.returncode == 0


def test_an_empty_shard_stays_and_takes_a_camera_when_the_file_has_one_for_it(tmp_path: Path) -> None:
    mine, other = (next(f"c{n}" for n in range(99) if Shard(index, 2).owns(f"c{n}")) for index in (1, 2))
    file = tmp_path / "cameras.yaml"
    with simulated_camera() as camera, scoring_api() as api:
        text = f"api: {{url: '{api.url}'}}\nalerts: false\ncameras:\n"
        text += f"  - {{name: {other}, source: '{camera.url}', model: wall}}\n"
        file.write_text(text)
        with process(["--config", str(file), "--shard", "1/2", "--status-port", "0", "--json"], tmp_path) as worker:
            address = status_of(tmp_path)
            assert "shard 1/2 has none of the 1 cameras; it waits for a reload" in log_of(tmp_path)
            assert get(address + "/healthz")[0] == 200
            assert get(address + "/readyz")[0] == 503
            file.write_text(text + f"  - {{name: {mine}, source: '{camera.url}', model: wall}}\n")
            worker.send_signal(signal.SIGHUP)
            wait_for((tmp_path / "out").read_text, 10, "a verdict")
            wait_for(lambda: get(address + "/readyz")[0] == 200, 5, "readiness")
            assert ended(worker) < 3
    assert {json.loads(line)["camera"] for line in (tmp_path / "out").read_text().splitlines()} == {mine}


def test_the_health_check_of_the_image_tells_a_worker_from_none(tmp_path: Path) -> None:
    dockerfile = (ROOT / "camera-worker" / "Dockerfile").read_text(encoding="utf-8")
    (check,) = re.findall(r'CMD \["python", "-c", "(import urllib.*)"\]', dockerfile)
    assert '"--status-port", "8090"' in dockerfile
    with process(["--source", "97", "--status-port", "0"], tmp_path) as worker:
        port = status_of(tmp_path).rpartition(":")[2]
        healthy = [sys.executable, "-c", check.replace("8090", port)]
        assert subprocess.run(healthy, capture_output=True, check=False, timeout=20).returncode == 0
        assert ended(worker) < 3
    assert subprocess.run(healthy, capture_output=True, check=False, timeout=20).returncode != 0


def test_a_port_that_is_taken_is_one_sentence(tmp_path: Path) -> None:
    with process(["--source", "97", "--status-port", "0"], tmp_path) as worker:
        port = status_of(tmp_path).rpartition(":")[2]
        second = run("--source", "98", "--status-port", port)
        assert ended(worker) < 3
    assert second.returncode == 2
    assert f"cannot listen on 127.0.0.1, port {port}" in second.stderr
    assert "Traceback" not in second.stderr


def test_validating_tells_when_a_camera_is_watched(tmp_path: Path) -> None:
    file = tmp_path / "cameras.yaml"
    file.write_text("cameras: [{name: a, source: 0, schedule: {active: [daily 00:00-24:00]}}, {name: b, source: 1}]\n")
    done = run("validate", str(file))
    assert done.stdout.splitlines()[:2] == ["a: 0, model sludge-outflow, watched", "b: 1, model sludge-outflow"]


def test_help_tells_exit_codes_and_where_a_password_belongs() -> None:
    text = " ".join(run("--help", COLUMNS="400").stdout.split())
    assert "70 too many captures got stuck" in text
    assert "CAMERA_PASSWORD" in text
    assert "see a password in a URL in the list of processes" in text


def test_no_option_takes_a_password() -> None:
    assert run("--password", "hunter2", "--source", "0").returncode == 2
    assert "password" not in " ".join(re.findall(r"--[\w-]+", run("--help", COLUMNS="160").stdout))
