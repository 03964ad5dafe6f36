"""Almenara: industrial anomaly detection from recording or camera to alarm."""

__version__ = "0.1.0"
