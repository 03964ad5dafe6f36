"""The HTTP service: models from the registry, pictures and vibration in, verdicts and alarms out."""

import os

# Each request is judged in one thread, as many at a time as there are cores. Heeded where NumPy is imported after this.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
