"""A process that is killed while it saves evidence leaves whole evidence and removable leftovers."""

from __future__ import annotations

import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest

from almenara.evidence import LocalEvidence
from tests.support.camera import wait_for

pytestmark = pytest.mark.slow

SAVING = """
import sys
from pathlib import Path
from almenara.evidence import LocalEvidence
store = LocalEvidence(Path(sys.argv[1]), leave_free=0)
number = 0
while True:
    number += 1
    store.save(f"{sys.argv[2]}-{number}", {f"{part}.jpg": bytes([part]) * 300_000 for part in range(4)})
"""


def any_of(folder: Path, turn: int) -> bool:
    return any(folder.glob(f"{turn}-*"))


def test_every_evidence_is_whole_after_kills_at_any_moment(tmp_path: Path) -> None:
    store = LocalEvidence(tmp_path, leave_free=0)
    for turn in range(8):
        child = subprocess.Popen([sys.executable, "-c", SAVING, str(tmp_path), str(turn)])
        wait_for(partial(any_of, tmp_path, turn), 30, "the first evidence")
        time.sleep(0.013 * turn)  # the moment of the kill, not a wait for something
        child.kill()
        child.wait()
    stored = store.stored()
    assert len(stored) >= 8
    assert {each.files for each in stored} == {("0.jpg", "1.jpg", "2.jpg", "3.jpg")}
    assert {each.size for each in stored} == {1_200_000}
    store.remove_leftovers(time.time() + 1)
    assert not list(tmp_path.rglob(".*"))
    assert len(store.stored()) == len(stored)
