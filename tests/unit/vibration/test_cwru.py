"""Import of CWRU files under the names that people download them with."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy.io import savemat

from almenara.errors import InputError
from almenara.vibration.cwru import import_cwru
from almenara.vibration.recordings import load_folder

SIGNAL = np.sin(np.arange(4000.0))


def mat(folder: Path, name: str, number: int, rpm: float | None = 1790) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    content = {f"X{number:03d}_DE_time": SIGNAL[:, None], f"X{number:03d}_FE_time": SIGNAL[:, None] * 2}
    savemat(folder / name, content | ({} if rpm is None else {f"X{number:03d}RPM": rpm}))


@pytest.mark.parametrize(
    ("name", "variable", "expected"),
    [
        ("105.mat", 105, ("105", "inner_race", 7, "", 12_000)),
        ("105_0.mat", 105, ("105", "inner_race", 7, "", 12_000)),
        ("130@6_0.mat", 130, ("130", "outer_race", 7, "6", 12_000)),
        ("OR007@6_0.mat", 130, ("130", "outer_race", 7, "6", 12_000)),
        ("97_Normal_0.mat", 97, ("97", "normal", 0, "", 48_000)),
        ("Normal_0.mat", 97, ("97", "normal", 0, "", 48_000)),
        ("12k_Drive_End_B014_1_186.mat", 186, ("186", "ball", 14, "", 12_000)),
        ("48k_Drive_End_B007_0_122.mat", 122, ("122", "ball", 7, "", 48_000)),
        ("3006_1.mat", 49, ("3006", "ball", 28, "", 12_000)),
        ("IR028_0.mat", 56, ("3001", "inner_race", 28, "", 12_000)),
    ],
)
def test_record_is_recognised(tmp_path: Path, name: str, variable: int, expected: tuple[object, ...]) -> None:
    mat(tmp_path / "src" / "deep", name, variable)
    report = import_cwru(tmp_path / "src", tmp_path / "dst")
    (recording,) = load_folder(tmp_path / "dst")
    found = (recording.record, recording.fault, recording.severity, recording.position, recording.sampling_rate_hz)
    assert found == expected
    assert report.records == (expected[0],)
    np.testing.assert_allclose(recording.signal, SIGNAL, atol=1e-6)


def test_speed_comes_from_the_file_or_else_from_the_load(tmp_path: Path) -> None:
    mat(tmp_path / "src", "106_1.mat", 106, rpm=1774)
    mat(tmp_path / "src", "107_2.mat", 107, rpm=None)
    import_cwru(tmp_path / "src", tmp_path / "dst")
    assert [item.shaft_rpm for item in load_folder(tmp_path / "dst")] == [1774, 1750]


def test_file_with_a_neighbours_variables_gives_its_own(tmp_path: Path) -> None:
    (tmp_path / "src").mkdir()
    savemat(tmp_path / "src" / "99.mat", {"X098_DE_time": SIGNAL * 3, "X099_DE_time": SIGNAL})
    import_cwru(tmp_path / "src", tmp_path / "dst")
    np.testing.assert_allclose(load_folder(tmp_path / "dst")[0].signal, SIGNAL, atol=1e-6)


def test_what_cannot_be_used_is_reported_and_left_out(tmp_path: Path) -> None:
    source = tmp_path / "src"
    mat(source, "105_0.mat", 105)
    mat(source, "105.mat", 105)
    mat(source, "278_0.mat", 278)
    (source / "106_1.mat").write_bytes(b"cut off")
    (source / "notes.txt").write_text("hello")
    report = import_cwru(source, tmp_path / "dst")
    assert report.imported == 1
    assert len(report.skipped) == 4
    for part in (
        "105_0.mat: record 105 was imported already",
        "record 278 is not known",
        "106_1.mat: not readable",
        "notes",
    ):
        assert any(part in reason for reason in report.skipped), part


def test_running_it_again_gives_the_same(tmp_path: Path) -> None:
    mat(tmp_path / "src", "105_0.mat", 105)
    import_cwru(tmp_path / "src", tmp_path / "dst")
    before = (tmp_path / "dst" / "manifest.csv").read_bytes()
    import_cwru(tmp_path / "src", tmp_path / "dst")
    assert (tmp_path / "dst" / "manifest.csv").read_bytes() == before
    assert not list((tmp_path / "dst").rglob("*.part"))


def test_folder_without_records_is_refused(tmp_path: Path) -> None:
    for source in (tmp_path, tmp_path / "none"):
        with pytest.raises(InputError) as caught:
            import_cwru(source, tmp_path / "dst")
        assert caught.value.code == "import-source"
    assert not (tmp_path / "dst").exists()
