"""What travels with a registered model so that it judges raw input where almenara is not installed."""

from __future__ import annotations

import shutil
from importlib.metadata import version
from pathlib import Path

_REQUIREMENTS = ("numpy", "onnxruntime", "opencv-python-headless", "pydantic", "scipy")
_MODULES = (
    "__init__.py",
    "errors.py",
    "contracts.py",
    "calibration.py",
    "manifests.py",
    "servable.py",
    "vibration",
    "vision",
)
_TRAINING_ONLY = shutil.ignore_patterns(
    "__pycache__",
    "train*",
    "evaluat*",
    "plots*",
    "simulate*",
    "scenes*",
    "models*",
    "novelty*",
    "backbones*",
    "normality*",
    "export*",
    "metrics*",
    "cwru*",
    "checkpoints*",
    "objects*",
    "shortcuts*",
    "textures*",
)


def requirements() -> list[str]:
    """The packages that it needs, pinned to the versions that are installed here."""
    return [f"{name}=={version(name)}" for name in _REQUIREMENTS]


def copy(destination: Path) -> Path:
    """Copy the modules that a package needs to judge raw input, and nothing else of ours."""
    source = Path(__file__).parent
    destination.mkdir()
    for name in _MODULES:
        if (source / name).is_dir():
            shutil.copytree(source / name, destination / name, ignore=_TRAINING_ONLY)
        else:
            shutil.copy2(source / name, destination / name)
    return destination
