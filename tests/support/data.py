"""Where the real recordings and pictures are; tests that need them say so when they are absent."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def require_data(*parts: str) -> Path:
    """Folder or file under ALMENARA_TEST_DATA (default ../shared/data); skips the test with the reason when absent."""
    base = Path(os.environ.get("ALMENARA_TEST_DATA", str(ROOT.parent / "shared" / "data")))
    path = base.joinpath(*parts)
    if not path.exists():
        pytest.skip(f"real data absent: {path} (set ALMENARA_TEST_DATA)")
    return path
