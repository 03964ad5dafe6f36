"""`almenara keys`: who may use the API."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated

import typer

from almenara import api_keys
from almenara.configuration.values import parse_duration
from almenara.console import JsonOption, print_json, stdout, table
from almenara.errors import InputError
from almenara.settings import load_settings

app = typer.Typer(
    no_args_is_help=True,
    help="Keys of the API's clients. The API follows their file: nothing has to be started again.",
)

NameArgument = Annotated[str, typer.Argument(help="Of the client: letters, digits and ._@-")]
FileOption = Annotated[
    Path | None,
    typer.Option("--file", help="File of keys; default ALMENARA_API_KEYS_FILE, else var/api-keys.json."),
]


@app.command()
def create(
    name: NameArgument,
    scopes: Annotated[
        list[str],
        typer.Option("--scope", help="predict, report (workers), operate (alarms) or admin; may be given again."),
    ],
    expires: Annotated[str | None, typer.Option(help="For how long it is good, such as 12h or 90d.")] = None,
    rate: Annotated[
        float | None, typer.Option(help="Requests a second at most; default ALMENARA_REQUESTS_PER_SECOND, else any.")
    ] = None,
    file: FileOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make a key and print it, once: only its hash is kept.

    Example: `almenara keys create line-2-camera --scope predict --expires 365d`
    """
    over = None if expires is None else _from_now(expires)
    path = _path(file)
    key = api_keys.create_key(path, name, scopes, expires_at=over, requests_per_second=rate)
    if as_json:
        print_json({"name": name, "key": key, "scopes": scopes, "expires_at": over and over.isoformat()})
        return
    typer.secho(f"{path} has the hash of {name}'s key, for {' and '.join(scopes)}. It is shown only now:", err=True)
    typer.echo(key)


@app.command("list")
def list_keys(file: FileOption = None, as_json: JsonOption = False) -> None:
    """List the keys by name; what they are is not known any more.

    Example: `almenara keys list`
    """
    path = _path(file)
    try:
        keys = api_keys.read_keys(path)
    except FileNotFoundError:
        keys = ()
    if as_json:
        print_json({"keys": [key.model_dump(mode="json", exclude={"sha256"}) for key in keys]})
        return
    if not keys:
        stdout.print(f"There is no key in {path}. Make one: almenara keys create NAME --scope predict")
        return
    now = datetime.now(UTC)
    rows = [
        [
            key.name,
            ", ".join(key.scopes),
            f"{key.created_at:%Y-%m-%d}",
            ("" if key.expires_at is None else f"{key.expires_at:%Y-%m-%d %H:%M}")
            + (" (over)" if key.is_over(now) else ""),
            "" if key.requests_per_second is None else f"{key.requests_per_second:g}",
        ]
        for key in keys
    ]
    table(f"Keys in {path}", ["name", "scopes", "made", "over (UTC)", "a second"], rows)


@app.command()
def revoke(name: NameArgument, file: FileOption = None, as_json: JsonOption = False) -> None:
    """Take a key away; a running API refuses it within a second.

    Example: `almenara keys revoke line-2-camera`
    """
    api_keys.revoke_key(_path(file), name)
    if as_json:
        print_json({"revoked": name})
        return
    stdout.print(f"The key of {name} opens nothing any more.")


def _from_now(duration: str) -> datetime:
    try:
        return datetime.now(UTC).replace(microsecond=0) + timedelta(seconds=parse_duration(duration))
    except ValueError as error:
        raise InputError("duration-invalid", f"--expires: {error}.") from None
    except OverflowError:
        raise InputError("duration-invalid", f"--expires: {duration} is too long.", "Leave it out: for ever.") from None


def _path(given: Path | None) -> Path:
    return given or load_settings().api_keys_path
