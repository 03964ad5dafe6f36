"""A real PostgreSQL server for tests, in a temporary folder."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from almenara.processes import free_port


@contextmanager
def postgresql_server() -> Iterator[str]:
    """The address of a fresh server; skips the test with the reason where none can run."""
    if shutil.which("initdb") is None or shutil.which("pg_ctl") is None:
        pytest.skip("this machine has no PostgreSQL server (initdb and pg_ctl)")
    user = pwd.getpwuid(os.geteuid()).pw_name if os.geteuid() else "postgres"  # it refuses to run as root
    with tempfile.TemporaryDirectory(prefix="almenara-pg-") as folder:
        shutil.chown(folder, user)
        data, port = Path(folder, "data"), free_port()
        options = f"-p {port} -k {folder} -c listen_addresses=127.0.0.1 -c fsync=off"

        def run(*command: str | Path) -> None:
            subprocess.run(command, user=user, cwd=folder, check=True, stdout=subprocess.DEVNULL)

        run("initdb", "-D", data, "-U", "almenara", "-A", "trust")
        run("pg_ctl", "-D", data, "-l", Path(folder, "log"), "-o", options, "-w", "start")
        try:
            yield f"postgresql+psycopg2://almenara@127.0.0.1:{port}/postgres"
        finally:
            run("pg_ctl", "-D", data, "-m", "immediate", "stop")
