"""Alarms: one state machine, one outbox; an alarm is a verdict that lasted, told once and never lost.

store = AlarmStore("sqlite:////var/lib/almenara/alarms.db", channels=("log",))
store.observe(observation, Rule(threshold=0.75), now=time.monotonic())
Deliverer(store, [LogChannel(Path("alarms.log"))]).run(stop)
"""

from almenara.alarms.channels import Channel, LogChannel
from almenara.alarms.deliverer import Deliverer
from almenara.alarms.records import AlarmRecord, Delivery, Notification, Transition
from almenara.alarms.state import Change, Phase, Priority, Rule, State, step
from almenara.alarms.store import AlarmStore

__all__ = [
    "AlarmRecord",
    "AlarmStore",
    "Change",
    "Channel",
    "Deliverer",
    "Delivery",
    "LogChannel",
    "Notification",
    "Phase",
    "Priority",
    "Rule",
    "State",
    "Transition",
    "step",
]
