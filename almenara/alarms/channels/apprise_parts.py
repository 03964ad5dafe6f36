"""What travels with a text through Apprise: pictures as files, headers, and a webhook's fields."""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from apprise import AppriseAttachment, NotifyType
from apprise.attachment.file import AttachFile

from almenara.alarms.records import EvidenceFile, Message
from almenara.alarms.vocabulary import PRIORITIES

Pictures = Mapping[EvidenceFile, bytes]

_PICTURE_BYTES = 8 * 2**20
_UNSAFE = re.compile(r"[^A-Za-z0-9._-]+")


def pictures(message: Message, *, one: bool) -> list[EvidenceFile]:
    """The pictures of a message's alarms that are worth sending, together at most 8 MiB.

    Args:
        message: what is told; a return sends none.
        one: only the best one, which is an overlay.
    """
    told = [each.alarm for each in message.notifications if each.event != "returned"]
    files = list(
        dict.fromkeys(file for alarm in told for file in alarm.evidence if file.media_type.startswith("image/"))
    )
    if one:
        files.sort(key=lambda file: "overlay" not in file.name)
    chosen: list[EvidenceFile] = []
    left = _PICTURE_BYTES
    for file in files:
        if file.size <= left:
            chosen.append(file)
            left -= file.size
    return chosen[:1] if one else chosen


@contextmanager
def attachments(pictures: Pictures) -> Iterator[tuple[dict[str, str], AppriseAttachment | None]]:
    """Pictures as temporary files, since several services of Apprise open them by their path.

    Yields:
        The name of each picture by its uri, and Apprise's attachments; nothing when they cannot be written.
    """
    with ExitStack() as stack:
        names: dict[str, str] = {}
        attached = AppriseAttachment()
        try:
            if pictures:
                folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="almenara-")))
            for number, (file, content) in enumerate(pictures.items(), start=1):
                name = _UNSAFE.sub("-", file.name)
                name = f"{number}-{name}" if name in names.values() else name
                (folder / name).write_bytes(content)
                attached.add(AttachFile(str(folder / name), name=name, mimetype=file.media_type))  # type: ignore[no-untyped-call]
                names[file.uri] = name
        except OSError:
            yield {}, None
        else:
            yield names, attached if names else None


def headers(message: Message, *, mail: bool) -> dict[str, str]:
    """Headers of a mail or of an HTTP request; mails about one alarm make a thread."""
    key = {"Idempotency-Key": message.key}
    if not mail:
        return key
    thread = {"References": f"<{message.notifications[0].alarm.id}@almenara>"} if message.kind == "single" else {}
    return {**key, **thread, "Auto-Submitted": "auto-generated"}


def payload(message: Message, *, nested: bool) -> dict[str, Any]:
    """Fields of a webhook.

    Args:
        message: what is told.
        nested: the notifications as objects; else as one JSON text.
    """
    notifications = [each.model_dump(mode="json") for each in message.notifications]
    return {
        "idempotency_key": message.key,
        "kind": message.kind,
        "event": message.notifications[0].event if message.kind == "single" else message.kind,
        "notifications": notifications if nested else json.dumps(notifications),
    }


def notify_type(message: Message) -> NotifyType:
    """Apprise's idea of urgency, which some services show as a colour or a sound."""
    events = {each.event for each in message.notifications}
    if events == {"returned"}:
        return NotifyType.SUCCESS
    if events == {"test"}:
        return NotifyType.INFO
    urgent = max(PRIORITIES.index(each.alarm.priority) for each in message.notifications)
    return NotifyType.FAILURE if urgent >= PRIORITIES.index("high") else NotifyType.WARNING
