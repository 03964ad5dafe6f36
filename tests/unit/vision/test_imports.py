"""What the API and the worker import of the vision part stays light."""

from __future__ import annotations

import subprocess
import sys

TRAINING_ONLY = {"tensorflow", "keras", "sklearn", "matplotlib", "onnxruntime", "scipy", "mlflow", "threadpoolctl"}


def test_runtime_modules_need_neither_scipy_nor_training_libraries() -> None:
    program = (
        "import sys\n"
        "import almenara.vision.images, almenara.vision.verdict, almenara.vision.scenes\n"
        "print(*{name.partition('.')[0] for name in sys.modules})\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert TRAINING_ONLY.isdisjoint(done.stdout.split())
