"""Fixtures that several folders share: servers are real and live as long as the session."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from hypothesis import settings

from almenara import processes
from tests.support import servers

settings.register_profile("busy", deadline=None)  # the machine may be doing something else
settings.load_profile("busy")

# A port that another process has chosen and not opened yet looks free: each process of a run has ports of its own.
_worker, _workers = os.environ.get("PYTEST_XDIST_WORKER", "gw0"), os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1")
processes._PORTS = processes._PORTS[int(_worker.removeprefix("gw")) :: int(_workers)]


@pytest.fixture(scope="session")
def mlflow_address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Address of a real MLflow server."""
    with servers.mlflow_server(tmp_path_factory.mktemp("mlflow")) as address:
        yield address
