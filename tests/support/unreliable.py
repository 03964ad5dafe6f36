"""Real receivers that fail four times in ten: half of these refuse, half take what they are sent and do not say so."""

from __future__ import annotations

import contextlib
import random
import socket
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email import message_from_bytes, policy
from email.message import EmailMessage
from typing import IO, Any, Literal

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import Envelope, Session

from almenara.processes import free_port
from tests.support.web_receiver import NO_ANSWER, Receiver, Request, web_receiver

Outcome = Literal["answered", "refused", "unanswered"]
_PUBLISH, _LONGEST_LENGTH = 3, 4


@dataclass
class Fate:
    """What becomes of each attempt: of every ten six are answered, unless told otherwise, in an order by chance."""

    seed: int
    answered: int = 6
    refused: int = 2
    unanswered: int = 2
    met: Counter[Outcome] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self._random, self._lock = random.Random(self.seed), threading.Lock()
        self._coming: list[Outcome] = []

    def next(self) -> Outcome:
        with self._lock:
            if not self._coming:
                parts: dict[Outcome, int] = {
                    "answered": self.answered,
                    "refused": self.refused,
                    "unanswered": self.unanswered,
                }
                self._coming = [outcome for outcome, count in parts.items() for _ in range(count)]
                self._random.shuffle(self._coming)
            outcome = self._coming.pop()
            self.met[outcome] += 1
            return outcome


@dataclass
class UnreliableMailbox:
    """An SMTP server that answers 451, or takes a mail and drops the connection."""

    fate: Fate
    port: int = field(default_factory=free_port)
    received: list[EmailMessage] = field(default_factory=list)

    async def handle_DATA(self, server: Any, session: Session, envelope: Envelope) -> str:  # noqa: N802 - aiosmtpd's
        assert isinstance(envelope.content, bytes)
        outcome = self.fate.next()
        if outcome == "refused":
            return "451 4.3.0 try again later"
        self.received.append(message_from_bytes(envelope.content, policy=policy.default))
        if outcome == "unanswered":
            server.transport.abort()
        return "250 taken"


@contextmanager
def unreliable_smtp(fate: Fate) -> Iterator[UnreliableMailbox]:
    mailbox = UnreliableMailbox(fate)
    controller = Controller(mailbox, hostname="127.0.0.1", port=mailbox.port)
    controller.start()
    try:
        yield mailbox
    finally:
        controller.stop()


@dataclass
class UnreliableReceiver(Receiver):
    """An HTTP server that answers 503, or takes a request and ends the connection."""

    fate: Fate = field(default_factory=lambda: Fate(0))
    lock: threading.Lock = field(default_factory=threading.Lock)

    def take(self, request: Request) -> tuple[int, bytes]:
        outcome = self.fate.next()
        if outcome == "refused":
            return 503, b""
        with self.lock:
            status, content = super().take(request)
        return (NO_ANSWER if outcome == "unanswered" else status), content


@contextmanager
def unreliable_http(fate: Fate, answer: Any = None) -> Iterator[UnreliableReceiver]:
    with web_receiver(receiver=UnreliableReceiver(answer=answer or {}, fate=fate)) as receiver:
        assert isinstance(receiver, UnreliableReceiver)
        yield receiver


@contextmanager
def unreliable_way(to_port: int, fate: Fate) -> Iterator[int]:
    """The port of a way to an MQTT broker that is cut at a publish, before it arrives or before it is acknowledged."""
    open_sockets: set[socket.socket] = set()

    def serve(client: socket.socket) -> None:
        with client, socket.create_connection(("127.0.0.1", to_port)) as broker:
            open_sockets.update((client, broker))
            way = _Way(client, broker, fate)
            back = threading.Thread(target=way.back, daemon=True)
            back.start()
            way.forth()
            back.join()
            open_sockets.difference_update((client, broker))

    def accept(listener: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while True:
                threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()

    with socket.create_server(("127.0.0.1", 0), backlog=32) as listener:
        thread = threading.Thread(target=accept, args=(listener,), daemon=True)
        thread.start()
        yield int(listener.getsockname()[1])
        listener.shutdown(socket.SHUT_RDWR)
        for each in tuple(open_sockets):
            _cut(each)
    thread.join(5)


class _Way:
    """One connection, until either side ends it or fate does."""

    def __init__(self, client: socket.socket, broker: socket.socket, fate: Fate) -> None:
        self._client, self._broker, self._fate = client, broker, fate
        self._swallows = threading.Event()

    def forth(self) -> None:
        """What the client sends, packet by packet."""
        with contextlib.suppress(OSError), self._client.makefile("rb") as sent:
            while packet := _packet(sent):
                outcome: Outcome = self._fate.next() if packet[0] >> 4 == _PUBLISH else "answered"
                if outcome == "refused":
                    break
                if outcome == "unanswered":
                    self._swallows.set()
                self._broker.sendall(packet)
        if not self._swallows.is_set():
            self._end()

    def back(self) -> None:
        """What the broker answers, until it is the acknowledgement that gets lost."""
        with contextlib.suppress(OSError):
            while (answer := self._broker.recv(65536)) and not self._swallows.is_set():
                self._client.sendall(answer)
        self._end()

    def _end(self) -> None:
        _cut(self._client)
        _cut(self._broker)


def _cut(connection: socket.socket) -> None:
    with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)


def _packet(stream: IO[bytes]) -> bytes:
    """The next whole MQTT packet; empty at the end of the stream."""
    head = stream.read(1)
    length = 0
    for place in range(_LONGEST_LENGTH):
        if not (digit := stream.read(1)):
            return b""
        head += digit
        length += (digit[0] & 0x7F) << 7 * place
        if not digit[0] & 0x80:
            break
    body = stream.read(length)
    return head + body if len(body) == length else b""
