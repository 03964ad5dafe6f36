"""MLServer's custom runtime around a package: the same decoding, features and graph as ours, from v2 requests.

Runs in MLServer's own environment.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from mlserver import MLModel  # type: ignore[import-not-found]
from mlserver.codecs import Base64Codec, NumpyCodec, StringCodec  # type: ignore[import-not-found]
from mlserver.types import InferenceRequest, InferenceResponse  # type: ignore[import-not-found]

from almenara import servable
from almenara.contracts import ModelRef
from almenara.vision import images

_MAX_PIXELS = 25_000_000


class Packaged(MLModel):  # type: ignore[misc]  # it has no types here
    async def load(self) -> bool:
        package = servable.load(Path(self.settings.parameters.uri))
        ref = ModelRef(name=package.card.name, version="1")
        vision = package.card.task == "vision"
        self._model = servable.VisionModel(package, ref) if vision else servable.VibrationModel(package, ref)
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        tensor = payload.inputs[0]
        if isinstance(self._model, servable.VisionModel):
            pictures = Base64Codec.decode_input(tensor)
            verdicts = [
                self._model.predict(images.decode(each, max_pixels=_MAX_PIXELS)).verdict.model_dump_json()
                for each in pictures
            ]
        else:
            told = payload.parameters.model_dump()
            verdicts = [
                self._model.predict(
                    row, told["sampling_rate_hz"], shaft_rpm=told["shaft_rpm"], bearing=told["bearing"]
                ).model_dump_json()
                for row in NumpyCodec.decode_input(tensor).astype(np.float32)
            ]
        return InferenceResponse(model_name=self.name, outputs=[StringCodec.encode_output("verdict", verdicts)])
