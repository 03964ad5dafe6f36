"""What the commands share: logging to stderr without credentials."""

from __future__ import annotations

import logging

from almenara.redaction import RedactingFormatter, log_what_nobody_caught


def log_to_stderr() -> None:
    """Every record goes to stderr, redacted, and so does what ends a thread."""
    handler = logging.StreamHandler()
    handler.setFormatter(RedactingFormatter("%(asctime)s %(levelname)s %(message)s"))
    logging.basicConfig(level=logging.INFO, handlers=[handler])
    logging.getLogger("alembic").setLevel(logging.WARNING)
    log_what_nobody_caught()
