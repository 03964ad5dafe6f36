"""`almenara serve`: the API, which takes this process's place and so its signals too."""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer


def serve(
    host: Annotated[str | None, typer.Option(help="Address; off loopback needs a key, see `almenara keys`.")] = None,
    port: Annotated[int | None, typer.Option(min=1, max=65535)] = None,
) -> None:
    """Serve the registry's champions over HTTP until Ctrl-C.

    Example: `almenara serve --port 8000`
    """
    options = [*(["--host", host] if host else []), *(["--port", str(port)] if port else [])]
    os.execv(sys.executable, [sys.executable, "-m", "almenara_api", *options])  # noqa: S606  our own module
