"""Alarms as OPC UA conditions (OPC 10000-9): one condition for each source, in the address space and as events."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from asyncua import ua
from asyncua.common.event_objects import AlarmCondition, BaseEvent
from asyncua.common.node import Node
from asyncua.server.server import Server
from asyncua.ua.object_ids import ObjectIds

from almenara.alarms.records import AlarmRecord, Notification
from almenara.alarms.vocabulary import Phase, Priority

NAMESPACE = "urn:almenara:alarms"
SEVERITY: dict[Priority, int] = {"low": 200, "medium": 500, "high": 700, "critical": 900}

_Fields = dict[str, tuple[Any, ua.VariantType]]


@dataclass
class Condition:
    """The condition of one source, as clients know it."""

    source: ua.NodeId
    node: ua.NodeId
    alarm: AlarmRecord
    event_ids: set[bytes] = field(default_factory=set)
    """Of all events since the latest raise: by any of them it can be acknowledged."""


def node_id(identifier: int | str, index: int = 0) -> ua.NodeId:
    """asyncua declares identifiers as types of its own and takes plain ones."""
    return ua.NodeId(identifier, index)  # type: ignore[arg-type]


class Conditions:
    """All conditions of a server; to be used in its event loop."""

    def __init__(self, server: Server, index: int, folder: Node) -> None:
        self._server = server
        self._index = index
        self._folder = folder
        self._by_source: dict[str, Condition] = {}

    @classmethod
    async def create(cls, server: Server) -> Conditions:
        """Add the namespace and the folder ``Almenara`` to a server that does not listen yet."""
        index = await server.register_namespace(NAMESPACE)
        name = ua.QualifiedName("Almenara", index)
        folder = await server.nodes.objects.add_folder(node_id("Almenara", index), name)
        return cls(server, index, folder)

    def find(self, node: ua.NodeId) -> Condition | None:
        """The condition that a client means by the object of a method call."""
        return next((each for each in self._by_source.values() if each.node == node), None)

    async def tell(self, notification: Notification) -> None:
        """Set the condition of its source, and send the event; a test is an event without a condition.

        What is older than the condition, as after a start that showed what stands, would set it back and is left out.
        """
        if notification.event == "test":
            await self._trigger(_test_event(notification))
        elif not self._is_past(notification.alarm):
            await self.show(notification.alarm, notification.key, notification.at)

    async def show(self, alarm: AlarmRecord, event_id: str, at: datetime, *, user: str = "", comment: str = "") -> None:
        """Set a condition to an alarm as it stood at a time, and send the event."""
        condition = await self._condition(alarm)
        if condition.alarm.idempotency_key != alarm.idempotency_key:
            condition.event_ids.clear()
        condition.alarm = alarm
        condition.event_ids.add(event_id.encode())
        fields = _fields(condition, event_id, at, user or alarm.acknowledged_by or "", comment or alarm.comment)
        for name, (value, kind) in fields.items():
            node = node_id(f"{_identifier(condition.alarm)}.{name.replace('/', '.')}", self._index)
            if node in self._server.iserver.aspace:
                await self._server.write_attribute_value(node, ua.DataValue(ua.Variant(value, kind)))
        await self._trigger(_condition_event(condition, fields))

    async def follow(self, standing: Mapping[str, AlarmRecord], at: datetime) -> None:
        """Show what was acknowledged, reset or returned since; a raise that nobody was told of yet is not shown.

        Args:
            standing: the alarms that stand, by source.
            at: the present time.
        """
        for source, condition in list(self._by_source.items()):
            known, alarm = condition.alarm, standing.get(source)
            if alarm is None and known.stands:
                alarm = known.model_copy(update={"phase": Phase.NORMAL, "cleared_at": known.cleared_at or at})
            if alarm is None or alarm.idempotency_key != known.idempotency_key or alarm.phase is known.phase:
                continue
            await self.show(alarm, f"{alarm.idempotency_key}/{alarm.phase}/{at.timestamp():.0f}", at)

    def _is_past(self, alarm: AlarmRecord) -> bool:
        condition = self._by_source.get(alarm.source)
        if condition is None:
            return False
        known = condition.alarm
        if (alarm.idempotency_key, alarm.phase) == (known.idempotency_key, known.phase):
            return False
        return alarm.revision < known.revision if alarm.id == known.id else alarm.raised_at < known.raised_at

    async def _condition(self, alarm: AlarmRecord) -> Condition:
        condition = self._by_source.get(alarm.source)
        if condition is None:
            source = await self._folder.add_object(
                node_id(alarm.source, self._index), ua.QualifiedName(alarm.source, self._index)
            )
            node = await source.add_object(
                node_id(_identifier(alarm), self._index),
                ua.QualifiedName("Alarm", self._index),
                objecttype=node_id(ObjectIds.AlarmConditionType),
                instantiate_optional=False,
            )
            await source.add_reference(node, ObjectIds.HasCondition)
            condition = self._by_source[alarm.source] = Condition(source.nodeid, node.nodeid, alarm)
            acknowledge = self._server.iserver.aspace[node_id(ObjectIds.AcknowledgeableConditionType_Acknowledge)]
            if acknowledge.call is not None:
                own = node_id(f"{_identifier(alarm)}.Acknowledge", self._index)
                self._server.iserver.isession.add_method_callback(own, acknowledge.call)
        return condition

    async def _trigger(self, event: Any) -> None:
        await self._server.iserver.subscription_service.trigger_event(event)


def _identifier(alarm: AlarmRecord) -> str:
    return f"{alarm.source}#alarm"


def _test_event(notification: Notification) -> Any:
    event: Any = BaseEvent(  # type: ignore[no-untyped-call]
        node_id(ObjectIds.Server), f"Test: {notification.alarm.reason}", 1
    )
    event.EventId = notification.key.encode()
    event.SourceName = notification.alarm.source
    event.Time = event.ReceiveTime = notification.at
    return event


def _condition_event(condition: Condition, fields: _Fields) -> Any:
    event: Any = AlarmCondition()  # type: ignore[no-untyped-call]
    event.add_property("NodeId", condition.node, ua.VariantType.NodeId)
    for name, (value, kind) in fields.items():
        event.add_property(name, value, kind)
    return event


def _fields(condition: Condition, event_id: str, at: datetime, user: str, comment: str) -> _Fields:
    alarm = condition.alarm
    severity = SEVERITY[alarm.priority]
    changed = alarm.raised_at if alarm.phase.active else alarm.cleared_at or at
    acknowledged = alarm.phase not in (Phase.UNACKNOWLEDGED, Phase.RETURNED_UNACKNOWLEDGED)
    text = alarm.reason or "alarm" if alarm.phase.active else "returned to normal"
    nothing, kinds = ua.NodeId(), ua.VariantType
    return {
        "EventId": (event_id.encode(), kinds.ByteString),
        "EventType": (node_id(ObjectIds.AlarmConditionType), kinds.NodeId),
        "SourceNode": (condition.source, kinds.NodeId),
        "SourceName": (alarm.source, kinds.String),
        "Time": (at, kinds.DateTime),
        "ReceiveTime": (datetime.now(UTC), kinds.DateTime),
        "Message": (_text(f"{alarm.source}: {text}"), kinds.LocalizedText),
        "Severity": (severity, kinds.UInt16),
        "ConditionClassId": (node_id(ObjectIds.ProcessConditionClassType), kinds.NodeId),
        "ConditionClassName": (_text("ProcessConditionClassType"), kinds.LocalizedText),
        "ConditionName": (alarm.kind, kinds.String),
        "BranchId": (nothing, kinds.NodeId),
        "InputNode": (nothing, kinds.NodeId),
        "Retain": (alarm.stands, kinds.Boolean),
        "Quality": (ua.StatusCode(), kinds.StatusCode),
        "Quality/SourceTimestamp": (at, kinds.DateTime),
        "LastSeverity": (severity, kinds.UInt16),
        "LastSeverity/SourceTimestamp": (at, kinds.DateTime),
        "Comment": (_text(comment), kinds.LocalizedText),
        "Comment/SourceTimestamp": (alarm.acknowledged_at or at, kinds.DateTime),
        "ClientUserId": (user, kinds.String),
        "SuppressedOrShelved": (False, kinds.Boolean),
        **_two_states("EnabledState", ("Disabled", "Enabled"), True, alarm.raised_at),
        **_two_states("ActiveState", ("Inactive", "Active"), alarm.phase.active, changed),
        **_two_states("AckedState", ("Unacknowledged", "Acknowledged"), acknowledged, alarm.acknowledged_at or at),
        **_two_states("LatchedState", ("Unlatched", "Latched"), alarm.phase is Phase.LATCHED, changed),
    }


def _two_states(name: str, names: tuple[str, str], value: bool, since: datetime) -> _Fields:
    return {
        name: (_text(names[value]), ua.VariantType.LocalizedText),
        f"{name}/Id": (value, ua.VariantType.Boolean),
        f"{name}/TransitionTime": (since, ua.VariantType.DateTime),
    }


def _text(text: str) -> ua.LocalizedText:
    return ua.LocalizedText(text, "en")
