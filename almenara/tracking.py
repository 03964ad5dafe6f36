"""Runs in MLflow: parameters, metrics, pictures and the card of everything that was trained or evaluated."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import mlflow
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from sqlalchemy.exc import SQLAlchemyError

from almenara.contracts import Candidate
from almenara.errors import RegistryError


def connect(tracking_uri: str) -> MlflowClient:
    """Point MLflow at a server or an embedded SQLite file, whose folder is made when it is new."""
    if tracking_uri.startswith("sqlite:///"):
        with registry_errors(tracking_uri):
            Path(tracking_uri.removeprefix("sqlite:///")).parent.mkdir(parents=True, exist_ok=True)
    mlflow.set_tracking_uri(tracking_uri)
    mlflow.set_registry_uri(tracking_uri)
    return MlflowClient(tracking_uri, tracking_uri)


@contextmanager
def run(tracking_uri: str, experiment: str, name: str, tags: Mapping[str, str] | None = None) -> Iterator[str]:
    """An MLflow run; a failure inside marks it FAILED and is raised again.

    Yields:
        The run's id.
    """
    client = connect(tracking_uri)
    with registry_errors(tracking_uri):
        experiment_id = _experiment(client, tracking_uri, experiment)
        active = mlflow.start_run(experiment_id=experiment_id, run_name=name, tags=dict(tags or {}))
    with active:
        yield active.info.run_id


def log_candidate(candidate: Candidate) -> None:
    """Log a candidate's parameters, metrics, figures and card to the active run."""
    mlflow.log_params({**candidate.parameters, "method": candidate.card.method, "task": candidate.card.task})
    for protocol, metrics in candidate.card.metrics.items():
        mlflow.log_metrics({_metric_name(f"{protocol}.{key}"): value for key, value in metrics.items()})
    mlflow.log_text(candidate.card.model_dump_json(indent=2), "card.json")
    log_figures(candidate.figures)


def log_figures(figures: Mapping[str, bytes]) -> None:
    """Log pictures (file name -> PNG bytes) to the active run's folder `figures`."""
    if not figures:
        return
    with tempfile.TemporaryDirectory() as folder:
        for file, content in figures.items():
            Path(folder, file).write_bytes(content)
        mlflow.log_artifacts(folder, "figures")


def log_metrics(metrics: Mapping[str, float], parameters: Mapping[str, str | int | float]) -> None:
    """Log an evaluation's figures to the active run."""
    mlflow.log_params(dict(parameters))
    mlflow.log_metrics(dict(metrics))


@contextmanager
def registry_errors(tracking_uri: str) -> Iterator[None]:
    """Turn MLflow's and the network's failures into one RegistryError that names the address."""
    try:
        yield
    except (MlflowException, SQLAlchemyError, OSError) as error:
        first_line = (str(error).strip() or type(error).__name__).splitlines()[0][:300].rstrip(".")
        if getattr(error, "error_code", "") == "RESOURCE_DOES_NOT_EXIST":
            raise RegistryError(f"{first_line}.", "See what there is: almenara models list") from error
        remedy = "Check MLFLOW_TRACKING_URI and that the server runs."
        if tracking_uri.startswith("sqlite:///"):
            remedy = "Check that the folder can be written; if the file is damaged, restore it or remove it."
        raise RegistryError(
            f"The MLflow registry at {without_password(tracking_uri)} did not answer as expected: {first_line}.", remedy
        ) from error


def _experiment(client: MlflowClient, tracking_uri: str, name: str) -> str:
    """Id of the experiment, made when missing; beside an embedded database its artifacts lie in `artifacts/`."""
    found = client.get_experiment_by_name(name)
    if found is not None:
        return str(found.experiment_id)
    location = None
    if tracking_uri.startswith("sqlite:///"):
        location = (Path(tracking_uri.removeprefix("sqlite:///")).parent / "artifacts" / name).as_uri()
    return str(client.create_experiment(name, artifact_location=location))


def _metric_name(text: str) -> str:
    """MLflow takes letters, digits, `_-. :/` in a metric's name."""
    return re.sub(r"[^\w\-. :/]", "", text)


def without_password(uri: str) -> str:
    """An address as it may be shown."""
    parts = urlsplit(uri)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl() if parts.netloc else uri
