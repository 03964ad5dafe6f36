"""What the doctor makes of the answers of MLflow, the API and the camera worker, the bad ones too."""

from __future__ import annotations

import json
from importlib.metadata import version

import pytest

from almenara import __version__
from almenara.doctor import Finding, Place, figures, mlflow_server, services
from almenara.settings import Settings
from tests.unit.doctor.conftest import Told

MODELS = "/api/2.0/mlflow/registered-models/search"
EXPERIMENTS = "/api/2.0/mlflow/experiments/search"
CHAMPION = {"registered_models": [{"name": "wall", "aliases": [{"alias": "champion", "version": "1"}]}]}
NOBODY = Place(Settings(mlflow_tracking_uri="http://127.0.0.1:9"), {}, "http://127.0.0.1:9", "http://127.0.0.1:9")


def by_subject(found: list[Finding]) -> dict[str, Finding]:
    return {each.subject: each for each in found}


def answer_as_mlflow(told: Told, **answers: tuple[int, str]) -> None:
    usual = {"health": (200, "OK"), "version": (200, version("mlflow-skinny")), "models": (200, json.dumps(CHAMPION))}
    paths = {"health": "/health", "version": "/version", "models": MODELS}
    told.answers = {paths[name]: answer for name, answer in {**usual, **answers}.items()}
    told.answers[EXPERIMENTS] = (200, "{}")


def test_an_mlflow_of_another_release_is_told_with_both(told: Told, place: Place) -> None:
    answer_as_mlflow(told, version=(200, "2.0.1"))
    finding = by_subject(list(mlflow_server.mlflow_server(place)))["MLflow version"]
    assert finding.state == "warning"
    assert "2.0.1" in finding.fact
    assert version("mlflow-skinny") in finding.fact


def test_an_mlflow_whose_database_is_away_is_a_problem_though_it_answers(told: Told, place: Place) -> None:
    answer_as_mlflow(told, models=(500, json.dumps({"error_code": "INTERNAL_ERROR"})))
    found = by_subject(list(mlflow_server.mlflow_server(place)))
    assert (found["MLflow"].state, found["registry"].state) == ("ok", "problem")
    assert "500 INTERNAL_ERROR" in found["registry"].fact


def test_a_registry_without_champion_says_how_to_get_one(told: Told, place: Place) -> None:
    answer_as_mlflow(told, models=(200, "{}"))
    finding = by_subject(list(mlflow_server.mlflow_server(place)))["registry"]
    assert (finding.state, "almenara train" in finding.remedy) == ("warning", True)


def test_an_mlflow_that_wants_a_password_says_which_variables_hold_it(told: Told, place: Place) -> None:
    answer_as_mlflow(told, health=(401, ""), models=(401, ""))
    (finding,) = mlflow_server.mlflow_server(place)
    assert "MLFLOW_TRACKING_PASSWORD" in finding.remedy


def test_an_mlflow_that_refuses_our_name_for_it_says_where_names_are_allowed(told: Told, place: Place) -> None:
    answer_as_mlflow(told)
    told.hosts = {"mlflow"}
    (finding,) = mlflow_server.mlflow_server(place)
    assert (finding.state, "MLFLOW_ALLOWED_HOSTS" in finding.remedy) == ("problem", True)


def test_an_mlflow_that_answers_to_every_name_is_a_problem(told: Told, place: Place) -> None:
    answer_as_mlflow(told)
    (finding,) = mlflow_server.spoofed_host(place)
    assert (finding.state, "MLFLOW_ALLOWED_HOSTS" in finding.remedy) == ("problem", True)
    told.hosts = {"127.0.0.1"}
    (finding,) = mlflow_server.spoofed_host(place)
    assert finding.state == "ok"


def test_an_api_of_another_release_is_told_with_both(told: Told, place: Place) -> None:
    told.answers = {"/health/live": (200, "{}"), "/openapi.json": (200, '{"info": {"version": "0.0.9"}}')}
    found = by_subject(list(services.api(place)))
    assert (found["API"].state, found["API version"].state) == ("ok", "warning")
    assert "0.0.9" in found["API version"].fact
    assert __version__ in found["API version"].fact


def test_what_is_no_api_of_ours_is_a_problem(told: Told, place: Place) -> None:
    (finding,) = services.api(place)
    assert (finding.state, "--api-url" in finding.remedy) == ("problem", True)


def test_a_champion_that_cannot_be_served_is_named_with_the_reason(told: Told, place: Place) -> None:
    refused = {"version": "3", "reason": "its graph is broken", "at": "2026-03-04T12:00:00Z"}
    rows = [{"name": "wall", "version": "2", "refused": refused}]
    told.answers = {
        "/v1/models": (200, json.dumps({"registry": "up", "models": rows, "missing": None})),
        "/health/ready": (200, json.dumps({"status": "ready", "registry": "up", "models": rows})),
    }
    broken, served = services.models(place)
    assert (broken.state, served.state) == ("problem", "ok")
    assert "wall: version 3" in broken.fact
    assert "rollback wall" in broken.remedy


def test_a_key_that_the_api_refuses_is_told_by_its_variable(told: Told, place: Place) -> None:
    told.answers = {"/v1/models": (401, "{}"), "/health/ready": (200, '{"registry": "up", "models": []}')}
    found = by_subject(list(services.models(place)))
    assert (found["API key"].state, "ALMENARA_API_KEY" in found["API key"].remedy) == ("problem", True)


@pytest.mark.parametrize(
    ("ready", "state", "words"),
    [
        ((200, '{"status": "ready", "cameras": 2}'), "ok", "2 cameras"),
        ((503, '{"detail": "outflow: no picture comes", "remedy": "See /cameras."}'), "problem", "outflow: no picture"),
        ((503, '{"detail": "no camera is watched"}'), "warning", "watches no camera"),
        ((502, "bad gateway"), "problem", "answers 502"),
    ],
)
def test_a_worker_is_told_as_it_tells_itself(
    told: Told, place: Place, ready: tuple[int, str], state: str, words: str
) -> None:
    told.answers = {"/healthz": (200, '{"status": "alive"}'), "/readyz": ready}
    (finding,) = services.camera_worker(place)
    assert (finding.state, words in finding.fact) == (state, True)


def test_a_worker_that_was_named_must_answer_and_another_may(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("almenara.doctor.place._OWN_WORKER", NOBODY.worker)
    (named,) = services.camera_worker(NOBODY)
    (unnamed,) = services.camera_worker(Place(Settings(), {}))
    assert (named.state, unnamed.state) == ("problem", "skipped")


@pytest.mark.parametrize(
    ("figure", "state", "words"),
    [
        ("outbox_late_seconds 75", "problem", "75 s late"),
        ("record_late_seconds 61", "problem", "lacked news of it for 61 s"),
        ("evidence_waiting_seconds 900", "warning", "waited for object storage for 900 s"),
        ("heartbeat_withheld 1.0", "warning", "holds the heartbeat back"),
        ("alarm_store_up 0", "problem", "database does not answer"),
        ("disk_free_bytes 1e+08\nalmenara_disk_size_bytes 5e+10", "problem", "0.1 GB of 50.0 GB"),
    ],
)
def test_what_a_service_tells_of_its_alarms_is_told_when_it_is_bad(
    told: Told, place: Place, figure: str, state: str, words: str
) -> None:
    told.answers = {"/metrics": (200, f"# HELP x\nalmenara_alarm_store_up 1.0\nalmenara_{figure}\n")}
    (finding,) = figures.of_worker(place)
    assert (finding.state, words in finding.fact) == (state, True)


def test_nothing_is_said_of_alarms_where_no_figures_are_shown(told: Told, place: Place) -> None:
    told.answers = {"/metrics": (200, "almenara_detection_blind 0\n")}
    assert list(figures.of_api(place)) == []


@pytest.mark.parametrize(
    ("check", "remedy"),
    [(mlflow_server.mlflow_server, "docker compose ps mlflow"), (services.api, "docker compose up --detach api")],
)
def test_a_service_that_is_down_is_told_once_with_what_to_do(check: object, remedy: str) -> None:
    (finding,) = check(NOBODY)  # type: ignore[operator]
    assert finding.state == "problem"
    assert remedy in finding.remedy
    assert list(services.models(NOBODY)) == list(mlflow_server.spoofed_host(NOBODY)) == []
