"""A real SMTP server: log-in, TLS, refusals, and the mails it took."""

from __future__ import annotations

import ssl
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email import message_from_bytes, policy
from email.message import EmailMessage
from pathlib import Path
from typing import Any

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult, Envelope, LoginPassword, Session

from almenara.processes import free_port

USER, PASSWORD = "almenara", "Ama-n3cer/2026"


@dataclass
class Mailbox:
    """What arrived, and how the server behaves: `refuse` may answer to a mail with an SMTP error."""

    port: int
    received: list[EmailMessage] = field(default_factory=list)
    refuse: Callable[[bytes], str | None] = lambda _: None

    async def handle_DATA(self, server: Any, session: Session, envelope: Envelope) -> str:  # noqa: N802 - aiosmtpd's
        assert isinstance(envelope.content, bytes)
        refusal = self.refuse(envelope.content)
        if refusal is None:
            self.received.append(message_from_bytes(envelope.content, policy=policy.default))
        return refusal or "250 taken"


@contextmanager
def smtp_server(*, login: bool = False, certificate: Path | None = None, port: int | None = None) -> Iterator[Mailbox]:
    """An SMTP server on loopback; with `certificate` it demands STARTTLS before it takes anything."""
    mailbox = Mailbox(port or free_port())

    def authenticate(server: Any, session: Session, envelope: Envelope, mechanism: str, data: Any) -> AuthResult:
        known = LoginPassword(USER.encode(), PASSWORD.encode())
        return AuthResult(success=data == known, handled=False)

    context = None
    if certificate is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate / "cert.pem", certificate / "key.pem")
    controller = Controller(
        mailbox,
        hostname="127.0.0.1",
        port=mailbox.port,
        authenticator=authenticate,
        auth_required=login,
        auth_require_tls=False,
        require_starttls=context is not None,
        tls_context=context,
        data_size_limit=64 * 2**20,
    )
    controller.start()
    try:
        yield mailbox
    finally:
        controller.stop()


def self_signed(folder: Path) -> Path:
    """A folder with cert.pem and key.pem for 127.0.0.1."""
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", "/CN=127.0.0.1"]
    command += ["-addext", "subjectAltName=IP:127.0.0.1"]
    command += ["-keyout", str(folder / "key.pem"), "-out", str(folder / "cert.pem")]
    subprocess.run(command, check=True, capture_output=True, timeout=60)
    return folder


def html_of(mail: EmailMessage) -> str:
    """The HTML part of a mail."""
    part = mail.get_body(("html",))
    assert part is not None
    return str(part.get_content())


def pictures_of(mail: EmailMessage) -> dict[str, bytes]:
    """The pictures in a mail, by the name under which its HTML shows them."""
    images = [part for part in mail.walk() if part.get_content_maintype() == "image"]
    return {str(part["Content-ID"]).strip("<>"): part.get_payload(decode=True) for part in images}  # type: ignore[misc]
