"""`almenara backup` and `almenara restore`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import BarColumn, DownloadColumn, TaskID, TextColumn, TimeRemainingColumn, TransferSpeedColumn
from rich.progress import Progress as Bars

from almenara.backup.archive import Manifest
from almenara.console import JsonOption, print_json, stderr
from almenara.contracts import Progress

_Directory = Annotated[
    Path, typer.Option("--project-directory", help="Folder of docker-compose.yaml.", show_default="this folder")
]
_VarDir = Annotated[
    Path | None, typer.Option("--var-dir", help="Without containers: the data folder, `var` of `almenara demo`.")
]


def backup(
    file: Annotated[Path | None, typer.Argument(help="New archive.  [default: almenara-DATE-TIME.tar]")] = None,
    project_directory: _Directory = Path(),
    var_dir: _VarDir = None,
    with_secrets: Annotated[
        bool, typer.Option("--with-secrets", help="Also .env, alarms.env and cameras.env, which hold passwords.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Write databases, buckets, evidence, what waits to be told and the configuration to one archive, while all runs.

    Without --with-secrets the archive holds no passwords of .env: keep that file elsewhere. Recordings in DATA_DIR and
    Jupyter's and Prometheus' own volumes are not in it.

    Example: `almenara backup /mnt/backups/monday.tar`
    """
    target = file or Path(f"almenara-{datetime.now():%Y%m%d-%H%M%S}.tar")
    with _bars() as progress:
        if var_dir is not None:
            from almenara.backup import embedded

            manifest = embedded.back_up(var_dir, target, progress=progress)
        else:
            from almenara.backup import composed

            manifest = composed.back_up(project_directory, target, secrets=with_secrets, progress=progress)
    size = target.stat().st_size
    typer.echo(f"{target}: {size / 2**20:.1f} MiB, read back and verified. Only you can read it.")
    if manifest.kind == "composed" and not with_secrets:
        typer.echo("It holds no passwords: keep .env, alarms.env and cameras.env elsewhere, or add --with-secrets.")
    if as_json:
        print_json({"file": str(target), "bytes": size, **manifest.model_dump(mode="json")})


def restore(
    file: Annotated[Path, typer.Argument(help="Archive of `almenara backup`.", exists=True, dir_okay=False)],
    replace: Annotated[
        bool, typer.Option("--replace", help="Give up what the installation holds, and put the backup in its place.")
    ] = False,
    project_directory: _Directory = Path(),
    var_dir: _VarDir = None,
    as_json: JsonOption = False,
) -> None:
    """Put a backup back and start the services again; the whole archive is verified before anything is touched.

    Example: `almenara restore /mnt/backups/monday.tar`
    """
    if var_dir is not None:
        _restore_folder(file, var_dir, replace=replace, as_json=as_json)
        return
    from almenara.backup import host_files, restoring

    with _bars() as progress:
        done = restoring.restore(project_directory, file, replace=replace, progress=progress)
    typer.echo(f"The backup of {_made(done.manifest)} is restored, and the services run.")
    for path in done.replaced:
        typer.echo(f"{path} is the backup's; yours is now {path.name}{host_files.BEFORE}.")
    for warning in done.warnings:
        typer.echo(f"Not as it was: {warning}.")
    typer.echo("Check: docker compose exec api almenara doctor")
    typer.echo("Check: a run and a model version in MLflow, the last alarm with its picture, every camera's sight.")
    if as_json:
        replaced = [str(path) for path in done.replaced]
        print_json({**done.manifest.model_dump(mode="json"), "replaced": replaced, "warnings": list(done.warnings)})


def _restore_folder(file: Path, var_dir: Path, *, replace: bool, as_json: bool) -> None:
    from almenara.backup import embedded

    with _bars() as progress:
        manifest = embedded.restore(var_dir, file, replace=replace, progress=progress)
    typer.echo(f"The backup of {_made(manifest)} is restored in {var_dir}. Start the services again.")
    if manifest.folder != str(var_dir.resolve()):
        typer.echo(f"It was made of {manifest.folder}: artifacts and evidence are found under that path alone.")
    if as_json:
        print_json(manifest.model_dump(mode="json"))


def _made(manifest: Manifest) -> str:
    return f"{manifest.made_at.astimezone():%Y-%m-%d %H:%M} (release {manifest.release})"


@contextmanager
def _bars() -> Iterator[Progress]:
    """Draws one bar a part, in bytes, on a terminal's standard error; nothing elsewhere."""
    columns = (TextColumn("{task.description:<28}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    bars = Bars(*columns, TimeRemainingColumn(), console=stderr, disable=not stderr.is_terminal)
    with bars:
        tasks: dict[str, TaskID] = {}

        def told(stage: str, done: int, total: int) -> None:
            if stage not in tasks:
                tasks[stage] = bars.add_task(stage, total=total)
            bars.update(tasks[stage], completed=done, total=total)

        yield told
