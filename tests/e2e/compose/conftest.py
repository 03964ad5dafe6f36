"""One platform for all tests of this folder, built from the tree and started as its README says."""

from __future__ import annotations

import shutil
from collections.abc import Iterator

import pytest

from tests.support.engine import Engine, engine, ensure_images
from tests.support.plant import DATASET, Plant
from tests.support.platform_stack import Stack

ORDER = ("platform", "journey", "profiles", "kills", "restarts", "backup", "overlays", "bundle")
"""Of the files: what an empty platform shows comes first, and what takes the platform down comes last."""

NOTES: list[str] = []
"""For the summary: what is a stand-in, and what was measured."""


@pytest.fixture(scope="session")
def docker_engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    with engine(tmp_path_factory.mktemp("engine") / "dockerd.log") as running:
        NOTES.extend(ensure_images())
        yield running


@pytest.fixture(scope="session")
def stack(docker_engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """The default platform: `up --detach --build --wait` from a copy of the tree."""
    made = Stack(tmp_path_factory.mktemp("platform"), "almenara-test", docker_engine)
    cameras, data = made.directory / "site", made.directory / "data"
    made.prepare({"CAMERAS_DIR": str(cameras), "DATA_DIR": str(data)})
    (made.directory / "cameras.env").write_text("CAMERA_PASSWORD='p@ss:word/1'\n")
    data.mkdir()
    data.chmod(0o755)
    cameras.mkdir()
    for name in ("alarms.yaml", "cameras.yaml"):
        shutil.copy2(made.directory / "deploy" / name, cameras)
    made.down("--volumes")
    try:
        NOTES.append(f"up --build --wait: {made.up('--build'):.0f} s")
        yield made
    finally:
        made.down("--volumes")


@pytest.fixture(scope="session")
def plant(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Plant]:
    """A plant whose data set is in storage, and pulled from there for the trainer."""
    made = Plant(stack, tmp_path_factory.mktemp("plant"))
    made.render()
    made.fingerprint = made.almenara("data", "fingerprint", "vision", str(made.pictures)).strip()
    made.minio_client("datasets", "push", str(made.pictures), DATASET, "--fingerprint", made.fingerprint)
    made.minio_client("datasets", "pull", DATASET, f"{stack.env['DATA_DIR']}/{DATASET}")
    try:
        yield made
    finally:
        made.remove_camera()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    def place(item: pytest.Item) -> int:
        name = item.path.stem.removeprefix("test_")
        return ORDER.index(name) if name in ORDER else -1

    items.sort(key=place)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if NOTES:
        terminalreporter.section("composed platform")
        for note in NOTES:
            terminalreporter.write_line(note)
