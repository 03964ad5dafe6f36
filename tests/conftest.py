"""Fixtures that several folders share: servers are real and live as long as the session."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import settings

from tests.support import servers

settings.register_profile("busy", deadline=None)  # the machine may be doing something else
settings.load_profile("busy")


@pytest.fixture(scope="session")
def mlflow_address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Address of a real MLflow server."""
    with servers.mlflow_server(tmp_path_factory.mktemp("mlflow")) as address:
        yield address
