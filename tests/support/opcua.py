"""Real OPC UA clients of the alarm channel, and a server for them."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Any

from asyncua import ua
from asyncua.client.client import Client
from asyncua.common.subscription import Subscription
from asyncua.ua.object_ids import ObjectIds
from asyncua.ua.uaerrors import UaError

from almenara.alarms.channels.opcua import OpcUaChannel
from almenara.alarms.channels.opcua_conditions import node_id
from almenara.alarms.records import AlarmRecord
from almenara.errors import InputError
from almenara.processes import free_port
from tests.support.bus_messages import message


class Desk:
    """Stands for the alarm store: what stands, and who acknowledged what."""

    def __init__(self, *alarms: AlarmRecord) -> None:
        self.alarms = list(alarms)
        self.acknowledged: list[tuple[str, str, str]] = []
        self.refuses = False

    def acknowledge(self, alarm_id: str, user: str, comment: str) -> None:
        if self.refuses:
            raise InputError("alarm-unknown", f"There is no alarm {alarm_id}.")
        self.acknowledged.append((alarm_id, user, comment))

    def standing(self) -> list[AlarmRecord]:
        return self.alarms

    def forget(self) -> None:
        self.alarms, self.acknowledged, self.refuses = [], [], False


class Operator:
    """A client that subscribes to the server's conditions."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.events: list[Any] = []
        self.subscription: Subscription

    def event_notification(self, event: Any) -> None:
        self.events.append(event)

    async def subscribe(self) -> None:
        self.subscription = await self.client.create_subscription(20, self)
        types = [
            self.client.get_node(node_id(kind)) for kind in (ObjectIds.AlarmConditionType, ObjectIds.BaseEventType)
        ]
        await self.subscription.subscribe_events(evtypes=types)

    async def refresh(self) -> None:
        node = self.client.get_node(node_id(ObjectIds.ConditionType))
        number = ua.Variant(self.subscription.subscription_id, ua.VariantType.UInt32)
        await node.call_method(node_id(ObjectIds.ConditionType_ConditionRefresh), number)

    async def acknowledge(self, event: Any, comment: str, method: ua.NodeId | None = None) -> None:
        """By the method of the type, unless another is named."""
        condition = self.client.get_node(event.NodeId)
        given = ua.Variant(event.EventId, ua.VariantType.ByteString)
        method = method or node_id(ObjectIds.AcknowledgeableConditionType_Acknowledge)
        await condition.call_method(method, given, ua.Variant(ua.LocalizedText(comment)))

    async def wait(self, count: int = 1) -> Any:
        """The newest event, once there are `count`."""
        await until(lambda: len(self.events) >= count)
        return self.events[-1]


class Watcher:
    """A plant management system: it connects, subscribes and refreshes, again and again, on a thread of its own."""

    def __init__(self, endpoint: str) -> None:
        self.events: list[Any] = []
        """All that it got, oldest first."""
        self.sessions = 0
        self._endpoint = endpoint
        self._over = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._watch()), name="opcua-watcher", daemon=True)

    def __enter__(self) -> Watcher:
        self._thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        assert self._thread.is_alive(), "the OPC UA client died"
        self._over.set()
        self._thread.join(15)

    def connected_after(self, sessions: int) -> bool:
        """Whether there has been a session after so many."""
        return self.sessions > sessions

    async def _watch(self) -> None:
        while not self._over.is_set():
            with contextlib.suppress(OSError, TimeoutError, UaError):
                await self._session()
            await asyncio.sleep(0.1)

    async def _session(self) -> None:
        client, lost = Client(self._endpoint, timeout=3), asyncio.Event()

        async def note(_error: Exception) -> None:
            lost.set()

        client.connection_lost_callback = note
        async with client:
            watching = Operator(client)
            watching.events = self.events
            await watching.subscribe()
            await watching.refresh()
            self.sessions += 1
            while not (lost.is_set() or self._over.is_set()):
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(lost.wait(), 0.2)


async def until(what: Callable[[], Any], seconds: float = 15) -> None:
    async with asyncio.timeout(seconds):
        while not what():  # noqa: ASYNC110 - events come by a callback that knows of nobody who waits
            await asyncio.sleep(0.02)


@asynccontextmanager
async def operator(endpoint: str, user: str = "", password: str = "", security: Any = None) -> AsyncIterator[Operator]:
    client = Client(endpoint)
    if user:
        client.set_user(user)
        client.set_password(password)
    if security is not None:
        await security(client)
    async with client:
        watching = Operator(client)
        await watching.subscribe()
        yield watching


def with_operator(endpoint: str, journey: Callable[[Operator], Awaitable[None]]) -> None:
    async def go() -> None:
        async with operator(endpoint) as watching:
            await journey(watching)

    asyncio.run(go())


async def send(channel: OpcUaChannel, *arguments: Any, **changes: Any) -> None:
    """The deliverer has threads of its own."""
    await asyncio.to_thread(channel.send, message(*arguments, **changes))


@dataclass
class Served:
    """A channel that listens, and what stands for its store."""

    endpoint: str
    desk: Desk
    channel: OpcUaChannel


@contextmanager
def serving(name: str = "scada") -> Iterator[Served]:
    endpoint, desk = f"opc.tcp://127.0.0.1:{free_port()}/almenara", Desk()
    channel = OpcUaChannel(name, endpoint, acknowledge=desk.acknowledge)
    channel.start()
    yield Served(endpoint, desk, channel)
    channel.close()
