"""Almenara: industrial anomaly detection from recording or camera to alarm."""

import os

__version__ = "0.1.0"

# MLflow reads these when it is imported: no telemetry, and its warnings and links out of our output.
for _name, _value in {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
    "MLFLOW_LOGGING_LEVEL": "ERROR",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
}.items():
    os.environ.setdefault(_name, _value)
