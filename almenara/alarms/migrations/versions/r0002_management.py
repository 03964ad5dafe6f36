"""Telling by level, shelving, silences, verdicts, the plant-wide record, and evidence with its hash."""

import hashlib
import json
import mimetypes
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

_MOMENT = sa.DateTime(timezone=True)
_EMPTY = sa.text("''")
_FALSE = sa.false()


def upgrade() -> None:
    _alter_sources()
    op.execute("UPDATE alarm_sources SET known = told")
    _alter_alarms()
    _alter_deliveries()
    _create_tables()
    _Evidence(op.get_bind()).convert()


def _alter_sources() -> None:
    for column in (
        sa.Column("rule", sa.JSON),
        sa.Column("entered_at", _MOMENT),
        sa.Column("seen_at", _MOMENT),
        sa.Column("readings", sa.String(100), nullable=False, server_default=_EMPTY),
        sa.Column("raises", sa.JSON, nullable=False, server_default=sa.text("'[]'")),
        sa.Column("chattering", sa.Boolean, nullable=False, server_default=_FALSE),
        sa.Column("known", sa.Boolean, nullable=False, server_default=_FALSE),
        sa.Column("shelved_until", _MOMENT),
        sa.Column("out_of_service", sa.Boolean, nullable=False, server_default=_FALSE),
        sa.Column("news", sa.String(16)),
        sa.Column("news_key", sa.String(36)),
        sa.Column("due_at", _MOMENT),
    ):
        op.add_column("alarm_sources", column)
    op.create_index("alarm_sources_due", "alarm_sources", ["due_at"])
    # A raise that the cooldown held back has its message in the outbox, so it counts as told; what stands is stepped
    # at the first tick, for its reminder.
    rows = sa.table("alarm_sources", *(sa.column(n) for n in ("phase", "told", "told_at", "alarm_id", "due_at")))
    held = rows.c.phase.in_(("unacknowledged", "returned_unacknowledged")) & rows.c.told_at.is_not(None)
    op.execute(sa.update(rows).where(held).values(told=sa.true()))
    now = sa.literal(_stored(datetime.now(UTC)), _MOMENT)
    op.execute(sa.update(rows).where(rows.c.alarm_id.is_not(None)).values(due_at=now))


def _alter_alarms() -> None:
    op.add_column("alarms", sa.Column("origin", sa.String(100), nullable=False, server_default=_EMPTY))
    op.add_column("alarms", sa.Column("revision", sa.Integer, nullable=False, server_default=sa.text("0")))
    op.add_column("alarms", sa.Column("verdict", sa.String(16)))
    op.add_column("alarm_transitions", sa.Column("origin", sa.String(100), nullable=False, server_default=_EMPTY))
    op.create_index("alarm_transitions_by_source", "alarm_transitions", ["source", "id"])
    op.create_index("alarm_transitions_by_time", "alarm_transitions", ["at"])
    op.drop_index("alarm_transitions_by_alarm", "alarm_transitions")
    op.create_index("alarm_transitions_by_alarm", "alarm_transitions", ["alarm_id", "at"])
    standing = sa.text("phase <> 'normal'")
    op.create_index("alarms_standing", "alarms", ["raised_at"], sqlite_where=standing, postgresql_where=standing)


def _alter_deliveries() -> None:
    op.add_column("alarm_deliveries", sa.Column("batch", sa.String(36)))
    op.add_column("alarm_deliveries", sa.Column("priority", sa.String(16), nullable=False, server_default=_EMPTY))
    op.add_column(
        "alarm_deliveries",
        sa.Column("created_at", _MOMENT, nullable=False, server_default=sa.text("'1970-01-01 00:00:00'")),
    )
    op.execute(
        "UPDATE alarm_deliveries SET created_at = next_at,"
        " priority = (SELECT priority FROM alarms WHERE alarms.id = alarm_deliveries.alarm_id)"
    )
    op.drop_column("alarm_deliveries", "lease_owner")
    op.drop_column("alarm_deliveries", "leased_until")


def _create_tables() -> None:
    op.create_table(
        "alarm_remote_sources",
        sa.Column("origin", sa.String(100), primary_key=True),
        sa.Column("source", sa.String(200), primary_key=True),
        sa.Column("revision", sa.Integer, nullable=False),
        sa.Column("phase", sa.String(32), nullable=False),
        sa.Column("since", _MOMENT),
        sa.Column("shelved_until", _MOMENT),
        sa.Column("alarm_id", sa.String(36)),
    )
    op.create_table(
        "alarm_leases",
        sa.Column("name", sa.String(100), primary_key=True),
        sa.Column("owner", sa.String(36), nullable=False),
        sa.Column("until", _MOMENT, nullable=False),
    )
    op.create_table(
        "alarm_silences",
        sa.Column("id", sa.String(36), primary_key=True),
        sa.Column("sources", sa.String(200), nullable=False),
        sa.Column("starts_at", _MOMENT, nullable=False),
        sa.Column("ends_at", _MOMENT, nullable=False),
        sa.Column("user", sa.String(200), nullable=False),
        sa.Column("comment", sa.Text, nullable=False),
        sa.Column("ended_by", sa.String(200)),
    )
    op.create_table(
        "alarm_directives",
        sa.Column("number", sa.Integer, primary_key=True),
        sa.Column("id", sa.String(36), nullable=False, unique=True),
        sa.Column("origin", sa.String(100), nullable=False),
        sa.Column("action", sa.String(32), nullable=False),
        sa.Column("source", sa.String(200), nullable=False),
        sa.Column("alarm_id", sa.String(36)),
        sa.Column("raise_key", sa.String(36)),
        sa.Column("until", _MOMENT),
        sa.Column("user", sa.String(200), nullable=False),
        sa.Column("comment", sa.Text, nullable=False),
        sa.Column("verdict", sa.String(16)),
        sa.Column("at", _MOMENT, nullable=False),
        sa.Column("done_at", _MOMENT),
    )
    op.create_index("alarm_silences_ending", "alarm_silences", ["ends_at"])
    op.create_index("alarm_deliveries_sent", "alarm_deliveries", ["channel", "sent_at"])
    op.create_index("alarm_deliveries_sent_at", "alarm_deliveries", ["sent_at"])
    op.create_index("alarm_deliveries_dead_at", "alarm_deliveries", ["dead_at"])
    op.create_index("alarm_directives_open", "alarm_directives", ["origin", "done_at"])
    op.create_table(
        "alarm_applied",
        sa.Column("directive_id", sa.String(36), primary_key=True),
        sa.Column("at", _MOMENT, nullable=False),
    )
    op.create_table(
        "alarm_cursors",
        sa.Column("name", sa.String(100), primary_key=True),
        sa.Column("value", sa.BigInteger, nullable=False),
    )


class _Evidence:
    """Turns the paths of 0001 into files with size and hash, in the alarms and in the messages that carry them."""

    def __init__(self, connection: sa.Connection) -> None:
        self._connection = connection
        self._known: dict[str, dict[str, Any] | None] = {}

    def convert(self) -> None:
        alarms = sa.table("alarms", sa.column("id"), sa.column("evidence", sa.JSON), sa.column("note"))
        for row in self._connection.execute(sa.select(alarms)).mappings().all():
            if row["evidence"]:
                self._connection.execute(
                    sa.update(alarms).where(alarms.c.id == row["id"]).values(self._fields(row["evidence"], row["note"]))
                )
        # As text, since one message that is no JSON must not end the migration.
        rows = sa.table("alarm_deliveries", sa.column("id"), sa.column("notification", sa.JSON))
        text = sa.cast(rows.c.notification, sa.Text).label("text")
        for row in self._connection.execute(sa.select(rows.c.id, text)).mappings().all():
            try:
                message = json.loads(row["text"])
                message["alarm"] |= self._fields(message["alarm"]["evidence"], message["alarm"]["note"])
            except (ValueError, KeyError, TypeError):
                continue  # the outbox gives it up with the reason
            self._connection.execute(sa.update(rows).where(rows.c.id == row["id"]).values(notification=message))

    def _fields(self, paths: list[str], note: str) -> dict[str, Any]:
        files = {path: self._file(path) for path in paths}
        lost = [path for path, file in files.items() if file is None]
        if lost:
            note = f"{note} Evidence that can no longer be read: {', '.join(lost)}.".strip()
        return {"evidence": [file for file in files.values() if file is not None], "note": note}

    def _file(self, path: str) -> dict[str, Any] | None:
        if path not in self._known:
            try:
                content = Path(path).read_bytes()
            except (OSError, ValueError):
                self._known[path] = None
            else:
                self._known[path] = {
                    "name": Path(path).name,
                    "uri": path,
                    "sha256": hashlib.sha256(content).hexdigest(),
                    "size": len(content),
                    "media_type": mimetypes.guess_type(path)[0] or "application/octet-stream",
                }
        return self._known[path]


def _stored(moment: datetime) -> datetime:
    return moment.replace(tzinfo=None) if op.get_bind().dialect.name == "sqlite" else moment


def downgrade() -> None:
    raise NotImplementedError("0001 cannot hold what 0002 knows: restore the copy made before the upgrade.")
