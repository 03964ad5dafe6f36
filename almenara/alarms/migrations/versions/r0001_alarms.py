"""Sources, alarms, transitions and the outbox."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

_MOMENT = sa.DateTime(timezone=True)


def upgrade() -> None:
    op.create_table(
        "alarm_sources",
        sa.Column("source", sa.String(200), primary_key=True),
        sa.Column("version", sa.Integer, nullable=False),
        sa.Column("phase", sa.String(32), nullable=False),
        sa.Column("since", _MOMENT),
        sa.Column("blind_since", _MOMENT),
        sa.Column("peak", sa.Float, nullable=False),
        sa.Column("told", sa.Boolean, nullable=False),
        sa.Column("told_at", _MOMENT),
        sa.Column("alarm_id", sa.String(36)),
    )
    op.create_table(
        "alarms",
        sa.Column("id", sa.String(36), primary_key=True),
        sa.Column("source", sa.String(200), nullable=False),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("priority", sa.String(16), nullable=False),
        sa.Column("phase", sa.String(32), nullable=False),
        sa.Column("score", sa.Float, nullable=False),
        sa.Column("peak", sa.Float, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("model", sa.JSON),
        sa.Column("evidence", sa.JSON, nullable=False),
        sa.Column("note", sa.Text, nullable=False),
        sa.Column("raised_at", _MOMENT, nullable=False),
        sa.Column("cleared_at", _MOMENT),
        sa.Column("acknowledged_at", _MOMENT),
        sa.Column("acknowledged_by", sa.String(200)),
        sa.Column("comment", sa.Text, nullable=False),
        sa.Column("idempotency_key", sa.String(36), nullable=False),
    )
    op.create_index("alarms_by_time", "alarms", ["raised_at"])
    op.create_index("alarms_by_source", "alarms", ["source", "raised_at"])
    op.create_table(
        "alarm_transitions",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("key", sa.String(36), nullable=False, unique=True),
        sa.Column("source", sa.String(200), nullable=False),
        sa.Column("alarm_id", sa.String(36), sa.ForeignKey("alarms.id")),
        sa.Column("change", sa.String(32), nullable=False),
        sa.Column("previous", sa.String(32), nullable=False),
        sa.Column("phase", sa.String(32), nullable=False),
        sa.Column("at", _MOMENT, nullable=False),
        sa.Column("anomaly", sa.Float),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("user", sa.String(200)),
    )
    op.create_index("alarm_transitions_by_alarm", "alarm_transitions", ["alarm_id"])
    op.create_table(
        "alarm_deliveries",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("key", sa.String(36), sa.ForeignKey("alarm_transitions.key"), nullable=False),
        sa.Column("alarm_id", sa.String(36), sa.ForeignKey("alarms.id"), nullable=False),
        sa.Column("channel", sa.String(64), nullable=False),
        sa.Column("notification", sa.JSON, nullable=False),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("next_at", _MOMENT, nullable=False),
        sa.Column("lease_owner", sa.String(36)),
        sa.Column("leased_until", _MOMENT),
        sa.Column("sent_at", _MOMENT),
        sa.Column("dead_at", _MOMENT),
        sa.Column("error", sa.Text, nullable=False),
        sa.UniqueConstraint("key", "channel", name="alarm_deliveries_once"),
    )
    op.create_index(
        "alarm_deliveries_open",
        "alarm_deliveries",
        ["channel", "alarm_id", "id"],
        sqlite_where=sa.text("sent_at IS NULL AND dead_at IS NULL"),
        postgresql_where=sa.text("sent_at IS NULL AND dead_at IS NULL"),
    )


def downgrade() -> None:
    for table in ("alarm_deliveries", "alarm_transitions", "alarms", "alarm_sources"):
        op.drop_table(table)
