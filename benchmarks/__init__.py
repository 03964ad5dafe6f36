"""Measurements of the whole system, each against a baseline of the same run; no part of the installed packages."""
