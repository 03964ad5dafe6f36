"""Anomalies in camera frames: images, models, honest evaluation and verdicts."""
