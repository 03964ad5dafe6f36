"""The whole line as an operator starts it: real registry, API, RTSP camera, worker and alarms, twice in a row."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import cv2
import pytest

from almenara.processes import free_port

pytestmark = [pytest.mark.slow, pytest.mark.alone]

Environment = dict[str, str]


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Environment:
    """A folder and ports of its own, so that a demo on the default ports is left alone."""
    folder = tmp_path_factory.mktemp("demo")
    ports = {name: str(free_port()) for name in ("ALMENARA_MLFLOW_PORT", "ALMENARA_API_PORT", "ALMENARA_CAMERA_PORT")}
    environment = {**os.environ, **ports, "ALMENARA_VAR_DIR": str(folder / "var"), "COLUMNS": "200"}
    environment.pop("MLFLOW_TRACKING_URI", None)
    return environment


def demo(environment: Environment, *options: str) -> subprocess.CompletedProcess[str]:
    var = environment["ALMENARA_VAR_DIR"]
    command = [sys.executable, "-m", "almenara", "demo", "--var-dir", var, *options]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=540, check=False)


def last_json(done: subprocess.CompletedProcess[str]) -> dict[str, object]:
    assert done.returncode == 0, f"{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    answer: dict[str, object] = json.loads(done.stdout.splitlines()[-1])
    return answer


@pytest.fixture(scope="module")
def first(environment: Environment) -> subprocess.CompletedProcess[str]:
    return demo(environment, "--once")


def test_first_run_trains_and_raises_an_alarm_of_each_kind(first: subprocess.CompletedProcess[str]) -> None:
    answer = last_json(first)
    assert int(str(answer["vision_alarms"])) >= 1
    assert int(str(answer["vibration_alarms"])) >= 1
    assert answer["models"] == {"bearing": "1", "bearing-baseline-pump-1": "1", "sludge-outflow": "1"}


def test_alarms_carry_evidence_that_can_be_opened(
    first: subprocess.CompletedProcess[str], environment: Environment
) -> None:
    last_json(first)
    evidence = Path(environment["ALMENARA_VAR_DIR"], "evidence")
    frames = [path for path in evidence.rglob("*") if path.suffix in {".jpg", ".png"}]
    assert any("overlay" in path.stem for path in frames)
    assert all(cv2.imread(str(path)) is not None for path in frames)
    assert list(evidence.rglob("*.npz"))


def test_second_run_reuses_the_champions_and_alarms_again(
    first: subprocess.CompletedProcess[str], environment: Environment
) -> None:
    last_json(first)
    done = demo(environment, "--once")
    answer = last_json(done)
    assert "nothing to train" in done.stdout
    assert answer["models"] == {"bearing": "1", "bearing-baseline-pump-1": "1", "sludge-outflow": "1"}
    assert int(str(answer["vision_alarms"])) >= 1
    assert int(str(answer["vibration_alarms"])) >= 1


def test_a_port_in_use_is_a_sentence_and_exit_code_2(environment: Environment) -> None:
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        taken.bind(("127.0.0.1", int(environment["ALMENARA_API_PORT"])))
        taken.listen()
        done = demo(environment, "--once")
    assert done.returncode == 2
    assert f"Port {environment['ALMENARA_API_PORT']}, which the API needs, is in use." in done.stderr
    assert "Traceback" not in done.stderr


def test_ctrl_c_stops_every_child(first: subprocess.CompletedProcess[str], environment: Environment) -> None:
    last_json(first)
    command = [sys.executable, "-m", "almenara", "demo", "--var-dir", environment["ALMENARA_VAR_DIR"]]
    line = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert line.stdout is not None
    for printed in line.stdout:
        if "The line is up" in printed:
            break
    time.sleep(2)
    line.send_signal(signal.SIGINT)
    output = line.stdout.read()
    assert line.wait(60) == 0, output
    for variable in ("ALMENARA_MLFLOW_PORT", "ALMENARA_API_PORT", "ALMENARA_CAMERA_PORT"):
        with socket.socket() as probe:
            assert probe.connect_ex(("127.0.0.1", int(environment[variable]))) != 0, f"{variable} still answers"


def test_a_half_written_var_is_named_with_the_remedy(
    first: subprocess.CompletedProcess[str], environment: Environment
) -> None:
    last_json(first)
    artifacts = Path(environment["ALMENARA_VAR_DIR"], "mlflow", "artifacts")
    artifacts.rename(artifacts.with_name("elsewhere"))
    try:
        done = demo(environment, "--once")
    finally:
        if artifacts.exists():
            artifacts.rename(artifacts.with_name("made-meanwhile"))
        artifacts.with_name("elsewhere").rename(artifacts)
    assert done.returncode == 2
    assert "half-written" in done.stderr
    assert "make clean" in done.stderr
