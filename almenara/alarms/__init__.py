"""Alarms: one state machine, one outbox; an alarm is a verdict that lasted, told once and never lost.

store = AlarmStore("sqlite:////var/lib/almenara/alarms.db", channels=("log",))
store.observe(observation, Rule(threshold=0.75), now=time.monotonic())
Deliverer(store, [LogChannel(Path("alarms.log"))]).run(stop)
"""

from almenara.alarms.channels import Channel, LogChannel
from almenara.alarms.deliverer import Deliverer
from almenara.alarms.queries import AlarmFilter
from almenara.alarms.records import (
    AlarmRecord,
    Delivery,
    Directive,
    Directives,
    EvidenceFile,
    Message,
    Notification,
    Report,
    Silence,
    SourceStatus,
    Transition,
)
from almenara.alarms.rule import Rule
from almenara.alarms.state import State, step
from almenara.alarms.store import AlarmStore
from almenara.alarms.vocabulary import Change, Phase, Priority, Verdict

__all__ = [
    "AlarmFilter",
    "AlarmRecord",
    "AlarmStore",
    "Change",
    "Channel",
    "Deliverer",
    "Delivery",
    "Directive",
    "Directives",
    "EvidenceFile",
    "LogChannel",
    "Message",
    "Notification",
    "Phase",
    "Priority",
    "Report",
    "Rule",
    "Silence",
    "SourceStatus",
    "State",
    "Transition",
    "Verdict",
    "step",
]
