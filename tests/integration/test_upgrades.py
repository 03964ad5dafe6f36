"""Databases of an earlier release are brought to this one by what `docker compose up` runs, and lose nothing.

An alarm database of the first release is upgraded in tests/unit/alarms/test_database_migration.py.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from alembic import command
from mlflow import MlflowClient
from mlflow.store.db.utils import _get_alembic_config
from mlflow.store.tracking.dbmodels.initial_models import Base as InitialBase
from sqlalchemy import Engine, create_engine, text

from almenara.alarms import AlarmStore
from almenara.errors import ConfigurationError
from tests.support.data import ROOT
from tests.support.postgresql import postgresql_server
from tests.support.servers import PATH

pytestmark = pytest.mark.slow

EARLIER = "4465047574b1"
"""The schema of MLflow 2.17, of 2024: before logged models, traces of version 3 and workspaces."""
UNKNOWN = "fedcba987654"
RUN = "0123456789abcdef0123456789abcdef"

_ROWS = (
    "INSERT INTO experiments (experiment_id, name, artifact_location, lifecycle_stage, creation_time, last_update_time)"
    " VALUES (7, 'bearings', 'mlflow-artifacts:/7', 'active', 1700000000000, 1700000000000)",
    "INSERT INTO runs (run_uuid, name, source_type, source_name, entry_point_name, user_id, status, start_time,"
    " end_time, source_version, lifecycle_stage, artifact_uri, experiment_id) VALUES"
    " ('%RUN%', 'first', 'LOCAL', '', '', 'ana', 'FINISHED', 1700000000000, 1700000060000, '', 'active',"
    " 'mlflow-artifacts:/7/%RUN%/artifacts', 7)",
    "INSERT INTO params (key, value, run_uuid) VALUES ('trees', '300', '%RUN%')",
    "INSERT INTO metrics (key, value, timestamp, run_uuid, step, is_nan)"
    " VALUES ('auc', 0.97, 1700000050000, '%RUN%', 0, false)",
    "INSERT INTO latest_metrics (key, value, timestamp, step, is_nan, run_uuid)"
    " VALUES ('auc', 0.97, 1700000050000, 0, false, '%RUN%')",
    "INSERT INTO registered_models (name, creation_time, last_updated_time, description)"
    " VALUES ('bearing', 1700000000000, 1700000000000, 'of the pump')",
    "INSERT INTO model_versions (name, version, creation_time, last_updated_time, user_id, current_stage, source,"
    " run_id, status, storage_location) VALUES ('bearing', 1, 1700000000000, 1700000000000, 'ana', 'None',"
    " 'mlflow-artifacts:/7/%RUN%/artifacts/model', '%RUN%', 'READY', 'mlflow-artifacts:/7/%RUN%/artifacts/model')",
    "INSERT INTO registered_model_aliases (alias, version, name) VALUES ('champion', 1, 'bearing')",
)


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with postgresql_server() as address:
        yield address


@pytest.fixture(scope="module")
def upgraded(server: str) -> MlflowClient:
    """A client of a database that was made by MLflow 2.17 and then migrated."""
    address = _database(server, "mlflow")
    engine = create_engine(address)
    InitialBase.metadata.create_all(engine)
    _migrate_to(engine, EARLIER)
    with engine.begin() as connection:
        for row in _ROWS:
            connection.execute(text(row.replace("%RUN%", RUN)))
    engine.dispose()
    done = migrate(address, "alarms")
    assert done.returncode == 0, done.stderr
    return MlflowClient(address, registry_uri=address)


def migrate(address: str, *databases: str) -> subprocess.CompletedProcess[str]:
    """What the one-shot `migrations` runs."""
    environment = {**os.environ, "PATH": PATH, "MLFLOW_BACKEND_STORE_URI": address}
    start = str(ROOT / "mlflow" / "start.sh")
    return subprocess.run(
        [start, "migrate", *databases], env=environment, capture_output=True, text=True, check=False, timeout=120
    )


def _database(server: str, name: str) -> str:
    """The address of a new database."""
    engine = create_engine(server, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(text(f'CREATE DATABASE "{name}"'))
    engine.dispose()
    return server.rpartition("/")[0] + f"/{name}"


def _migrate_to(engine: Engine, revision: str) -> None:
    config = _get_alembic_config(str(engine.url))
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, revision)


def test_run_of_an_earlier_schema_is_read_after_the_upgrade(upgraded: MlflowClient) -> None:
    run = upgraded.get_run(RUN)
    assert run.data.metrics == {"auc": 0.97}
    assert run.data.params == {"trees": "300"}
    assert upgraded.get_experiment(run.info.experiment_id).name == "bearings"


def test_champion_of_an_earlier_schema_is_still_the_champion(upgraded: MlflowClient) -> None:
    version = upgraded.get_model_version_by_alias("bearing", "champion")
    assert (str(version.version), version.run_id, version.status) == ("1", RUN, "READY")
    assert upgraded.get_registered_model("bearing").description == "of the pump"


def test_a_new_run_can_be_logged_after_the_upgrade(upgraded: MlflowClient) -> None:
    run = upgraded.create_run("7")
    upgraded.log_metric(run.info.run_id, "auc", 0.5)
    assert {each.info.run_id for each in upgraded.search_runs(["7"])} == {RUN, run.info.run_id}


def test_databases_that_lack_are_made_with_the_upgrade(upgraded: MlflowClient, server: str) -> None:
    engine = create_engine(server)
    with engine.connect() as connection:
        assert "alarms" in set(connection.scalars(text("SELECT datname FROM pg_database")))
    engine.dispose()


def test_an_upgrade_that_is_done_again_changes_nothing(upgraded: MlflowClient, server: str) -> None:
    before = upgraded.get_run(RUN).to_dictionary()
    assert migrate(server.rpartition("/")[0] + "/mlflow").returncode == 0
    assert upgraded.get_run(RUN).to_dictionary() == before


def test_an_mlflow_database_of_a_newer_release_is_refused_with_its_revision(server: str) -> None:
    address = _database(server, "newer")
    engine = create_engine(address)
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL)"))
        connection.execute(text("INSERT INTO alembic_version VALUES (:unknown)"), {"unknown": UNKNOWN})
    engine.dispose()
    done = migrate(address)
    assert done.returncode != 0
    assert UNKNOWN in done.stderr.splitlines()[-1]


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_an_alarm_database_of_a_newer_release_is_refused_with_a_remedy(kind: str, server: str, tmp_path: Path) -> None:
    address = f"sqlite:///{tmp_path / 'alarms.db'}" if kind == "sqlite" else _database(server, "newer-alarms")
    AlarmStore(address).close()
    engine = create_engine(address)
    with engine.begin() as connection:
        connection.execute(text("UPDATE alarm_revision SET version_num = '9999'"))
    engine.dispose()
    with pytest.raises(ConfigurationError, match="9999") as refused:
        AlarmStore(address)
    assert "restore the backup" in refused.value.remedy
