"""A scoring API of the benchmark's own: answers at once or late, and notes how old each posted picture is.

Run as a process: ``python -m benchmarks.camera.scoring --port PORT``. The name of the model that is asked tells the
cameras apart. ``POST /settings {"delay": seconds, "look": bool}`` sets how long the model takes and whether pictures
are looked at; ``GET /records`` answers with what came since the last time.
"""

from __future__ import annotations

import argparse
import asyncio
import time
from typing import Any

import cv2
import numpy as np
from aiohttp import web
from numpy.typing import NDArray

from almenara.contracts import ModelRef, VisionVerdict
from camera_worker.simulator.scenes import read_timecode

_MOST_BYTES = 8 * 2**20
_MOST_RECORDS = 200_000

_Tiles = NDArray[np.float64]


class ScoringApi:
    """Finds every picture normal."""

    def __init__(self) -> None:
        self._delay, self._look = 0.0, True
        self._views: dict[tuple[str, int, int], _Tiles] = {}
        self._records: list[dict[str, Any]] = []

    def application(self) -> web.Application:
        application = web.Application(client_max_size=_MOST_BYTES)
        application.router.add_post("/v1/vision/{model}/predict", self._predict)
        application.router.add_post("/settings", self._settings)
        application.router.add_get("/records", self._tell)
        return application

    async def _predict(self, request: web.Request) -> web.Response:
        jpeg = await request.read()
        arrived = time.monotonic()
        model = request.match_info["model"]
        if len(self._records) < _MOST_RECORDS:
            record = {"model": model, "arrived": arrived, "bytes": len(jpeg)}
            self._records.append(record | (self._look_at(jpeg, model, arrived) if self._look else {}))
        await asyncio.sleep(self._delay)
        verdict = VisionVerdict(
            model=ModelRef(name=model, version="1", alias="champion"),
            label="normal",
            score=1.0,
            anomaly=0.1,
            p_value=0.6,
            threshold=5.0,
        )
        return web.Response(text=verdict.model_dump_json(), content_type="application/json")

    def _look_at(self, jpeg: bytes, model: str, arrived: float) -> dict[str, Any]:
        """Size of the picture, its time code, its age in seconds, and its largest difference from the camera's first.

        Time code and age are None when it cannot be read; the difference is of a tile's mean, in grey levels.
        """
        decoded = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR_RGB)
        if decoded is None:
            raise web.HTTPBadRequest(text="this is no picture")
        picture = decoded.astype(np.uint8, copy=False)
        height, width = picture.shape[:2]
        shown, tiles = read_timecode(picture), _tiles(picture)
        first = self._views.setdefault((model, width, height), tiles)
        return {
            "width": width,
            "height": height,
            "timecode": shown,
            "age": None if shown is None else arrived - shown / 1e3,
            "difference": float(np.abs(tiles - first).max()),
        }

    async def _settings(self, request: web.Request) -> web.Response:
        settings = await request.json()
        self._delay, self._look = float(settings["delay"]), bool(settings["look"])
        return web.json_response({})

    async def _tell(self, _: web.Request) -> web.Response:
        records, self._records = self._records, []
        return web.json_response(records)


def _tiles(picture: NDArray[np.uint8]) -> _Tiles:
    """Mean grey levels of tiles of about 16 pixels, below the time code."""
    height, width = picture.shape[:2]
    below = picture[height // 8 :]
    small = cv2.resize(below, (max(1, width // 16), max(1, below.shape[0] // 16)), interpolation=cv2.INTER_AREA)
    return np.asarray(small.mean(axis=2))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    port = parser.parse_args().port
    web.run_app(ScoringApi().application(), host="127.0.0.1", port=port, print=None, access_log=None)


if __name__ == "__main__":
    main()
