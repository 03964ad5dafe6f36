"""An API as tutorials write it: a Keras model in a global, an upload, `model.predict`, a dictionary back.

Its network is the backbone of the model that the others serve, classifying; it computes less than they do.
"""

from __future__ import annotations

import io

import numpy as np
from fastapi import FastAPI, UploadFile
from PIL import Image

from almenara.vision.backbones import LOGITS, backbone

SIZE = 256

app = FastAPI()
model = backbone("efficientnet-lite0", SIZE, (LOGITS,))


@app.get("/")
def root() -> dict[str, str]:
    return {"message": "hello"}


@app.post("/predict")
async def predict(file: UploadFile) -> dict[str, float]:
    image = Image.open(io.BytesIO(await file.read())).convert("RGB").resize((SIZE, SIZE))
    scores = np.asarray(model.predict(np.array(image, dtype=np.float32)[None], verbose=0))
    return {"class": float(scores.argmax()), "score": float(scores.max())}
