"""Children end with their parent, whatever interrupts it."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from almenara import processes
from almenara.errors import ConfigurationError
from almenara.processes import Children, free_port, require_free_port

SLEEPER = [sys.executable, "-c", "import time; print('ready', flush=True); time.sleep(60)"]
STUBBORN = [
    *(sys.executable, "-c"),
    "import signal, time; signal.signal(signal.SIGTERM, lambda *_: time.sleep(2)); print('ready', flush=True); "
    "time.sleep(60)",
]


def is_ready(children: Children, name: str) -> bool:
    return "ready" in children.log(name).read_text()


def pid(children: Children, name: str) -> int:
    return children._running[name].pid


def alive(number: int) -> bool:
    return subprocess.run(["kill", "-0", str(number)], capture_output=True, check=False).returncode == 0


def test_children_are_stopped_on_the_way_out(tmp_path: Path) -> None:
    with Children(tmp_path) as children:
        children.start("sleeper", SLEEPER)
        children.wait_until("sleeper", lambda: is_ready(children, "sleeper"), 10)
        number = pid(children, "sleeper")
        assert alive(number)
    assert not alive(number)


PARENT = """
import sys, time
from pathlib import Path
from almenara.processes import Children
with Children(Path(sys.argv[1])) as children:
    children.start("sleeper", [sys.executable, "-c", "import time; print('ready', flush=True); time.sleep(60)"])
    children.wait_until("sleeper", lambda: "ready" in children.log("sleeper").read_text(), 10)
    print(children._running["sleeper"].pid, flush=True)
    time.sleep(60)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells children that their parent died")
def test_children_end_even_when_the_parent_is_killed(tmp_path: Path) -> None:
    parent = subprocess.Popen([sys.executable, "-c", PARENT, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    number = int(parent.stdout.readline())
    parent.kill()
    parent.wait(5)
    deadline = time.monotonic() + 5
    while alive(number) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not alive(number)


def test_a_second_interrupt_leaves_nobody_behind(tmp_path: Path) -> None:
    with Children(tmp_path) as children:
        for name, command in {"first": SLEEPER, "second": STUBBORN}.items():
            children.start(name, command)
            children.wait_until(name, lambda name=name: is_ready(children, name), 10)  # type: ignore[misc]
        numbers = [pid(children, name) for name in ("first", "second")]
        threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGINT)).start()
    time.sleep(0.2)
    assert not any(alive(number) for number in numbers)


def test_a_child_that_ends_is_named_with_its_last_words(tmp_path: Path) -> None:
    with Children(tmp_path) as children:
        children.start("failing", [sys.executable, "-c", "raise SystemExit('no disk left')"])
        with pytest.raises(ConfigurationError, match=r"failing ended with exit code 1\. .* no disk left"):
            children.wait_until("failing", lambda: False, 10)


def test_a_port_in_use_is_named_with_its_variable() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(ConfigurationError, match=f"Port {port}, which the API needs, is in use.*ALMENARA_API_PORT"):
            require_free_port(port, "the API", "ALMENARA_API_PORT")


def test_given_ports_differ_and_lie_below_those_of_outgoing_connections() -> None:
    ports = [free_port() for _ in range(200)]
    assert len(set(ports)) == 200
    assert all(20_000 <= port < 32_768 for port in ports)


def test_a_port_that_is_taken_is_not_given(monkeypatch: pytest.MonkeyPatch) -> None:
    taken, free = free_port(), free_port()
    monkeypatch.setattr(processes, "_PORTS", range(min(taken, free), max(taken, free) + 1, abs(taken - free)))
    monkeypatch.setattr(processes, "_given", set[int]())
    with socket.create_server(("127.0.0.1", taken)):
        assert free_port() == free
        with pytest.raises(OSError, match="no loopback port"):
            free_port()
