"""`almenara data fingerprint` prints what a model's card says of its training data."""

from __future__ import annotations

from pathlib import Path

from typer.testing import CliRunner

from almenara.cli import app
from almenara.vision import images, scenes


def test_it_is_the_fingerprint_of_the_folder_s_pictures(tmp_path: Path) -> None:
    scenes.render_dataset(tmp_path / "pictures", normals=4, anomalies=2, groups=2, width=64, height=48)
    printed = CliRunner().invoke(app, ["data", "fingerprint", "vision", str(tmp_path / "pictures")])
    assert printed.exit_code == 0
    assert printed.stdout.strip() == images.fingerprint(images.load_folder(tmp_path / "pictures"))
