"""What people read when an alarm is told, in their language."""

from almenara.alarms.messages.render import LANGUAGES, Renderer

__all__ = ["LANGUAGES", "Renderer"]
