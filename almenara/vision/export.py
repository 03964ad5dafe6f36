"""From backbone and PaDiM to one ONNX graph: a uint8 picture in, the raw map and an embedding out; training only."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from almenara.errors import InputError
from almenara.vision.backbones import backbone, describe
from almenara.vision.normality import Padim

OPSET = 17
INPUT, MAP, EMBEDDING = "image", "map", "embedding"


class Extractor:
    """Features of pictures: the taps of a backbone, brought to one grid and stacked along the last axis.

    Attributes:
        size: height and width of its input in pixels.
        cells: height and width of the grid.
    """

    def __init__(self, name: str, size: int) -> None:
        import tensorflow as tf

        self.size = size
        self.cells = size // describe(name).stride
        self._model = backbone(name, size)
        self._compiled = tf.function(
            self.trace, input_signature=[tf.TensorSpec((None, size, size, 3), tf.uint8, name=INPUT)]
        )

    def trace(self, image: Any) -> Any:
        """Tensor of features (n, cells, cells, d) for a tensor of pictures (n, size, size, 3)."""
        import tensorflow as tf

        maps = self._model(tf.cast(image, tf.float32), training=False)
        return tf.concat([_to_grid(features, self.cells) for features in maps], axis=-1)

    def __call__(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Features (n, cells, cells, d) of a batch of uint8 RGB pictures (n, size, size, 3)."""
        return np.asarray(self._compiled(images).numpy(), dtype=np.float32)


def embed(features: NDArray[np.floating]) -> NDArray[np.float64]:
    """Average of features over the grid: one row (d,) a picture, what drift is watched on."""
    return np.asarray(features.mean(axis=(1, 2), dtype=np.float64))


def to_onnx(extractor: Extractor, padim: Padim) -> bytes:
    """Serialised ONNX graph of the whole model.

    Input `image`: uint8 (n, size, size, 3). Outputs `map`: float32 (n, cells, cells), the raw distances, and
    `embedding`: float32 (n, d). Threshold, region of interest and smoothing stay outside, in the card.

    Raises:
        InputError: `export-borders` when the graph has other inputs or outputs than these.
    """
    import tensorflow as tf
    import tf2onnx

    height, width, kept = padim.mean.shape

    # The arrays become constants inside the traced function: tensors made outside would turn into graph inputs.
    def model(image: Any) -> dict[str, Any]:
        features = extractor.trace(image)
        chosen = tf.gather(features, tf.constant(padim.dimensions, tf.int32), axis=-1)
        by_cell = tf.transpose(tf.reshape(chosen, (-1, height * width, kept)), (1, 0, 2))
        centred = by_cell - tf.constant(padim.mean.reshape(-1, 1, kept), tf.float32)
        factors = tf.constant(padim.whitening.reshape(-1, kept, kept).transpose(0, 2, 1), tf.float32)
        distances = tf.transpose(tf.norm(tf.matmul(centred, factors), axis=-1))
        return {
            MAP: tf.reshape(distances, (-1, height, width)),
            EMBEDDING: tf.reduce_mean(features, axis=(1, 2)),
        }

    signature = [tf.TensorSpec((None, extractor.size, extractor.size, 3), tf.uint8, name=INPUT)]
    graph, _ = tf2onnx.convert.from_function(
        tf.function(model, autograph=False), input_signature=signature, opset=OPSET
    )
    borders = ([value.name for value in graph.graph.input], sorted(value.name for value in graph.graph.output))
    if borders != ([INPUT], sorted((MAP, EMBEDDING))):
        raise InputError("export-borders", f"The exported graph has the inputs {borders[0]} and outputs {borders[1]}.")
    return bytes(graph.SerializeToString())


def _to_grid(features: Any, cells: int) -> Any:
    """Bring a square feature map to the grid: average when it is finer, interpolate when it is coarser."""
    import tensorflow as tf

    side = features.shape[1]
    if side > cells:
        return tf.nn.avg_pool2d(features, side // cells, side // cells, "VALID")
    return features if side == cells else tf.image.resize(features, (cells, cells), method="bilinear")
