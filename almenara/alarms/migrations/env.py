"""Alembic environment: the connection is handed in by `almenara.alarms.database`, no configuration file is read."""

from alembic import context

context.configure(
    connection=context.config.attributes["connection"],
    version_table="alarm_revision",  # other tools may keep their own revision in the same database
    transactional_ddl=True,
)
with context.begin_transaction():
    context.run_migrations()
