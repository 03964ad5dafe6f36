"""The worker begins with the best JPEGs and encodes at the quality that the API's answers ask for."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path

import pytest
from aiohttp import web
from PIL.JpegImagePlugin import JpegImageFile

from almenara.vision.images import QUALITY_HEADER
from tests.support.camera import LoopThread, ScoringApi, write_video
from tests.support.worker import Rig, worker_rig

pytestmark = pytest.mark.slow

FRAMES = 20


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    with worker_rig(tmp_path) as made:
        yield made


class AskingApi(ScoringApi):
    """Asks for less from its sixth answer on, and for the best again from the twelfth."""

    async def _predict(self, request: web.Request) -> web.Response:
        answer = await super()._predict(request)
        answer.headers[QUALITY_HEADER] = "95" if 5 < len(self.requests) < 12 else "100"
        return answer


def best(jpeg: bytes) -> bool:
    with JpegImageFile(io.BytesIO(jpeg)) as file:
        return max(max(table) for table in file.quantization.values()) == 1


def test_pictures_are_encoded_as_the_answers_before_them_asked(rig: Rig) -> None:
    video = write_video(rig.var.parent / "a.mp4", frames=FRAMES)
    with LoopThread() as loop:
        rig.api = AskingApi(loop)
        rig.api.start()
        try:
            rig.run(rig.whole(f"  - {{name: film, source: {video}, model: wall}}"))
            assert rig.exit.result(30) == 0
        finally:
            rig.api.stop()
    asked_for_less = range(6, 12)
    assert [best(scored.jpeg) for scored in rig.verdicts] == [place not in asked_for_less for place in range(FRAMES)]
