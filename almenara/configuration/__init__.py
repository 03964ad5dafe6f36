"""Configuration files: strict YAML whose errors name the line, durations as ``3s``, secrets as ``${ENV}``."""
