"""MQTT: each notification as JSON, the state of each source as a retained message, and whether anybody tells at all."""

from __future__ import annotations

import ssl
import threading
import time
import uuid
from collections.abc import Callable
from datetime import datetime
from typing import Any
from urllib.parse import quote

from paho.mqtt.client import Client, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode
from pydantic import Field

from almenara.alarms.channels.addresses import Address, parse_address
from almenara.alarms.channels.base import SEND_SECONDS, Pace
from almenara.alarms.records import Message, Notification
from almenara.alarms.vocabulary import Priority
from almenara.contracts import Contract
from almenara.errors import ConfigurationError

ONLINE, OFFLINE = b"online", b"offline"
KEEP_ALIVE_SECONDS = 15
"""After one and a half times this the broker publishes the last will of a process that fell silent."""

_CONNECT_SECONDS = 2.5
_SEND_SECONDS = SEND_SECONDS - _CONNECT_SECONDS - 0.5  # ending a hung connection can take as long as making one


class SourceState(Contract):
    """The retained message of a source: whether it was raised or had returned when it was last told of.

    Nobody tells acknowledgements, so it says nothing of them.
    """

    source: str
    active: bool = Field(description="raised, and not returned to normal since")
    priority: Priority
    since: datetime = Field(description="of the latest raise; once it has returned, of the return")
    alarm_id: str
    key: str = Field(description="of the notification that told it")


class Connection:
    """One connection to a broker (MQTT 5), kept and made again by its own thread until `close`.

    Nothing is queued in it: what was not acknowledged in time is for the caller to send again on a new connection.
    """

    def __init__(self, address: Address, on_connect: Callable[[Client], None] | None = None) -> None:
        """Prepare it.

        Raises:
            ConfigurationError: the file of certificates that the address names cannot be used.
        """
        self._address = address
        self._on_connect = on_connect
        self._answered = threading.Event()
        self._refusal = ""
        self._rejected: dict[int, str] = {}
        # A random name: two processes with the same one would keep throwing each other out.
        self.client = Client(
            CallbackAPIVersion.VERSION2, f"almenara-{uuid.uuid4().hex[:12]}", protocol=MQTTProtocolVersion.MQTTv5
        )
        self.client.connect_timeout = _CONNECT_SECONDS
        self.client.reconnect_delay_set(1, 30)
        self.client.on_connect = self._connected
        self.client.on_publish = self._published
        if address.user is not None:
            self.client.username_pw_set(address.user, address.password)
        if address.scheme == "mqtts":
            self.client.tls_set_context(_tls(address.options.get("ca")))

    @property
    def alive(self) -> bool:
        return self.client.is_connected()

    def open(self, deadline: float) -> None:
        """Connect, and wait until the broker has agreed; `deadline` is of the monotonic clock.

        Raises:
            OSError: nobody answers, or not before the deadline.
            ConnectionRefusedError: the broker refuses; the text says why.
        """
        self.client.connect(self._address.host, self._address.port, keepalive=KEEP_ALIVE_SECONDS)
        self.client.loop_start()
        if not self._answered.wait(max(deadline - time.monotonic(), 0)):
            raise TimeoutError(f"{self._address} did not answer in time.")
        if self._refusal:
            raise ConnectionRefusedError(f"{self._address} refused the connection: {self._refusal}.")

    def publish(self, topic: str, payload: bytes | str, *, retain: bool = False, deadline: float) -> None:
        """Publish with QoS 1 and wait for the broker's word; `deadline` is of the monotonic clock.

        Raises:
            OSError: the broker did not take it, or not before the deadline.
        """
        info = self.client.publish(topic, payload, qos=1, retain=retain)
        try:
            info.wait_for_publish(max(deadline - time.monotonic(), 0.01))
        except (RuntimeError, ValueError) as error:
            raise ConnectionError(f"{self._address}: {error}.") from error
        if not info.is_published():
            raise TimeoutError(f"{self._address} did not acknowledge in time.")
        if refusal := self._rejected.pop(info.mid, None):
            raise PermissionError(f"{self._address} does not take messages to {topic}: {refusal}.")

    def close(self) -> None:
        """Disconnect without the last will."""
        self.client.disconnect()
        self.client.loop_stop()

    def _connected(self, client: Client, _data: Any, _flags: Any, reason: ReasonCode, _more: Any) -> None:
        self._refusal = str(reason) if reason.is_failure else ""
        if self._on_connect is not None and not reason.is_failure:
            self._on_connect(client)
        self._answered.set()

    def _published(self, _client: Client, _data: Any, mid: int, reason: ReasonCode, _more: Properties) -> None:
        if reason.is_failure:
            self._rejected[mid] = str(reason)


class MqttChannel:
    """Tells a broker, over a connection that is made at the first use and kept.

    - ``TOPIC/alarms/SOURCE``: every notification as JSON (`Notification`), QoS 1, not retained.
    - ``TOPIC/state/SOURCE``: `SourceState` as of the last notification, QoS 1, retained.
    - ``TOPIC/status``: ``online``, or ``offline`` as the last will, retained. Processes may share a topic: whoever is
      connected and sees another's ``offline`` says ``online`` again.
    """

    pace: Pace | None = None

    def __init__(self, name: str, url: str, *, topic: str = "almenara") -> None:
        """Take its settings; nothing is connected yet.

        Raises:
            ConfigurationError: the address or the topic cannot be used.
        """
        self._name = name
        self._address = parse_broker(url)
        if self._address.path.strip("/"):
            raise ConfigurationError(f"The address of channel {name} has a path.", "Give the topic as 'topic:'.")
        if topic != escape(topic) or topic.startswith("/") or not topic:
            raise ConfigurationError(
                f"The topic of channel {name} cannot be used.", "Write one without '+', '#', '%' and a leading '$'."
            )
        self._topic = topic
        self._connection: Connection | None = None
        self._lock = threading.Lock()

    @property
    def name(self) -> str:
        return self._name

    def start(self) -> None:
        """Connect ahead of the first message, so that the status topic says ``online``; raises as `send` does."""
        with self._lock:
            self._open(time.monotonic() + _SEND_SECONDS)

    def send(self, message: Message) -> None:
        """Publish, and return when the broker has everything.

        Raises:
            OSError: it may lack something; the connection is ended and the next call makes another.
        """
        deadline = time.monotonic() + _SEND_SECONDS
        with self._lock:
            connection = self._open(deadline)
            try:
                for notification in message.notifications:
                    self._tell(connection, notification, deadline)
            except OSError:
                self._drop()
                raise

    def close(self) -> None:
        """Say ``offline`` and disconnect."""
        with self._lock:
            if self._connection is None:
                return
            try:
                if self._connection.alive:
                    self._connection.client.message_callback_remove(self._status)
                    self._connection.publish(self._status, OFFLINE, retain=True, deadline=time.monotonic() + 2)
            except OSError:
                pass  # then the last will says it
            finally:
                self._drop()

    @property
    def _status(self) -> str:
        return f"{self._topic}/status"

    def _tell(self, connection: Connection, notification: Notification, deadline: float) -> None:
        source = escape(notification.alarm.source)
        connection.publish(f"{self._topic}/alarms/{source}", notification.model_dump_json(), deadline=deadline)
        if notification.event != "test":
            state = source_state(notification).model_dump_json()
            connection.publish(f"{self._topic}/state/{source}", state, retain=True, deadline=deadline)

    def _open(self, deadline: float) -> Connection:
        if self._connection is not None and self._connection.alive:
            return self._connection
        self._drop()
        connection = Connection(self._address, self._say_online)
        connection.client.will_set(self._status, OFFLINE, qos=1, retain=True)
        connection.client.message_callback_add(self._status, self._correct)
        self._connection = connection
        try:
            connection.open(deadline)
        except OSError:
            self._drop()
            raise
        return connection

    def _drop(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _say_online(self, client: Client) -> None:
        client.publish(self._status, ONLINE, qos=1, retain=True)
        client.subscribe(self._status, qos=1)

    def _correct(self, client: Client, _data: Any, message: MQTTMessage) -> None:
        """Another process that shares the topic went away; this one is there."""
        if message.payload == OFFLINE:
            client.publish(self._status, ONLINE, qos=1, retain=True)


def parse_broker(url: str) -> Address:
    """The parts of a broker's address, ``mqtt://`` or ``mqtts://``; ``?ca=`` names a file of certificates to trust.

    Raises:
        ConfigurationError: it cannot be used.
    """
    address = parse_address(url, {"mqtt": 1883, "mqtts": 8883}, "mqtts://user:password@broker:8883", frozenset({"ca"}))
    if address.scheme == "mqtts":
        _tls(address.options.get("ca"))
    elif "ca" in address.options:
        raise ConfigurationError(f"{address} is not encrypted and needs no ?ca=.", "Write mqtts://, or leave it out.")
    return address


def source_state(notification: Notification) -> SourceState:
    alarm = notification.alarm
    return SourceState(
        source=alarm.source,
        active=alarm.phase.active,
        priority=alarm.priority,
        since=alarm.raised_at if alarm.phase.active else alarm.cleared_at or notification.at,
        alarm_id=alarm.id,
        key=notification.key,
    )


def escape(source: str) -> str:
    """A source as part of a topic: '/' parts its levels; '+', '#', '%', a leading '$' and what cannot be printed are
    percent-encoded.
    """
    escaped = "".join(quote(c, safe="") if c in "+#%" or not (c.isprintable() or c == " ") else c for c in source)
    return f"%24{escaped[1:]}" if escaped.startswith("$") else escaped


def _tls(ca: str | None) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=ca)
    except OSError as error:
        raise ConfigurationError(f"The file that ?ca= names cannot be used: {error.strerror or error}.") from None
