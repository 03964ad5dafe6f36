"""Tables of the alarm database, as queries see them; the migrations create them."""

from __future__ import annotations

from datetime import UTC, datetime

from sqlalchemy import JSON, BigInteger, Boolean, Column, DateTime, Float, Integer, MetaData, String, Table, Text
from sqlalchemy.engine import Dialect
from sqlalchemy.types import TypeDecorator


class UtcDateTime(TypeDecorator[datetime]):
    """Aware UTC datetimes with microseconds, also in SQLite, which knows no time zones."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        aware = value.astimezone(UTC)
        return aware.replace(tzinfo=None) if dialect.name == "sqlite" else aware

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if dialect.name == "sqlite" else value.astimezone(UTC)


metadata = MetaData()

sources = Table(
    "alarm_sources",
    metadata,
    Column("source", String(200), primary_key=True),
    Column("version", Integer, nullable=False),
    Column("rule", JSON(none_as_null=True)),
    Column("phase", String(32), nullable=False),
    Column("entered_at", UtcDateTime),
    Column("since", UtcDateTime),
    Column("blind_since", UtcDateTime),
    Column("seen_at", UtcDateTime),
    Column("peak", Float, nullable=False),
    Column("readings", String(100), nullable=False),
    Column("raises", JSON, nullable=False),
    Column("chattering", Boolean, nullable=False),
    Column("known", Boolean, nullable=False),
    Column("shelved_until", UtcDateTime),
    Column("out_of_service", Boolean, nullable=False),
    Column("news", String(16)),
    Column("news_key", String(36)),
    Column("told", Boolean, nullable=False),
    Column("told_at", UtcDateTime),
    Column("due_at", UtcDateTime),
    Column("alarm_id", String(36)),
)

alarms = Table(
    "alarms",
    metadata,
    Column("id", String(36), primary_key=True),
    Column("origin", String(100), nullable=False),
    Column("revision", Integer, nullable=False),
    Column("source", String(200), nullable=False),
    Column("kind", String(16), nullable=False),
    Column("priority", String(16), nullable=False),
    Column("phase", String(32), nullable=False),
    Column("score", Float, nullable=False),
    Column("peak", Float, nullable=False),
    Column("reason", Text, nullable=False),
    Column("model", JSON(none_as_null=True)),
    Column("evidence", JSON, nullable=False),
    Column("note", Text, nullable=False),
    Column("raised_at", UtcDateTime, nullable=False),
    Column("cleared_at", UtcDateTime),
    Column("acknowledged_at", UtcDateTime),
    Column("acknowledged_by", String(200)),
    Column("comment", Text, nullable=False),
    Column("verdict", String(16)),
    Column("idempotency_key", String(36), nullable=False),
)

transitions = Table(
    "alarm_transitions",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("key", String(36), nullable=False, unique=True),
    Column("origin", String(100), nullable=False),
    Column("source", String(200), nullable=False),
    Column("alarm_id", String(36)),
    Column("change", String(32), nullable=False),
    Column("previous", String(32), nullable=False),
    Column("phase", String(32), nullable=False),
    Column("at", UtcDateTime, nullable=False),
    Column("anomaly", Float),
    Column("reason", Text, nullable=False),
    Column("user", String(200)),
)

deliveries = Table(
    "alarm_deliveries",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("key", String(36), nullable=False),
    Column("alarm_id", String(36), nullable=False),
    Column("channel", String(64), nullable=False),
    Column("notification", JSON, nullable=False),
    Column("priority", String(16), nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("next_at", UtcDateTime, nullable=False),
    Column("batch", String(36)),
    Column("sent_at", UtcDateTime),
    Column("dead_at", UtcDateTime),
    Column("error", Text, nullable=False),
)

remote_sources = Table(
    "alarm_remote_sources",
    metadata,
    Column("origin", String(100), primary_key=True),
    Column("source", String(200), primary_key=True),
    Column("revision", Integer, nullable=False),
    Column("phase", String(32), nullable=False),
    Column("since", UtcDateTime),
    Column("shelved_until", UtcDateTime),
    Column("alarm_id", String(36)),
)
"""Where the sources of other stores stand, as those last reported."""

leases = Table(
    "alarm_leases",
    metadata,
    Column("name", String(100), primary_key=True),
    Column("owner", String(36), nullable=False),
    Column("until", UtcDateTime, nullable=False),
)

silences = Table(
    "alarm_silences",
    metadata,
    Column("id", String(36), primary_key=True),
    Column("sources", String(200), nullable=False),
    Column("starts_at", UtcDateTime, nullable=False),
    Column("ends_at", UtcDateTime, nullable=False),
    Column("user", String(200), nullable=False),
    Column("comment", Text, nullable=False),
    Column("ended_by", String(200)),
)

directives = Table(
    "alarm_directives",
    metadata,
    Column("number", Integer, primary_key=True),
    Column("id", String(36), nullable=False, unique=True),
    Column("origin", String(100), nullable=False),
    Column("action", String(32), nullable=False),
    Column("source", String(200), nullable=False),
    Column("alarm_id", String(36)),
    Column("raise_key", String(36)),
    Column("until", UtcDateTime),
    Column("user", String(200), nullable=False),
    Column("comment", Text, nullable=False),
    Column("verdict", String(16)),
    Column("at", UtcDateTime, nullable=False),
    Column("done_at", UtcDateTime),
)
"""What people did here, for the workers that it concerns."""

applied = Table(
    "alarm_applied",
    metadata,
    Column("directive_id", String(36), primary_key=True),
    Column("at", UtcDateTime, nullable=False),
)
"""Directives of the plant-wide record that this store has carried out."""

cursors = Table(
    "alarm_cursors",
    metadata,
    Column("name", String(100), primary_key=True),
    Column("value", BigInteger, nullable=False),
)

asset_channels = Table(
    "asset_channels",
    metadata,
    Column("asset", String(200), primary_key=True),
    Column("channel", String(100), primary_key=True),
    Column("judged_until", UtcDateTime, nullable=False),
    Column("received_at", UtcDateTime, nullable=False),
    Column("label", Text, nullable=False),
    Column("anomaly", Float),
)
"""The newest verdict of every sensor of every asset; the channel is empty where none was named."""

asset_readings = Table(
    "asset_readings",
    metadata,
    Column("id", BigInteger, primary_key=True),
    Column("asset", String(200), nullable=False),
    Column("channel", String(100), nullable=False),
    Column("record_id", String(200)),
    Column("measured_at", UtcDateTime, nullable=False),
    Column("received_at", UtcDateTime, nullable=False),
    Column("late", Boolean, nullable=False),
    Column("model", JSON, nullable=False),
    Column("label", Text, nullable=False),
    Column("probability", Float, nullable=False),
    Column("novelty", JSON(none_as_null=True)),
    Column("rms", Float, nullable=False),
    Column("unit", String(20)),
    Column("snr_db", JSON, nullable=False),
    Column("windows", Integer, nullable=False),
    Column("quality", JSON, nullable=False),
)
"""Trends: a row for every verdict on an asset."""

asset_answers = Table(
    "asset_answers",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("fingerprint", String(64), nullable=False),
    Column("answer", Text, nullable=False),
    Column("at", UtcDateTime, nullable=False),
)
"""Answers that a repeated request is given again."""
