"""The doctor beside real servers: a sound installation passes, and each fault is one line with its remedy."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from alembic.script import ScriptDirectory
from pydantic import SecretStr
from sqlalchemy import create_engine, text
from sqlalchemy.engine import make_url

from almenara.alarms.database import open_database
from almenara.doctor import Finding, Place, databases, diagnose, storage
from almenara.processes import free_port
from almenara.registry import Registry
from almenara.settings import Settings
from minio_client import Connection, connect
from tests.support import servers
from tests.support.api import RunningApi, running_api
from tests.support.data import ROOT
from tests.support.object_storage import object_storage
from tests.support.packages import vision_candidate
from tests.support.postgresql import postgresql_server

pytestmark = pytest.mark.slow

KEY, PASSWORD = "correct-horse-battery", "sesame-open-the-door"
BUCKETS = ("datasets", "evidence", "mlflow")
ALARMS = """
evidence: {{url: "s3://evidence/almenara", endpoint: "{endpoint}"}}
heartbeat: {{url: "http://127.0.0.1:9/beat"}}
channels: [{{name: shift, type: mqtt, url: "mqtt://127.0.0.1:9"}}]
"""


@dataclass(frozen=True)
class Installation:
    """Every server of the platform, and the place from which all is well."""

    postgresql: str
    storage: Connection
    mlflow: str
    api: RunningApi
    place: Place

    def seen(self, *, environment: dict[str, str] | None = None, **settings: object) -> Place:
        """The place with other settings and variables."""
        changed = self.place.settings.model_copy(update=settings)
        return replace(self.place, settings=changed, environment={**self.place.environment, **(environment or {})})


@pytest.fixture(scope="module")
def installation(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    folder = tmp_path_factory.mktemp("doctor")
    with ExitStack() as stack:
        postgresql = stack.enter_context(postgresql_server())
        with create_engine(postgresql, isolation_level="AUTOCOMMIT").connect() as connection:
            for name in ("alarms", "mlflow"):
                connection.execute(text(f"CREATE DATABASE {name}"))
        open_mlflow_database(postgresql, databases.mlflow_revisions()[-1])
        s3 = stack.enter_context(object_storage(folder))
        for bucket in BUCKETS:
            connect(s3).make_bucket(bucket)
        mlflow = stack.enter_context(servers.mlflow_server(folder))
        registry = Registry(mlflow)
        registry.promote("wall", registry.register(vision_candidate("wall"), "tests").version, reason="first")
        file = folder / "alarms.yaml"
        file.write_text(ALARMS.format(endpoint=s3.endpoint), encoding="utf-8")
        keys = {"MINIO_ACCESS_KEY": s3.access_key, "MINIO_SECRET_KEY": s3.secret_key}
        environment = keys | {
            "MLFLOW_TRACKING_URI": mlflow,
            "ALMENARA_API_KEY": KEY,
            "ALMENARA_ALARMS_URL": database(postgresql, "alarms"),
            "ALMENARA_ALARMS_FILE": str(file),
        }
        api = stack.enter_context(running_api(folder / "var", environment))
        settings = Settings(
            var_dir=folder / "var",
            mlflow_tracking_uri=mlflow,
            api_key=SecretStr(KEY),
            alarms_url=environment["ALMENARA_ALARMS_URL"],
            alarms_file=file,
        )
        seen = keys | {"MINIO_ENDPOINT": s3.endpoint, "POSTGRES_DB": "mlflow"}
        yield Installation(postgresql, s3, mlflow, api, Place(settings, seen, api_url=str(api.http.base_url)))


def database(server: str, name: str) -> str:
    return make_url(server).set(database=name).render_as_string(hide_password=False)


def open_mlflow_database(server: str, revision: str) -> None:
    with create_engine(database(server, "mlflow")).begin() as connection:
        connection.execute(text("CREATE TABLE IF NOT EXISTS alembic_version (version_num VARCHAR(32))"))
        connection.execute(text("DELETE FROM alembic_version"))
        connection.execute(text("INSERT INTO alembic_version VALUES (:revision)"), {"revision": revision})


def only(found: list[Finding], subject: str) -> Finding:
    (finding,) = [each for each in found if each.subject == subject]
    return finding


def closed() -> str:
    return f"http://127.0.0.1:{free_port()}"


def run_doctor(place: Place, *options: str) -> tuple[int, dict[str, dict[str, str]], str]:
    """Exit code, findings by subject and the whole output of the command, with the place as its environment."""
    settings = place.settings
    environment = {
        **os.environ,
        **place.environment,
        "ALMENARA_VAR_DIR": str(settings.var_dir),
        "ALMENARA_API_KEY": KEY,
        "ALMENARA_ALARMS_URL": settings.alarms_database_url,
        "ALMENARA_ALARMS_FILE": str(settings.alarms_file),
        "MLFLOW_TRACKING_URI": settings.tracking_uri,
    }
    command = [sys.executable, "-m", "almenara", "doctor", "--json", *options]
    done = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])["findings"]
    return done.returncode, {each["subject"]: each for each in found}, done.stdout + done.stderr


def test_a_sound_installation_has_no_problem(installation: Installation) -> None:
    code, found, output = run_doctor(installation.place, "--api-url", str(installation.place.api_url))
    states = {subject: each["state"] for subject, each in found.items()}
    assert {"problem"} & set(states.values()) == set(), found
    assert code == 0
    assert {subject for subject, state in states.items() if state == "ok"} >= {
        *("secrets", "folder", "alarms.yaml", "heartbeat", "PostgreSQL", "PostgreSQL clock", "alarm database"),
        *("MLflow database", "object storage", "buckets", "evidence bucket", "storage clock", "MLflow"),
        *("MLflow version", "registry", "MLflow hosts", "API", "API version", "models", "API's alarms"),
    }
    assert KEY not in output
    assert installation.storage.secret_key not in output


def test_nothing_is_left_in_the_evidence_bucket(installation: Installation) -> None:
    assert only(list(storage.object_storage(installation.place)), "evidence bucket").state == "ok"
    assert list(connect(installation.storage).list_objects("evidence", prefix="almenara-doctor/", recursive=True)) == []


def test_every_server_that_is_down_is_one_problem_and_all_are_told_within_seconds(installation: Installation) -> None:
    place = replace(
        installation.seen(
            environment={"MINIO_ENDPOINT": closed()},
            alarms_url=f"postgresql+psycopg2://almenara@127.0.0.1:{free_port()}/alarms",
            mlflow_tracking_uri=closed(),
        ),
        api_url=closed(),
        worker_url=closed(),
    )
    began = time.monotonic()
    found = diagnose(place)
    assert time.monotonic() - began < 8
    down = [each for each in found if each.state == "problem"]
    assert [each.subject for each in down] == [*("PostgreSQL", "object storage", "MLflow", "API", "camera worker")]
    assert all("docker compose" in each.remedy for each in down)


def test_a_server_that_accepts_and_says_nothing_is_told_in_time(installation: Installation) -> None:
    with socket.create_server(("127.0.0.1", 0)) as mute:
        address = f"http://127.0.0.1:{mute.getsockname()[1]}"
        began = time.monotonic()
        found = diagnose(replace(installation.seen(mlflow_tracking_uri=address), api_url=address))
    assert time.monotonic() - began < 8
    assert (only(found, "MLflow").state, only(found, "API").state) == ("problem", "problem")
    assert only(found, "buckets").state == "ok"


def test_a_wrong_password_of_postgresql_is_told_with_its_variable(
    installation: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    with create_engine(installation.postgresql, isolation_level="AUTOCOMMIT").connect() as connection:
        connection.execute(text(f"CREATE ROLE guarded LOGIN PASSWORD '{PASSWORD}'"))
        rules = Path(connection.execute(text("SHOW hba_file")).scalar_one())
        rules.write_text(f"host all guarded 127.0.0.1/32 scram-sha-256\n{rules.read_text()}")
        connection.execute(text("SELECT pg_reload_conf()"))
    address = make_url(database(installation.postgresql, "alarms")).set(username="guarded")
    monkeypatch.setenv("PGPASSWORD", "another-than-that")
    place = installation.seen(
        environment={"PGPASSWORD": "another-than-that"}, alarms_url=address.render_as_string(hide_password=False)
    )
    (finding,) = [each for each in diagnose(place) if each.state == "problem"]
    assert finding.subject == "PostgreSQL"
    assert (finding.state, "PGPASSWORD" in finding.remedy) == ("problem", True)
    assert "password authentication failed" in finding.fact


def test_a_database_that_is_not_there_is_told_with_what_makes_it(installation: Installation) -> None:
    place = installation.seen(alarms_url=database(installation.postgresql, "absent"))
    (finding,) = databases.postgresql(place)
    assert (finding.state, "docker compose run --rm migrations" in finding.remedy) == ("problem", True)


@pytest.mark.parametrize(
    ("revision", "words", "remedy"),
    [("0001", "this release needs", "Start the API again"), ("9999", "of a newer release", "Upgrade Almenara")],
)
def test_an_alarm_database_of_another_release_is_told_and_left_as_it_is(
    tmp_path: Path, revision: str, words: str, remedy: str
) -> None:
    url = f"sqlite:///{tmp_path / 'api.db'}"
    engine = open_database(url)
    with engine.execution_options(writes=True).begin() as connection:
        connection.execute(text("UPDATE alarm_revision SET version_num = :revision"), {"revision": revision})
    place = Place(Settings(alarms_url=url), {})
    (finding,) = databases.alarm_database(place)
    assert (finding.state, words in finding.fact, remedy in finding.remedy) == ("problem", True, True)
    with engine.connect() as connection:
        assert connection.execute(text("SELECT version_num FROM alarm_revision")).scalar() == revision


def test_an_mlflow_database_that_was_not_migrated_is_told_with_what_migrates_it(installation: Installation) -> None:
    newest = databases.mlflow_revisions()[-1]
    open_mlflow_database(installation.postgresql, "451aebb31d03")
    try:
        (finding,) = databases.mlflow_database(installation.place)
    finally:
        open_mlflow_database(installation.postgresql, newest)
    assert (finding.state, newest in finding.fact) == ("problem", True)
    assert "docker compose run --rm migrations" in finding.remedy


def test_the_newest_revision_of_mlflow_is_the_one_that_mlflow_itself_names() -> None:
    import mlflow

    folder = Path(mlflow.__file__).parent / "store" / "db_migrations"
    assert databases.mlflow_revisions()[-1] == ScriptDirectory(str(folder)).get_current_head()


@pytest.mark.parametrize("name", ["MINIO_ACCESS_KEY", "MINIO_SECRET_KEY"])
def test_a_key_that_the_storage_refuses_is_told_by_its_variable(installation: Installation, name: str) -> None:
    place = installation.seen(environment={name: "another-key-than-its-own"})
    (finding,) = storage.object_storage(place)
    assert (finding.state, name in finding.remedy) == ("problem", True), finding


def test_a_bucket_that_is_missing_is_told_with_what_makes_it(installation: Installation) -> None:
    found = list(storage.object_storage(installation.seen(environment={"MINIO_BUCKET_NAME": "artifacts"})))
    finding = only(found, "buckets")
    assert (finding.state, "artifacts" in finding.fact) == ("problem", True)
    assert "docker compose run --rm buckets" in finding.remedy


def test_where_only_evidence_is_stored_no_other_bucket_is_asked_for(installation: Installation) -> None:
    found = list(storage.object_storage(installation.seen(environment={"MINIO_ENDPOINT": ""})))
    assert [(each.subject, each.state) for each in found][1:] == [("buckets", "ok"), ("evidence bucket", "ok")]
    assert "mlflow" not in only(found, "buckets").fact


@pytest.mark.parametrize(("ahead", "state"), [(60, "warning"), (1000, "problem")])
def test_clocks_that_are_apart_are_told(installation: Installation, ahead: float, state: str) -> None:
    place = replace(installation.place, clock=lambda: time.time() + ahead)
    (of_storage,) = storage.storage_clock(place)
    of_database = only(list(databases.postgresql(place)), "PostgreSQL clock")
    assert (of_storage.state, of_database.state) == (state, state)
    assert "behind this machine's" in of_storage.fact
    assert "time server" in of_storage.remedy


def test_a_developer_without_any_server_is_told_of_the_api_alone(tmp_path: Path) -> None:
    place = Place(Settings(var_dir=tmp_path / "var"), {}, api_url=closed())
    assert [each.subject for each in diagnose(place) if each.state == "problem"] == ["API"]
    assert not (tmp_path / "var").exists()


def test_settings_that_cannot_be_read_are_the_one_problem(tmp_path: Path) -> None:
    environment = {**os.environ, "ALMENARA_API_PORT": "many"}
    command = [sys.executable, "-m", "almenara", "doctor"]
    done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "ALMENARA_API_PORT" in done.stdout
