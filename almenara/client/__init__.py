"""Almenara's API from Python: pictures and vibration windows in, verdicts out; `Almenara`, and `AsyncAlmenara`."""

from almenara.client.answers import ApiError, ApiUnreachable
from almenara.client.awaiting import AsyncAlmenara
from almenara.client.blocking import Almenara
from almenara.client.results import ServedModel, ServedModels
from almenara.contracts import Reading

__all__ = ["Almenara", "ApiError", "ApiUnreachable", "AsyncAlmenara", "Reading", "ServedModel", "ServedModels"]
