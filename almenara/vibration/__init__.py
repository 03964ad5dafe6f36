"""Vibration: recordings, bearing features, models, honest evaluation and verdicts."""
