"""A false alarm that turns out a true one is no normal: what was kept of it goes, and nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest

from almenara.contracts import AlarmKind
from almenara.evidence import LocalEvidence, drop_normal, keep_normal
from almenara.vibration import recordings
from almenara.vision import images
from tests.support.evidence import frame, window


def test_its_picture_goes_and_the_others_stay(store: LocalEvidence, folder: Path) -> None:
    wrong, right = frame(store, 40), frame(store, 80)
    kept = [keep_normal(files, store, folder, "outflow", "vision") for files in (wrong, right)]
    drop_normal(wrong, folder, "outflow", "vision")
    assert [sample.file for sample in images.load_folder(folder / "vision" / "outflow")] == kept[1:]


def test_its_window_goes_with_its_line_and_what_people_wrote_stays(store: LocalEvidence, folder: Path) -> None:
    wrong, right = window(store, 1), window(store, 2)
    for files in (wrong, right):
        kept = keep_normal(files, store, folder, "pump-1", "vibration")
    assert kept is not None
    manifest = kept.parent / "manifest.csv"
    header, first, second = manifest.read_text().splitlines()
    manifest.write_text(f'{header},note\n{first},a\n{second},"said: ""fine"",\nand signed"\n')
    drop_normal(wrong, folder, "pump-1", "vibration")
    assert [path.name for path in kept.parent.glob("*.npz")] == [kept.name]
    assert manifest.read_text() == f'{header},note\n{second},"said: ""fine"",\nand signed"\n'
    assert len(recordings.load_folder(kept.parent)) == 1


@pytest.mark.parametrize("kind", ["vision", "vibration", "system"])
def test_what_was_never_kept_leaves_no_trace(store: LocalEvidence, folder: Path, kind: AlarmKind) -> None:
    files = window(store, 1) if kind == "vibration" else frame(store, 40)
    drop_normal(files, folder, "outflow", kind)
    assert not folder.exists()


def test_it_can_be_kept_again(store: LocalEvidence, folder: Path) -> None:
    files = window(store, 1)
    for _ in range(2):
        keep_normal(files, store, folder, "pump-1", "vibration")
        drop_normal(files, folder, "pump-1", "vibration")
    kept = keep_normal(files, store, folder, "pump-1", "vibration")
    assert kept is not None
    assert len(recordings.load_folder(kept.parent)) == 1
