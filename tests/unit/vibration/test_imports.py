"""What runs inside the API's image stays light: no training library is loaded with it."""

from __future__ import annotations

import subprocess
import sys

HEAVY = ("sklearn", "skl2onnx", "onnx", "matplotlib", "tensorflow", "mlflow", "pandas")


def test_serving_loads_no_training_library() -> None:
    code = (
        "import sys; from almenara.vibration import bearings, recordings, features, verdict;"
        f"print([name for name in {HEAVY} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
