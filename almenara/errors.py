"""One hierarchy of errors: each carries the fact (what is wrong, and where) and the remedy (what to do)."""

from __future__ import annotations


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
