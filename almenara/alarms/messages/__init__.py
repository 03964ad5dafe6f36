"""What people read when an alarm is told, and the pages that messages lead to, in their language."""

from almenara.alarms.messages.environment import LANGUAGES
from almenara.alarms.messages.pages import Pages
from almenara.alarms.messages.render import Renderer

__all__ = ["LANGUAGES", "Pages", "Renderer"]
