"""`almenara alarms test-channel`: one message through a real channel."""

from __future__ import annotations

import threading
import time
import uuid
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from almenara.alarms.channels import SEND_SECONDS, Channel, LogChannel
from almenara.alarms.channels.opening import load_checked, open_channel
from almenara.alarms.config import LOG, OpcUaPart
from almenara.alarms.records import AlarmRecord, Message, Notification
from almenara.alarms.vocabulary import Phase
from almenara.errors import InputError
from almenara.redaction import redact
from almenara.settings import load_settings

_GRACE_SECONDS = 2.0  # for what a channel does beside waiting


def try_channel(
    name: Annotated[str, typer.Argument(help="Channel of alarms.yaml, or log.")],
    config: Annotated[
        Path | None, typer.Option(help="The file alarms.yaml. Default: ALMENARA_ALARMS_FILE.", show_default=False)
    ] = None,
) -> None:
    """Send one message of a test through a channel, and say what became of it.

    Example: `almenara alarms test-channel shift --config alarms.yaml`
    """
    channel = _open(name, config)
    began = time.monotonic()
    failure = _send(channel, _message(name))
    seconds = time.monotonic() - began
    if failure is not None:
        typer.secho(f"{name}: the message did not arrive within {seconds:.1f} s. {failure}", fg="red", err=True)
        raise typer.Exit(1)
    typer.echo(f"{name}: the message was taken in {seconds:.1f} s. Look whether it arrived.")


def _open(name: str, path: Path | None) -> Channel:
    settings = load_settings()
    config = load_checked(path or settings.alarms_file)
    if name == LOG:
        return LogChannel(settings.var_dir.resolve() / "alarms" / "alarms.log")
    part = next((part for part in config.channels if part.name == name), None)
    if part is None:
        names = ", ".join([LOG, *(each.name for each in config.channels)])
        remedy = "Name another file with --config." if path or settings.alarms_file else "Name a file with --config."
        raise InputError("channel-unknown", f"There is no channel {name!r}; there are: {names}.", remedy)
    if isinstance(part, OpcUaPart):
        sentence = "clients fetch alarms from this channel, so that there is nowhere to send a message to."
        remedy = "Look with an OPC UA client at its endpoint while the service runs."
        typer.secho(f"{name}: {sentence} {remedy}", fg="red", err=True)
        raise typer.Exit(1)
    return open_channel(part, config=config)


def _send(channel: Channel, message: Message) -> str | None:
    """Why the message did not arrive, or None; as the deliverer, it waits no longer than a channel may take."""
    failures: list[str] = []

    def send() -> None:
        try:
            channel.send(message)
        except Exception as error:  # noqa: BLE001 - whatever a channel fails with is the answer
            failures.append(f"{type(error).__name__}: {redact(str(error))}")
        finally:
            channel.close()

    thread = threading.Thread(target=send, name=f"test-of-{channel.name}", daemon=True)
    thread.start()
    thread.join(SEND_SECONDS + _GRACE_SECONDS)
    if thread.is_alive():
        return "The other side does not answer."
    return failures[0] if failures else None


def _message(channel: str) -> Message:
    now, key = datetime.now(UTC), str(uuid.uuid4())
    alarm = AlarmRecord(
        id=str(uuid.uuid4()),
        source="test",
        kind="system",
        priority="low",
        phase=Phase.UNACKNOWLEDGED,
        score=0.0,
        peak=0.0,
        reason=f"test of channel {channel}",
        model=None,
        evidence=(),
        raised_at=now,
        idempotency_key=key,
    )
    return Message(key=key, notifications=(Notification(key=key, event="test", at=now, alarm=alarm),))
