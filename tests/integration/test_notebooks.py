"""Every notebook runs from top to bottom on generated data, and is committed without outputs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import nbclient
import nbformat
import pytest

from tests.support.data import ROOT
from tests.support.posting import full_service

NOTEBOOKS = sorted((ROOT / "notebooks").rglob("*.ipynb"))


def test_there_are_notebooks_for_both_tasks() -> None:
    assert {path.parent.name for path in NOTEBOOKS} == {"vision", "vibration"}


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_no_outputs_are_committed(path: Path) -> None:
    notebook = nbformat.read(path, as_version=4)
    assert not [cell for cell in notebook.cells if cell.get("outputs")]


def executed(path: Path, folder: Path) -> nbformat.NotebookNode:
    notebook = nbformat.read(path, as_version=4)
    nbclient.NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(folder)}}).execute()
    return notebook


def printed(cell: nbformat.NotebookNode) -> str:
    return "".join(output.text for output in cell.outputs if output.output_type == "stream")


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_runs_from_top_to_bottom(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ALMENARA_API_URL", raising=False)
    notebook = executed(path, tmp_path)
    pictures = [
        output for cell in notebook.cells for output in cell.get("outputs", []) if "image/png" in output.get("data", {})
    ]
    assert pictures, "a notebook that shows nothing explains nothing"
    assert "no service was asked" in printed(notebook.cells[-1])


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with full_service(tmp_path_factory.mktemp("api") / "var") as api:
        yield str(api.http.base_url)


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_shows_what_the_service_says(path: Path, tmp_path: Path, service: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALMENARA_API_URL", service)
    last = executed(path, tmp_path).cells[-1]
    model, healthy = {"vision": ("darkness", "good"), "vibration": ("bearing", "normal")}[path.parent.name]
    assert f"{model} 1 says of {healthy}: " in printed(last)
    overlays = [output for output in last.outputs if "image/jpeg" in output.get("data", {})]
    assert bool(overlays) == (path.parent.name == "vision")
