"""The `camera-worker` command: watch cameras, configure, probe and simulate them."""

from __future__ import annotations

import sys
import traceback

import av
import typer

from almenara.errors import AlmenaraError
from almenara.redaction import redact
from camera_worker.cli.configuration import create_config, validate
from camera_worker.cli.fault import fault
from camera_worker.cli.probe import probe
from camera_worker.cli.simulate import simulate
from camera_worker.cli.watch import watch
from camera_worker.simulator import CONTROL_HELP

EXIT_CODES = "\n\n".join(
    [
        "Exit codes:",
        "0 ended, or was stopped",
        "1 failed in a way that nobody foresaw; the traceback tells",
        "2 refused to work, and said why",
        "70 too many captures got stuck: a new process is the cure",
    ]
)

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, no_args_is_help=False)
app.callback(invoke_without_command=True, epilog=EXIT_CODES)(watch)
app.command(epilog="Exit codes: 0 valid; 2 not.")(validate)
app.command("create-config")(create_config)
app.command(epilog="Exit codes: 0 watched; 2 it gives no picture.")(probe)
app.command(epilog="\n\n".join(filter(None, CONTROL_HELP.splitlines())))(simulate)
app.command(epilog="\n\n".join(filter(None, CONTROL_HELP.splitlines())))(fault)


def main() -> None:
    """Entry point: what is refused on purpose is one sentence on stderr and exit code 2.

    Anything else is a traceback without credentials and exit code 1.
    """
    av.logging.set_level(None)
    try:
        app(prog_name="camera-worker")
    except AlmenaraError as error:
        sys.stderr.write(f"camera-worker: {redact(str(error))}\n")
        sys.exit(2)
    except OSError as error:
        where = f"{error.filename or 'The system'}: {error.strerror or error}. Check path, rights and disk."
        sys.stderr.write(f"camera-worker: {redact(where)}\n")
        sys.exit(2)
    except Exception:  # noqa: BLE001 - shown as Python would, but redacted
        sys.stderr.write(redact(traceback.format_exc()))
        sys.exit(1)
