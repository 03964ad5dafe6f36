"""The HTTP service: models from the registry, pictures and vibration in, verdicts and alarms out."""
