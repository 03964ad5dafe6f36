"""Where alarms are told: one small class a channel behind one interface."""

from almenara.alarms.channels.base import SEND_SECONDS, Channel, Listening, Pace
from almenara.alarms.channels.log import LogChannel

__all__ = ["SEND_SECONDS", "Channel", "Listening", "LogChannel", "Pace"]
