"""A local evidence store and a folder of confirmed normals."""

from __future__ import annotations

from pathlib import Path

import pytest

from almenara.evidence import LocalEvidence


@pytest.fixture
def store(tmp_path: Path) -> LocalEvidence:
    return LocalEvidence(tmp_path / "evidence", leave_free=0)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "confirmed-normal"
