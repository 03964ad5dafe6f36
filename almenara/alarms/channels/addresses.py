"""Addresses of servers that channels and the heartbeat talk to, which may hold a password anywhere."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import parse_qsl, unquote, urlsplit

from almenara.errors import ConfigurationError

_UNPRINTABLE = re.compile(r"[\x00-\x20\x7f-\x9f]")


@dataclass(frozen=True)
class Address:
    """The parts of one address; its text shows only what is never secret: scheme, host and port.

    Attributes:
        path: as it was written, percent signs included; empty or with a leading slash.
        options: of the query, decoded.
        user: decoded; None when the address names nobody.
        password: decoded; None when the address has none.
    """

    scheme: str
    host: str
    port: int
    path: str = field(repr=False)
    options: Mapping[str, str] = field(repr=False)
    user: str | None = field(repr=False)
    password: str | None = field(repr=False)

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port}"


def parse_address(text: str, ports: Mapping[str, int], example: str, options: frozenset[str] = frozenset()) -> Address:
    """Take an address apart.

    Args:
        text: the address.
        ports: the schemes that it may have, each with the port that is meant when it names none.
        example: one of these addresses, for the remedy.
        options: names that its query may have.

    Raises:
        ConfigurationError: it cannot be used as it is. The text shows no part of it but known schemes and options.
    """

    def refused(fact: str) -> ConfigurationError:
        return ConfigurationError(f"The address {fact}.", f"Write one such as {example}, with %-escapes in a password.")

    if _UNPRINTABLE.search(text):
        raise refused("has a space or a control character in it")
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        raise refused("has no usable host or port") from None
    if parts.scheme not in ports:
        raise refused(f"does not begin with {' or '.join(f'{scheme}://' for scheme in ports)}")
    if not parts.hostname or parts.fragment or port == 0:
        raise refused("has no usable host or port, or has a '#' in it")
    query = dict(parse_qsl(parts.query, keep_blank_values=True))
    if set(query) - options:
        raise refused(f"may have no other option than {', '.join(sorted(options))}" if options else "may have no '?'")
    return Address(
        parts.scheme,
        parts.hostname,
        port or ports[parts.scheme],
        parts.path,
        query,
        unquote(parts.username) if parts.username else None,
        unquote(parts.password) if parts.password is not None else None,
    )
