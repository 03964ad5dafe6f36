"""One hierarchy of errors: each carries the fact (what is wrong, and where) and the remedy (what to do)."""

from __future__ import annotations

import errno
import logging
from typing import Self

logger = logging.getLogger(__name__)


class AlmenaraError(Exception):
    """Base of every error this project raises on purpose.

    Attributes:
        fact: what is wrong and where, one sentence.
        remedy: what to do about it, one sentence; empty when the fact says it all.
    """

    def __init__(self, fact: str, remedy: str = "") -> None:
        super().__init__(f"{fact} {remedy}".strip())
        self.fact = fact
        self.remedy = remedy


class InputError(AlmenaraError):
    """Somebody handed in an image, a recording, a file or a parameter that cannot be used.

    Attributes:
        code: stable slug, the last part of the problem+json ``type`` (``image-truncated``).
    """

    def __init__(self, code: str, fact: str, remedy: str = "") -> None:
        super().__init__(fact, remedy)
        self.code = code


class ConfigurationError(AlmenaraError):
    """A setting, a configuration file or the machine's state (a port in use) stands in the way."""


class RegistryError(AlmenaraError):
    """The model registry is away, or it has no such model, version or alias."""


class GateError(AlmenaraError):
    """A model failed an export gate and was not registered."""


class NoEvidenceError(OSError):
    """Evidence could not be saved. Its text is for people: what is missing and why."""

    @classmethod
    def because(cls, missing: str, error: OSError) -> Self:
        """As in ``no picture: the disk is full``; `missing` is ``picture``, ``window`` …

        The path goes to the log alone: the text goes into messages, which leave the plant.
        """
        logger.warning("Evidence cannot be saved: %s", error)
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            reason = "the disk is full"
        else:
            reason = error.strerror.lower() if error.strerror else str(error)
        made = cls(f"no {missing}: {reason}")
        made.errno = error.errno
        return made
