"""The OPC UA channel with real clients: events, refresh and acknowledgement."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import socket
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from asyncua import ua
from asyncua.ua.object_ids import ObjectIds
from asyncua.ua.uaerrors import UaError, UaStatusCodeError

from almenara.alarms.channels.opcua import OpcUaChannel
from almenara.alarms.channels.opcua_conditions import node_id
from almenara.alarms.records import Message, Notification
from almenara.alarms.vocabulary import Phase
from almenara.processes import free_port
from tests.support.brokers import wait_for
from tests.support.bus_messages import ALARM_ID, RAISED_AT, alarm, message
from tests.support.fences import assert_documented
from tests.support.opcua import Desk, Operator, Served, operator, send, serving, with_operator

pytestmark = pytest.mark.slow

DOCUMENTED = (
    *(
        "EventType",
        "EventId",
        "NodeId",
        "BranchId",
        "SourceNode",
        "SourceName",
        "Time",
        "Message",
        "Severity",
        "Retain",
    ),
    *("ConditionName", "ConditionClassName", "EnabledState/Id", "ActiveState", "ActiveState/Id"),
    *("ActiveState/TransitionTime", "AckedState", "AckedState/Id", "LatchedState/Id", "SuppressedOrShelved"),
    *("Quality", "LastSeverity", "Comment", "ClientUserId"),
)


@pytest.fixture(scope="module")
def started() -> Iterator[Served]:
    with serving() as server:
        yield server


@pytest.fixture
def served(started: Served) -> Served:
    """A server that keeps the conditions of earlier tests, as one takes seconds to start."""
    started.desk.forget()
    return started


@pytest.fixture
def alone() -> Iterator[Served]:
    with serving("alone") as server:
        yield server


@pytest.fixture
def endpoint() -> str:
    return f"opc.tcp://127.0.0.1:{free_port()}/almenara"


def test_client_sees_the_raise_and_the_return(served: Served) -> None:
    async def journey(watching: Operator) -> None:
        await send(served.channel)
        raised = await watching.wait(1)
        await send(served.channel, "returned", 42)
        returned = await watching.wait(2)
        assert (raised.SourceName, raised.EventId) == ("line-2/outflow-1", b"5d0c4e0e-raised")
        assert (raised.Message.Text, raised.Severity) == ("line-2/outflow-1: foreign object", 700)
        states = [(each.Retain, each.__dict__["ActiveState/Id"]) for each in (raised, returned)]
        assert states == [(True, True), (True, False)], "nobody acknowledged: it is retained"
        assert returned.Time.replace(tzinfo=UTC) == RAISED_AT.replace(second=44)
        assert raised.NodeId == returned.NodeId, "one condition a source"

    with_operator(served.endpoint, journey)


def test_return_of_an_acknowledged_alarm_is_not_retained(served: Served) -> None:
    async def journey(watching: Operator) -> None:
        await send(served.channel)
        await send(served.channel, "returned", 42, phase=Phase.NORMAL)
        returned = await watching.wait(2)
        assert (returned.Retain, returned.__dict__["AckedState/Id"]) == (False, True)

    with_operator(served.endpoint, journey)


def test_message_that_comes_twice_has_the_same_event_id(served: Served) -> None:
    async def journey(watching: Operator) -> None:
        await send(served.channel)
        await send(served.channel)
        await watching.wait(2)
        assert len({each.EventId for each in watching.events}) == 1

    with_operator(served.endpoint, journey)


def test_test_message_is_an_event_without_a_condition(served: Served) -> None:
    async def journey(watching: Operator) -> None:
        await send(served.channel, "test")
        event = await watching.wait()
        assert event.EventType == node_id(ObjectIds.BaseEventType)
        assert event.Message.Text == "Test: foreign object"

    with_operator(served.endpoint, journey)


def test_client_that_comes_later_gets_what_stands_by_refresh(alone: Served) -> None:
    async def journey(watching: Operator) -> None:
        await send(alone.channel, source="gone")
        await send(alone.channel, "returned", source="gone", phase=Phase.NORMAL)
        await send(alone.channel, source="stands")

        async with operator(alone.endpoint) as late:
            await late.refresh()
            await late.wait(3)
            names = [(await late.client.get_node(each.EventType).read_browse_name()).Name for each in late.events]
            assert names == ["RefreshStartEventType", "AlarmConditionType", "RefreshEndEventType"]
            assert late.events[1].SourceName == "stands"

    with_operator(alone.endpoint, journey)


def test_condition_can_be_browsed_and_read(served: Served) -> None:
    async def journey(watching: Operator) -> None:
        await send(served.channel)
        client = watching.client
        index = await client.get_namespace_index("urn:almenara:alarms")
        path = [f"{index}:Almenara", f"{index}:line-2/outflow-1", f"{index}:Alarm", "0:ActiveState", "0:Id"]
        assert await (await client.nodes.objects.get_child(path)).read_value() is True

    with_operator(served.endpoint, journey)


def test_acknowledgement_reaches_the_store_and_every_client(served: Served) -> None:
    async def journey(watching: Operator) -> None:
        await send(served.channel)
        await watching.acknowledge(await watching.wait(), "on my way")
        event = await watching.wait(2)
        assert served.desk.acknowledged == [(ALARM_ID, "OPC UA client", "on my way")]
        assert (event.__dict__["AckedState/Id"], event.Comment.Text, event.Retain) == (True, "on my way", True)

    with_operator(served.endpoint, journey)


def test_comment_is_cut_and_rid_of_control_characters(served: Served) -> None:
    async def journey(watching: Operator) -> None:
        await send(served.channel)
        await watching.acknowledge(await watching.wait(), "on\x00my\x1bway " + "x" * 3000)
        event = await watching.wait(2)
        [(_, _, comment)] = served.desk.acknowledged
        assert (len(comment), comment[:11]) == (2000, "on my way x")
        assert event.Comment.Text == comment, "clients see what is kept"

    with_operator(served.endpoint, journey)


def test_name_of_a_user_is_cut_to_what_is_kept(endpoint: str) -> None:
    desk, name = Desk(), "u" * 300
    channel = OpcUaChannel(
        "scada", endpoint.replace("opc.tcp://", f"opc.tcp://{name}:secret@"), acknowledge=desk.acknowledge
    )
    channel.start()

    async def go() -> None:
        async with operator(endpoint, name, "secret") as watching:
            await send(channel)
            await watching.acknowledge(await watching.wait(), "")

    asyncio.run(go())
    channel.close()
    assert desk.acknowledged == [(ALARM_ID, name[:200], "")]


def test_acknowledgement_by_the_method_of_the_condition_itself_is_taken(served: Served) -> None:
    async def journey(watching: Operator) -> None:
        await send(served.channel)
        raised = await watching.wait()
        own = await watching.client.get_node(raised.NodeId).get_child("0:Acknowledge")
        await watching.acknowledge(raised, "", method=own.nodeid)
        assert len(served.desk.acknowledged) == 1

    with_operator(served.endpoint, journey)


def test_acknowledgement_of_an_earlier_raise_is_refused(served: Served) -> None:
    async def journey(watching: Operator) -> None:
        await send(served.channel, idempotency_key="first")
        first = await watching.wait()
        await send(served.channel, "reminder", idempotency_key="second")
        with pytest.raises(UaStatusCodeError, match="BadEventIdUnknown"):
            await watching.acknowledge(first, "too late")
        assert served.desk.acknowledged == []

    with_operator(served.endpoint, journey)


def test_second_acknowledgement_is_refused(served: Served) -> None:
    async def journey(watching: Operator) -> None:
        await send(served.channel)
        raised = await watching.wait()
        await watching.acknowledge(raised, "")
        with pytest.raises(UaStatusCodeError, match="AlreadyAcked"):
            await watching.acknowledge(raised, "")

    with_operator(served.endpoint, journey)


def test_acknowledgement_that_the_store_refuses_leaves_the_condition(served: Served) -> None:
    served.desk.refuses = True

    async def journey(watching: Operator) -> None:
        await send(served.channel)
        with pytest.raises(UaStatusCodeError, match="BadInvalidState"):
            await watching.acknowledge(await watching.wait(), "")
        assert len(watching.events) == 1

    with_operator(served.endpoint, journey)


def test_server_that_starts_shows_the_alarms_that_stand(endpoint: str) -> None:
    channel = OpcUaChannel("scada", endpoint, standing=Desk(alarm()).standing)
    channel.start()

    async def journey(watching: Operator) -> None:
        await watching.refresh()
        await watching.wait(3)
        assert watching.events[1].EventId == alarm().idempotency_key.encode()

    with_operator(endpoint, journey)
    channel.close()


def test_what_waited_to_be_told_does_not_set_back_what_a_start_has_shown(endpoint: str) -> None:
    first = alarm()
    again = alarm(revision=3, raised_at=first.raised_at + timedelta(seconds=9), idempotency_key="again")
    channel = OpcUaChannel("scada", endpoint, standing=Desk(again).standing)
    channel.start()

    async def journey(watching: Operator) -> None:
        await watching.refresh()
        await watching.wait(3)
        for told, key in ((first, first.idempotency_key), (again, "again")):
            waited = Notification(key=key, event="raised", at=told.raised_at, alarm=told)
            await asyncio.to_thread(channel.send, Message(key=key, notifications=(waited,)))
        await watching.wait(4)
        shown = [each for each in watching.events if each.EventType == node_id(ObjectIds.AlarmConditionType)]
        assert [each.EventId for each in shown] == [b"again", b"again"]

    with_operator(endpoint, journey)
    channel.close()


def test_condition_follows_what_people_do_elsewhere(endpoint: str) -> None:
    desk = Desk(alarm())
    channel = OpcUaChannel("scada", endpoint, standing=desk.standing)
    channel.start()

    async def journey(watching: Operator) -> None:
        now = datetime.now(UTC)
        seen: dict[str, Any] = {
            "phase": Phase.ACKNOWLEDGED,
            "acknowledged_at": now,
            "acknowledged_by": "eva",
            "comment": "seen",
        }
        desk.alarms = [alarm(**seen)]
        event = await watching.wait(1)
        assert (event.__dict__["AckedState/Id"], event.ClientUserId, event.Comment.Text) == (True, "eva", "seen")
        desk.alarms = []
        event = await watching.wait(2)
        assert (event.__dict__["ActiveState/Id"], event.Retain) == (False, False)

    with_operator(endpoint, journey)
    channel.close()


def test_raise_that_nobody_was_told_of_is_not_shown_by_following(endpoint: str) -> None:
    desk = Desk(alarm())
    channel = OpcUaChannel("scada", endpoint, standing=desk.standing)
    channel.start()

    async def journey(watching: Operator) -> None:
        desk.alarms = [alarm(idempotency_key="in-its-cooldown"), alarm("new/source", idempotency_key="silenced")]
        await asyncio.sleep(2.5)  # one comparison; there is nothing to wait for
        assert watching.events == []

    with_operator(endpoint, journey)
    channel.close()


def of_channel(caplog: pytest.LogCaptureFixture) -> list[logging.LogRecord]:
    """What the channel and its server logged."""
    return [record for record in caplog.records if record.name.startswith(("asyncua", "almenara"))]


def port_of(endpoint: str) -> int:
    return int(endpoint.split(":")[2].split("/", maxsplit=1)[0])


def test_port_in_use_fails_the_message_and_the_next_one_tries_again(
    endpoint: str, caplog: pytest.LogCaptureFixture
) -> None:
    channel = OpcUaChannel("scada", endpoint)
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        taken.bind(("127.0.0.1", port_of(endpoint)))
        taken.listen()
        with pytest.raises(OSError, match="in use"):
            channel.send(message())
    assert of_channel(caplog) == [], "whoever sends tells of it"
    channel.send(message())
    channel.close()


def test_what_no_client_would_send_is_told_in_a_line(served: Served, caplog: pytest.LogCaptureFixture) -> None:
    no_message = b"OPNF\x40\x00\x00\x00" + b"z" * 56
    with socket.create_connection(("127.0.0.1", port_of(served.endpoint))) as client:
        client.sendall(no_message)
        wait_for(lambda: bool(of_channel(caplog)))
    [record] = of_channel(caplog)
    assert "Not enough data" in record.getMessage()
    assert record.exc_info is None


def test_close_ends_the_server_with_a_client_connected(alone: Served) -> None:
    async def journey(_watching: Operator) -> None:
        await asyncio.to_thread(alone.channel.close)

    with contextlib.suppress(UaError, OSError, TimeoutError):  # the client has nobody to say goodbye to
        with_operator(alone.endpoint, journey)
    assert not any(thread.name == "opcua-alone" for thread in threading.enumerate())


def test_documentation_shows_the_fields_of_an_event(served: Served) -> None:
    async def journey(watching: Operator) -> None:
        await send(served.channel)
        event = await watching.wait()
        fields = {name: _plain(event.__dict__[name]) for name in DOCUMENTED}
        assert_documented("alarms/buses.md", "opcua-event", json.dumps(fields, indent=2, ensure_ascii=False))

    with_operator(served.endpoint, journey)


def _plain(value: Any) -> Any:
    if isinstance(value, ua.LocalizedText):
        return value.Text
    if isinstance(value, ua.NodeId):
        return value.to_string() if not value.is_null() else None
    if isinstance(value, ua.StatusCode):
        return value.name
    if isinstance(value, bytes):
        return value.decode()
    return value.isoformat() if isinstance(value, datetime) else value
