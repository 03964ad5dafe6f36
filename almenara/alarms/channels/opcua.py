"""OPC UA: a server of our own whose alarms and conditions a plant management system subscribes to."""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import re
import secrets
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from asyncua import ua
from asyncua.crypto.permission_rules import PermissionRuleset, User, UserRole
from asyncua.crypto.security_policies import SecurityPolicyFactory, SecurityPolicyNone
from asyncua.server.server import Server
from asyncua.server.user_managers import UserManager
from asyncua.ua.object_ids import ObjectIds
from asyncua.ua.status_codes import StatusCodes

from almenara.alarms.channels.addresses import Address, parse_address
from almenara.alarms.channels.base import SEND_SECONDS, Pace
from almenara.alarms.channels.opcua_conditions import NAMESPACE, Conditions, node_id
from almenara.alarms.records import AlarmRecord, Message
from almenara.alarms.vocabulary import Phase
from almenara.errors import AlmenaraError, ConfigurationError

logger = logging.getLogger(__name__)

START_SECONDS = 60.0
"""How long the server may take to start: seconds of computing, which a busy machine stretches."""
FOLLOW_SECONDS = 2.0
"""How often the conditions are compared with the alarms that stand."""

_EXAMPLE = "opc.tcp://127.0.0.1:4840/almenara"
_OPTIONS = frozenset({"certificate", "key"})
_ENCRYPTED = [
    ua.SecurityPolicyType.Basic256Sha256_SignAndEncrypt,
    ua.SecurityPolicyType.Aes128Sha256RsaOaep_SignAndEncrypt,
    ua.SecurityPolicyType.Aes256Sha256RsaPss_SignAndEncrypt,
]
_REFRESH_SEVERITY = 1
_LONGEST_USER, _LONGEST_COMMENT = 200, 2000
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_client_user: ContextVar[str] = ContextVar("_client_user", default="OPC UA client")
"""Who is signed in on the connection whose request is being served; asyncua does not tell methods."""


def _shorten(record: logging.LogRecord) -> bool:
    """One line of asyncua in place of a traceback for what a client sent; none where `start` raises the same error."""
    if record.exc_info is not None and record.exc_info[1] is not None:
        record.msg, record.args = f"{record.getMessage()}: {record.exc_info[1]}", ()
        record.exc_info = None
    return "error starting server" not in str(record.msg)


@dataclass(frozen=True)
class _Running:
    loop: asyncio.AbstractEventLoop
    stop: asyncio.Event
    conditions: Conditions


class OpcUaChannel:
    """Serves alarms as conditions, on a thread of its own, from `start` or the first message until `close`.

    A message is told when the server holds it: subscribers get the event, others see the condition with their next
    ConditionRefresh.
    """

    pace: Pace | None = None

    def __init__(
        self,
        name: str,
        endpoint: str,
        *,
        acknowledge: Callable[[str, str, str], None] | None = None,
        standing: Callable[[], Iterable[AlarmRecord]] | None = None,
    ) -> None:
        """Take its settings; nothing listens yet.

        Args:
            name: of the channel.
            endpoint: where it listens, as ``opc.tcp://127.0.0.1:4840/almenara``. Beyond loopback it needs a user, a
                password, and the files of a certificate and its key:
                ``opc.tcp://user:password@0.0.0.0:4840/almenara?certificate=server.der&key=server.pem``.
            acknowledge: called with alarm, user and comment when a client acknowledges; None: clients cannot.
            standing: the alarms that stand. With it, a server that starts shows them, and conditions follow what people
                do elsewhere.

        Raises:
            ConfigurationError: the endpoint cannot be used.
        """
        self._name = name
        self._address = parse_endpoint(endpoint)
        self._acknowledge = acknowledge
        self._standing = standing
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._ready: Future[_Running] = Future()

    @property
    def name(self) -> str:
        return self._name

    def start(self) -> None:
        """Listen ahead of the first message.

        Raises:
            ConfigurationError: the certificate or its key cannot be used.
            OSError: the port is in use, or the server is not ready in time.
        """
        self._started(START_SECONDS)

    def send(self, message: Message) -> None:
        """Hand a message to the server's subscribers; raises as `start` does."""
        deadline = time.monotonic() + SEND_SECONDS
        running = self._started(SEND_SECONDS)
        for notification in message.notifications:
            told = asyncio.run_coroutine_threadsafe(running.conditions.tell(notification), running.loop)
            told.result(max(deadline - time.monotonic(), 0.1))

    def close(self) -> None:
        """Stop the server."""
        with self._lock:
            thread, self._thread = self._thread, None
            if thread is None or not thread.is_alive():
                return
            if self._ready.done() and self._ready.exception() is None:
                running = self._ready.result()
                running.loop.call_soon_threadsafe(running.stop.set)
            thread.join(SEND_SECONDS)

    def _started(self, seconds: float) -> _Running:
        with self._lock:
            failed = self._ready.done() and self._ready.exception() is not None
            if self._thread is None or failed or not self._thread.is_alive():
                self._ready = Future()
                self._thread = threading.Thread(
                    target=lambda ready=self._ready: asyncio.run(self._serve(ready)), name=f"opcua-{self._name}"
                )
                self._thread.daemon = True
                self._thread.start()
            ready = self._ready
        return ready.result(seconds)

    async def _serve(self, ready: Future[_Running]) -> None:
        stop = asyncio.Event()
        try:
            server = await _prepare(self._address)
            conditions = await Conditions.create(server)
            self._offer_acknowledge(server, conditions)
            for alarm in await self._standing_alarms():
                await conditions.show(alarm, alarm.idempotency_key, alarm.raised_at)
            await server.start()
        except Exception as error:  # noqa: BLE001 - for whoever waits for the server
            ready.set_exception(error)
            return
        try:
            ready.set_result(_Running(asyncio.get_running_loop(), stop, conditions))
            while not stop.is_set():
                await self._follow(conditions)
                await _wait(stop, FOLLOW_SECONDS)
        finally:
            await server.stop()

    async def _follow(self, conditions: Conditions) -> None:
        if self._standing is None:
            return
        try:
            standing = {alarm.source: alarm for alarm in await self._standing_alarms()}
            await conditions.follow(standing, datetime.now(UTC))
        except Exception:
            logger.exception("Channel %s cannot compare its conditions with the alarms that stand.", self._name)

    async def _standing_alarms(self) -> list[AlarmRecord]:
        standing = self._standing
        return [] if standing is None else await asyncio.to_thread(lambda: list(standing()))

    def _offer_acknowledge(self, server: Server, conditions: Conditions) -> None:
        acknowledge = self._acknowledge
        if acknowledge is None:
            return

        async def method(parent: ua.NodeId, event_id: ua.Variant, comment: ua.Variant) -> ua.StatusCode:
            code = await _acknowledge(acknowledge, conditions, parent, event_id.Value, comment.Value)
            return ua.StatusCode(code)  # type: ignore[arg-type]

        node = node_id(ObjectIds.AcknowledgeableConditionType_Acknowledge)
        server.iserver.isession.add_method_callback(node, method)


class _DiscoveryOnly(PermissionRuleset):
    """Refuses whatever a client asks for, but endpoints and a session, before the rules are asked."""

    def check_validity(self, user: Any, action_type: Any, body: Any) -> bool:  # noqa: ARG002 - as declared
        return False


class _OneUser(UserManager):
    """The user of the endpoint, or anybody where it names none."""

    def __init__(self, address: Address) -> None:
        self._address = address

    def get_user(
        self,
        iserver: Any,  # noqa: ARG002 - asyncua passes it by this name
        username: str | None = None,
        password: str | None = None,
        certificate: Any = None,  # noqa: ARG002 - as above
    ) -> User | None:
        if self._address.user is not None:
            given = f"{username or ''}\n{password or ''}".encode()
            if not secrets.compare_digest(given, f"{self._address.user}\n{self._address.password}".encode()):
                return None
            _client_user.set(self._address.user)
        return User(role=UserRole.User, name=username)


def parse_endpoint(endpoint: str) -> Address:
    """The parts of an endpoint that may be offered.

    Raises:
        ConfigurationError: it cannot be used, or it would let anybody on the network in.
    """
    address = parse_address(endpoint, {"opc.tcp": 4840}, _EXAMPLE, _OPTIONS)
    files = [address.options[name] for name in sorted(_OPTIONS & set(address.options))]
    if files and len(files) < len(_OPTIONS):
        raise ConfigurationError(f"{address} has only one of certificate and key.", "Name both, or neither.")
    for name in files:
        if not Path(name).is_file():
            raise ConfigurationError(f"There is no file {name}, which {address} needs.", "Correct its path.")
    if address.user is not None and not address.password:
        raise ConfigurationError(f"{address} names a user without a password.", "Give it one, from the environment.")
    if not _loops_back(address.host) and (address.user is None or not files):
        raise ConfigurationError(
            f"{address} is open to the network without user, password and certificate.",
            f"Listen on loopback ({_EXAMPLE}), or give all of them as docs/alarms/buses.md shows.",
        )
    return address


async def _acknowledge(
    acknowledge: Callable[[str, str, str], None], conditions: Conditions, node: ua.NodeId, event_id: bytes, comment: Any
) -> int:
    """Acknowledge the alarm of a condition; the status code of the call."""
    condition = conditions.find(node)
    if condition is None:
        return StatusCodes.BadNodeIdInvalid
    if event_id not in condition.event_ids:
        return StatusCodes.BadEventIdUnknown
    alarm = condition.alarm
    if alarm.phase not in (Phase.UNACKNOWLEDGED, Phase.RETURNED_UNACKNOWLEDGED):
        return StatusCodes.BadConditionBranchAlreadyAcked
    user = _stored(_client_user.get(), _LONGEST_USER)
    text = _stored((comment.Text or "") if comment is not None else "", _LONGEST_COMMENT)
    try:
        await asyncio.to_thread(acknowledge, alarm.id, user, text)
    except AlmenaraError as error:
        logger.warning("Alarm %s was not acknowledged over OPC UA: %s", alarm.id, error)
        return StatusCodes.BadInvalidState
    now = datetime.now(UTC)
    phase = Phase.ACKNOWLEDGED if alarm.phase.active else Phase.NORMAL
    found = {"phase": phase, "acknowledged_at": now, "acknowledged_by": user, "comment": text}
    await conditions.show(alarm.model_copy(update=found), f"{alarm.idempotency_key}/acknowledged", now)
    return StatusCodes.Good


def _stored(text: str, longest: int) -> str:
    """A client's text as a database takes it: cut, and with a space for every control character."""
    return _CONTROL.sub(" ", text[:longest])


def _loops_back(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


async def _prepare(address: Address) -> Server:
    logging.getLogger("asyncua").setLevel(logging.WARNING)
    for part in ("server", "binary_server_asyncio"):
        logging.getLogger(f"asyncua.server.{part}").addFilter(_shorten)
    server = Server(user_manager=_OneUser(address))
    server.iserver.bind_condition_methods = _REFRESH_SEVERITY
    server.allow_remote_admin(False)
    await server.init()
    await server.set_application_uri(NAMESPACE.rpartition(":")[0])
    server.set_server_name("Almenara")
    server.set_endpoint(f"{address}{address.path}")
    server.set_identity_tokens([ua.AnonymousIdentityToken if address.user is None else ua.UserNameIdentityToken])
    if not address.options:
        server.set_security_policy([ua.SecurityPolicyType.NoSecurity])
        return server
    try:
        await server.load_certificate(address.options["certificate"])
        await server.load_private_key(address.options["key"])
    except (ValueError, OSError) as error:
        raise ConfigurationError(
            f"The certificate or the key of {address} cannot be read: {error}.", "Write them as .der or .pem files."
        ) from None
    server.set_security_policy(_ENCRYPTED)
    # asyncua lets clients open a channel without encryption, to ask for endpoints, and would let them sign in on it.
    discovery = SecurityPolicyFactory(  # type: ignore[no-untyped-call]
        SecurityPolicyNone, ua.MessageSecurityMode.None_, permission_ruleset=_DiscoveryOnly()
    )
    server._policies.append(discovery)
    return server


async def _wait(stop: asyncio.Event, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await stop.wait()
    except TimeoutError:
        pass
