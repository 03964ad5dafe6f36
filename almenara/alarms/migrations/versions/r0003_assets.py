"""Trends of assets, and the answers that a repeated request is given again."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"

_MOMENT = sa.DateTime(timezone=True)


def upgrade() -> None:
    op.create_table(
        "asset_channels",
        sa.Column("asset", sa.String(200), primary_key=True),
        sa.Column("channel", sa.String(100), primary_key=True),
        sa.Column("judged_until", _MOMENT, nullable=False),
        sa.Column("received_at", _MOMENT, nullable=False),
        sa.Column("label", sa.Text, nullable=False),
        sa.Column("anomaly", sa.Float),
    )
    op.create_index("asset_channels_by_time", "asset_channels", ["received_at"])
    op.create_table(
        "asset_readings",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True),
        sa.Column("asset", sa.String(200), nullable=False),
        sa.Column("channel", sa.String(100), nullable=False),
        sa.Column("record_id", sa.String(200)),
        sa.Column("measured_at", _MOMENT, nullable=False),
        sa.Column("received_at", _MOMENT, nullable=False),
        sa.Column("late", sa.Boolean, nullable=False),
        sa.Column("model", sa.JSON, nullable=False),
        sa.Column("label", sa.Text, nullable=False),
        sa.Column("probability", sa.Float, nullable=False),
        sa.Column("novelty", sa.JSON),
        sa.Column("rms", sa.Float, nullable=False),
        sa.Column("unit", sa.String(20)),
        sa.Column("snr_db", sa.JSON, nullable=False),
        sa.Column("windows", sa.Integer, nullable=False),
        sa.Column("quality", sa.JSON, nullable=False),
    )
    op.create_index("asset_readings_by_asset", "asset_readings", ["asset", "measured_at", "id"])
    op.create_index("asset_readings_by_channel", "asset_readings", ["asset", "channel", "measured_at", "id"])
    op.create_index("asset_readings_by_time", "asset_readings", ["measured_at"])
    op.create_table(
        "asset_answers",
        sa.Column("id", sa.String(64), primary_key=True),
        sa.Column("fingerprint", sa.String(64), nullable=False),
        sa.Column("answer", sa.Text, nullable=False),
        sa.Column("at", _MOMENT, nullable=False),
    )
    op.create_index("asset_answers_by_time", "asset_answers", ["at"])


def downgrade() -> None:
    for table in ("asset_answers", "asset_readings", "asset_channels"):
        op.drop_table(table)
