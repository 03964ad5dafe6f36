"""Mail, SMS, push, chat and webhooks, carried by Apprise; retries, order and pace are the deliverer's."""

from __future__ import annotations

import contextlib
import copy
import logging
import re
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from apprise import Apprise, AppriseAsset, NotifyFormat, PersistentStoreMode
from apprise.plugins import url_to_dict
from apprise.plugins.base import NotifyBase
from apprise.plugins.email import NotifyEmail

from almenara.alarms.channels import apprise_log, apprise_parts
from almenara.alarms.channels.apprise_parts import Pictures
from almenara.alarms.channels.base import SEND_SECONDS, Pace
from almenara.alarms.channels.patience import within
from almenara.alarms.messages import Renderer
from almenara.alarms.records import EvidenceFile, Message
from almenara.errors import ConfigurationError

if TYPE_CHECKING:
    from almenara.evidence import EvidenceReader

_log = logging.getLogger(__name__)

_PATIENCE_SECONDS = SEND_SECONDS - 1.0
_CONNECT_SECONDS, _READ_SECONDS = 3.0, 8.0
_PICTURE_SECONDS = 3.0
_PUSH_CHARACTERS = 3500  # ntfy turns a text of more than 4,096 bytes into a file
_SMS_CHARACTERS = 1600
_LONG_SMS = frozenset({"exotel", "kaleyra", "klr", "smpp", "smpps"})  # gateways whose plugin names a higher limit
_TOO_LARGE = re.compile(r"\b(413|552|5\.3\.4|too large|exceeds)\b", re.IGNORECASE)
_ASSET = AppriseAsset(
    app_id="Almenara",
    app_desc="Almenara alarms",
    app_url="",
    image_url_mask="",
    image_url_logo="",
    storage_mode=PersistentStoreMode.MEMORY,
)


class AppriseChannel:
    """One Apprise URL.

    SMS services get a short text without pictures, mail an HTML message with the pictures in it, webhooks all pictures
    and the notifications as data, anything else a title, a text and one picture. Pictures that do not come along are
    linked. The idempotency key is the header ``Idempotency-Key`` of mails and webhooks and the field
    ``idempotency_key`` of webhooks; its first eight characters end every text.
    """

    def __init__(
        self,
        name: str,
        url: str,
        *,
        renderer: Renderer,
        pace: Pace,
        attach: bool = True,
        evidence: EvidenceReader | None = None,
    ) -> None:
        """Check the URL; nothing is sent.

        Args:
            name: of the channel.
            url: as Apprise documents it; retry options in it have no effect.
            renderer: writes the texts.
            pace: what its readers can take.
            attach: send pictures where the service takes them; else they are linked.
            evidence: where pictures are read; None links them.

        Raises:
            ConfigurationError: no service takes the URL, or it has a recipient or an option that is not valid.
        """
        self._name, self._pace = name, pace
        self._renderer, self._evidence = renderer, evidence
        with apprise_log.listening() as said:
            parts: dict[str, Any] | None = url_to_dict(url)  # type: ignore[no-untyped-call]
            plugin = Apprise.instantiate(copy.deepcopy(parts), asset=_ASSET) if parts else None
        if parts is None or plugin is None:
            raise ConfigurationError(
                f"The URL of channel {name} is none that Apprise can use.",
                "Write it as https://appriseit.com/services/ shows for the service.",
            )
        self._secrets = apprise_log.secrets(url, plugin)
        if said.lines:
            fact = apprise_log.hide(self._secrets, said.text())
            raise ConfigurationError(f"The URL of channel {name} is not right: {fact}", "Correct it.")
        self._parts = parts
        self._accepts = frozenset(plugin.template_kwargs)
        self._mail = isinstance(plugin, NotifyEmail)
        self._sms = _is_sms(plugin)
        self._attach = attach and plugin.attachment_support and not self._sms
        self._unfit_key: str | None = None

    @property
    def name(self) -> str:
        return self._name

    @property
    def pace(self) -> Pace | None:
        return self._pace

    def send(self, message: Message) -> None:
        """Send one message, once.

        After an attempt that was too slow or too large with its pictures, the next one links them.

        Raises:
            OSError: it may not have arrived; says why, without the URL's secrets.
        """
        end = time.monotonic() + _PATIENCE_SECONDS
        pictures = {} if message.key == self._unfit_key else self._pictures(message)
        try:
            said = within(end - time.monotonic(), lambda: self._post(message, pictures), f"channel {self._name}")
        except TimeoutError as error:
            self._unfit_key = message.key
            raise TimeoutError(f"Channel {self._name} was not done within {_PATIENCE_SECONDS:g} s.") from error
        if said is None:
            return
        reason = apprise_log.hide(self._secrets, said)
        if _TOO_LARGE.search(reason):
            self._unfit_key = message.key
        raise OSError(f"Channel {self._name} could not send: {reason or 'the service does not say why.'}")

    def close(self) -> None:
        """Nothing is open between two messages."""

    def _pictures(self, message: Message) -> Pictures:
        """What can be attached and is read in good time."""
        evidence = self._evidence
        if not self._attach or evidence is None or message.kind == "digest":
            return {}
        wanted = apprise_parts.pictures(message, one=not (self._mail or "payload" in self._accepts))
        pictures: dict[EvidenceFile, bytes] = {}
        with contextlib.suppress(TimeoutError):
            within(_PICTURE_SECONDS, lambda: _read(evidence, wanted, pictures), f"pictures for {self._name}")
        return dict(pictures)

    def _post(self, message: Message, pictures: Pictures) -> str | None:
        """None when the service took it, else what Apprise says about it."""
        with apprise_log.listening() as said, apprise_parts.attachments(pictures) as (names, attachments):
            try:
                plugin = self._plugin(message)
                title, body, body_format = self._compose(plugin, message, names)
                taken = plugin.notify(
                    body=body,
                    title=title,
                    notify_type=apprise_parts.notify_type(message),
                    body_format=body_format,
                    attach=attachments,
                )
            except Exception as error:  # noqa: BLE001 - whatever a plugin raises, the message may not have arrived
                return f"{said.text()} {type(error).__name__}: {error}".strip()
            return None if taken else said.text()

    def _plugin(self, message: Message) -> NotifyBase:
        """Apprise's service for one message, so that neither its headers nor its throttle outlive it."""
        parts = copy.deepcopy(self._parts)
        if "headers" in self._accepts:
            parts["headers"] = {**(parts.get("headers") or {}), **apprise_parts.headers(message, mail=self._mail)}
        if "payload" in self._accepts:
            fields = apprise_parts.payload(message, nested=parts["schema"].startswith("json"))
            parts["payload"] = {**(parts.get("payload") or {}), **fields}
        if self._mail:
            parts["inline"] = True
        plugin = Apprise.instantiate(parts, asset=_ASSET, suppress_exceptions=False)
        if plugin is None:
            raise OSError("Apprise no longer takes the URL.")
        plugin.request_rate_per_sec = 0
        plugin.socket_connect_timeout = _READ_SECONDS if self._mail else _CONNECT_SECONDS  # SMTP has no other
        plugin.socket_read_timeout = _READ_SECONDS
        return plugin

    def _compose(self, plugin: NotifyBase, message: Message, names: Mapping[str, str]) -> tuple[str, str, NotifyFormat]:
        """Title, body and what the body is written in."""
        write = self._renderer
        if self._sms:
            return "", write.short(message), NotifyFormat.TEXT
        title = write.subject(message)[: plugin.title_maxlen] if plugin.title_maxlen > 0 else ""
        only_html = plugin.resolve_format(NotifyFormat.TEXT) is NotifyFormat.HTML
        if only_html or (self._mail and plugin.resolve_format(NotifyFormat.HTML) is NotifyFormat.HTML):
            return title, write.html(message, attached=names, inline=self._mail), NotifyFormat.HTML
        limit = None if self._mail or "payload" in self._accepts else min(plugin.body_maxlen, _PUSH_CHARACTERS)
        return title, write.text(message, attached=names, limit=limit, headline=not title), NotifyFormat.TEXT


def _read(evidence: EvidenceReader, files: Sequence[EvidenceFile], pictures: dict[EvidenceFile, bytes]) -> None:
    """Fill `pictures` with what can be read; no failure of a store may hold an alarm back."""
    for file in files:
        try:
            pictures[file] = evidence.read(file)
        except Exception:  # noqa: BLE001 - see above; the picture is linked
            _log.warning("%s cannot be read and is not attached.", file.name, exc_info=True)


def _is_sms(plugin: NotifyBase) -> bool:
    """Apprise does not say which services send SMS: they have no title and take little text."""
    untitled = plugin.title_maxlen <= 0
    return (untitled and 0 < plugin.body_maxlen <= _SMS_CHARACTERS) or plugin.schema in _LONG_SMS
