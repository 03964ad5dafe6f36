"""The plant-wide record as a worker speaks with it: four requests over HTTP, bounded in time and size."""

from __future__ import annotations

import http.client
import json
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

from pydantic import ValidationError

from almenara.alarms.records import Directives, EvidenceFile, Report

_MOST_ANSWER_BYTES = 16 * 2**20
_MOST_EVIDENCE_BYTES = 16 * 2**20
_REFUSED = frozenset({400, 409, 411, 413, 415, 422})
_SECONDS = 5.0


class RecordAwayError(Exception):
    """The record cannot be reached, or does not serve this worker now; what was sent may be sent again."""


class RefusedError(Exception):
    """The record refuses what was sent, and would again."""


class RecordClient:
    """Keeps one connection; for one thread. It follows no redirect and uses no proxy: they would learn the key.

    Every request raises RecordAwayError or RefusedError; it gives up when nothing comes for 5 s.

    Args:
        api_url: of the API, such as ``http://127.0.0.1:8000``.
        api_key: sent as X-API-Key.
        origin: name of this worker.
    """

    def __init__(self, api_url: str, api_key: str | None, origin: str) -> None:
        parts = urlsplit(api_url)
        kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        self._connection = kind(parts.hostname or "", parts.port, timeout=_SECONDS)
        self._prefix = f"{parts.path.rstrip('/')}/v1/alarms"
        self._headers = {"X-API-Key": api_key} if api_key else {}
        self._origin = origin

    def report(self, reports: Sequence[Report]) -> None:
        """Hands over transitions, at most 500, in their order."""
        self._post("/reports", {"reports": [report.model_dump(mode="json") for report in reports]})

    def directives(self) -> Directives:
        """What people did at the record."""
        answer = self._ask("GET", f"/directives?{urlencode({'origin': self._origin})}")
        try:
            return Directives.model_validate_json(answer)
        except ValidationError as error:
            raise RecordAwayError(f"its directives cannot be read: {error.error_count()} mistakes") from error

    def confirm(self, ids: Sequence[str]) -> None:
        """Says which directives have been carried out, at most 1,000."""
        self._post("/directives/confirm", {"ids": list(ids)})

    def keep_evidence(self, alarm_id: str, file: EvidenceFile, content: bytes) -> None:
        """Hands over one file of an alarm, of at most 16 MiB."""
        if len(content) > _MOST_EVIDENCE_BYTES:
            raise RefusedError(f"it has more than {_MOST_EVIDENCE_BYTES} bytes")
        headers = {"Content-Type": file.media_type, "X-Content-SHA256": file.sha256}
        path = f"/{quote(alarm_id, safe='')}/evidence/{quote(file.name, safe='')}"
        self._ask("PUT", path, content, headers)

    def close(self) -> None:
        """Ends the connection; the next request makes another."""
        self._connection.close()

    def _post(self, path: str, body: Mapping[str, Any]) -> None:
        content = json.dumps({"origin": self._origin, **body}).encode()
        self._ask("POST", path, content, {"Content-Type": "application/json"})

    def _ask(
        self, method: str, path: str, content: bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> bytes:
        kept = self._connection.sock is not None
        try:
            try:
                status, answer = self._exchange(method, path, content, headers or {})
            except ConnectionError:
                if not kept:
                    raise
                self.close()  # a server ends a connection that was idle for a while
                status, answer = self._exchange(method, path, content, headers or {})
        except (OSError, http.client.HTTPException) as error:
            self.close()
            raise RecordAwayError(f"{type(error).__name__}: {error}") from error
        if len(answer) > _MOST_ANSWER_BYTES:
            self.close()
            raise RecordAwayError(f"its answer has more than {_MOST_ANSWER_BYTES} bytes")
        if 200 <= status < 300:
            return answer
        fact = f"{method} {path.partition('?')[0]}: {status} {_detail(answer)}".rstrip()
        raise RefusedError(fact) if status in _REFUSED else RecordAwayError(fact)

    def _exchange(self, method: str, path: str, content: bytes | None, headers: Mapping[str, str]) -> tuple[int, bytes]:
        """Status and body of the answer."""
        self._connection.request(method, self._prefix + path, content, {**self._headers, **headers})
        response = self._connection.getresponse()
        return response.status, response.read(_MOST_ANSWER_BYTES + 1)


def _detail(answer: bytes) -> str:
    """What a problem+json answer says; empty for any other."""
    try:
        return str(json.loads(answer)["detail"])[:300]
    except (ValueError, KeyError, TypeError):
        return ""
