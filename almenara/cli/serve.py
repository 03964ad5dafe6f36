"""`almenara serve`: the API as a child process."""

from __future__ import annotations

import subprocess
import sys
from typing import Annotated

import typer


def serve(
    host: Annotated[str | None, typer.Option(help="Address; off loopback needs ALMENARA_API_KEY.")] = None,
    port: Annotated[int | None, typer.Option(min=1, max=65535)] = None,
) -> None:
    """Serve the registry's champions over HTTP until Ctrl-C.

    Example: `almenara serve --port 8000`
    """
    options = [*(["--host", host] if host else []), *(["--port", str(port)] if port else [])]
    child = subprocess.Popen([sys.executable, "-m", "almenara_api", *options])
    while True:
        try:
            raise typer.Exit(child.wait())
        except KeyboardInterrupt:  # Ctrl-C reaches the child too: wait for it to end cleanly
            continue
