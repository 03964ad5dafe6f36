"""Looks at every connection, version, migration, bucket, clock and disk that can be seen, and says what to do."""

from almenara.doctor.findings import Finding, State
from almenara.doctor.place import Place
from almenara.doctor.rounds import diagnose

__all__ = ["Finding", "Place", "State", "diagnose"]
