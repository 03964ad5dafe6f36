"""The MLflow server: whether it and its database answer, its version, the champions, and whom it refuses."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from almenara.doctor import web
from almenara.doctor.findings import Finding, ok, problem, skipped, warning
from almenara.doctor.place import Place
from almenara.redaction import redact_address

_MODELS = "/api/2.0/mlflow/registered-models/search?max_results=1000"
_EXPERIMENTS = "/api/2.0/mlflow/experiments/search?max_results=1"
_STRANGER = "almenara-doctor.invalid"
_HOW_TO_REGISTER = "Train one: almenara train --help; or promote one: almenara models promote NAME VERSION --reason …"
_LOOK = "See its log: docker compose logs mlflow"


def mlflow_server(place: Place) -> Iterator[Finding]:
    """Server, version, database and champions."""
    address = place.settings.tracking_uri
    if not address.startswith("http"):
        yield ok("MLflow", "It is embedded: there is no server.")
        return
    shown, headers = redact_address(address), _authorization(place.environment)
    try:
        health = web.get(address, "/health", headers)
        told = web.get(address, "/version", headers)
        models = web.get(address, _MODELS, headers)
    except web.NoAnswerError as error:
        remedy = "See whether it runs (docker compose ps mlflow), and correct MLFLOW_TRACKING_URI."
        yield problem("MLflow", f"Nothing answers at {shown}: {error}.", remedy)
        return
    if 401 in {health.status, models.status}:
        remedy = "Set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD."
        yield problem("MLflow", f"{shown} asks for another name and password.", remedy)
        return
    if models.status == 403 and b"host" in models.body.lower():
        fact = f"{shown} refuses the name by which it is called here."
        yield problem("MLflow", fact, "Add it, with its port, to MLFLOW_ALLOWED_HOSTS in .env: docker compose up -d")
        return
    if health.status != 200:
        yield problem("MLflow", f"{shown} answers {health.status} when asked for its health.", _LOOK)
        return
    yield ok("MLflow", f"{shown} answers.")
    yield _versions(told.text if told.status == 200 else "")
    yield _champions(models)


def spoofed_host(place: Place) -> Iterator[Finding]:
    """A page in somebody's browser can reach a server that answers to every name (DNS rebinding)."""
    address = place.settings.tracking_uri
    if not address.startswith("http"):
        return
    try:
        answer = web.get(address, _EXPERIMENTS, {**_authorization(place.environment), "Host": _STRANGER})
    except web.NoAnswerError:
        return  # the check of the server says so
    if answer.status == 401:
        yield skipped("MLflow hosts", "It asks for a password first.")
    elif answer.status == 200:
        remedy = "Start it with --allowed-hosts (in .env: MLFLOW_ALLOWED_HOSTS), and without *."
        yield problem("MLflow hosts", "It answers requests that were made for another host.", remedy)
    else:
        yield ok("MLflow hosts", "A request for another host is refused.")


def _versions(server: str) -> Finding:
    ours = next((known for name in ("mlflow-skinny", "mlflow") if (known := _installed(name))), "")
    if not server or not ours:
        return skipped("MLflow version", f"Server: {server or 'not told'}; here: {ours or 'no client'}.")
    if server == ours:
        return ok("MLflow version", f"{server}, as the client here.")
    fact = f"The server has {server}, the client here {ours}."
    return warning("MLflow version", fact, "Bring both to one release: docker compose up --detach --build")


def _champions(answer: web.Answer) -> Finding:
    content = answer.json()
    if answer.status != 200 or not isinstance(content, dict):
        said = content.get("error_code", "") if isinstance(content, dict) else ""
        fact = f"It answers {answer.status} {said}".rstrip() + " when asked for its models."
        return problem("registry", fact, f"Its database may be away or not migrated. {_LOOK}")
    names = [model["name"] for model in content.get("registered_models", ()) if _has_champion(model)]
    if not names:
        return warning("registry", "No registered model has the alias champion.", _HOW_TO_REGISTER)
    return ok("registry", f"{len(names)} models have a champion: {', '.join(sorted(names)[:10])}.")


def _has_champion(model: Mapping[str, Any]) -> bool:
    return any(alias.get("alias") == "champion" for alias in model.get("aliases", ()))


def _authorization(environment: Mapping[str, str]) -> dict[str, str]:
    """As MLflow's client takes it from its environment."""
    user, password = (environment.get(f"MLFLOW_TRACKING_{name}") for name in ("USERNAME", "PASSWORD"))
    if user and password:
        return {"Authorization": web.basic(user, password)}
    token = environment.get("MLFLOW_TRACKING_TOKEN")
    return {"Authorization": f"Bearer {token}"} if token else {}


def _installed(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""
