"""From backbone and PaDiM to one ONNX graph: a uint8 picture in, the raw map and an embedding out; training only."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from almenara.errors import InputError
from almenara.vision.backbones import backbone, describe, load_tensorflow
from almenara.vision.normality import Padim

OPSET = 17
INPUT, MAP, EMBEDDING = "image", "map", "embedding"
_FEATURES = "features"


class Extractor:
    """Features of pictures: the taps of a backbone, brought to one grid and stacked along the last axis.

    Attributes:
        size: height and width of its input in pixels.
        cells: height and width of the grid.
    """

    def __init__(self, name: str, size: int) -> None:
        tf = load_tensorflow()
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

    The backbone is converted by tf2onnx; PaDiM's few nodes are appended by hand, because the converter copies its
    factors (40 MB at 256 pixels) so often that it would need three times as long and gigabytes of memory.

    Raises:
        InputError: `export-borders` when the graph has other inputs or outputs than these.
    """
    import onnx
    import tensorflow as tf
    import tf2onnx

    def backbone_part(image: Any) -> dict[str, Any]:
        features = extractor.trace(image)
        return {_FEATURES: features, EMBEDDING: tf.reduce_mean(features, axis=(1, 2))}

    signature = [tf.TensorSpec((None, extractor.size, extractor.size, 3), tf.uint8, name=INPUT)]
    traced = tf.function(backbone_part, autograph=False)
    model, _ = tf2onnx.convert.from_function(traced, input_signature=signature, opset=OPSET)
    _append_padim(model.graph, padim)
    borders = ([value.name for value in model.graph.input], sorted(value.name for value in model.graph.output))
    if borders != ([INPUT], sorted((MAP, EMBEDDING))):
        raise InputError("export-borders", f"The exported graph has the inputs {borders[0]} and outputs {borders[1]}.")
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())


def _append_padim(graph: Any, padim: Padim) -> None:
    """Compute `map` from the graph's features, and make it an output in their place."""
    from onnx import TensorProto, helper, numpy_helper

    height, width, kept = padim.mean.shape
    constants = {
        "padim/dimensions": padim.dimensions.astype(np.int64),
        "padim/by_cell": np.array([-1, height * width, kept], dtype=np.int64),
        "padim/mean": padim.mean.reshape(-1, 1, kept).astype(np.float32),
        "padim/factors": padim.whitening.reshape(-1, kept, kept).transpose(0, 2, 1).astype(np.float32),
        "padim/grid": np.array([-1, height, width], dtype=np.int64),
    }
    graph.initializer.extend(numpy_helper.from_array(value, name) for name, value in constants.items())
    steps: list[tuple[str, tuple[str, ...], str, dict[str, Any]]] = [
        ("Gather", (_FEATURES, "padim/dimensions"), "padim/chosen", {"axis": 3}),
        ("Reshape", ("padim/chosen", "padim/by_cell"), "padim/rows", {}),
        ("Transpose", ("padim/rows",), "padim/cells", {"perm": [1, 0, 2]}),
        ("Sub", ("padim/cells", "padim/mean"), "padim/centred", {}),
        ("MatMul", ("padim/centred", "padim/factors"), "padim/whitened", {}),
        ("ReduceL2", ("padim/whitened",), "padim/distances", {"axes": [2], "keepdims": 0}),
        ("Transpose", ("padim/distances",), "padim/pictures", {"perm": [1, 0]}),
        ("Reshape", ("padim/pictures", "padim/grid"), MAP, {}),
    ]
    graph.node.extend(
        helper.make_node(kind, list(taken), [made], name=made, **options) for kind, taken, made, options in steps
    )
    outputs = [value for value in graph.output if value.name != _FEATURES]
    del graph.output[:]
    graph.output.extend([helper.make_tensor_value_info(MAP, TensorProto.FLOAT, ["n", height, width]), *outputs])
    for value in (*graph.input, *graph.output):
        value.type.tensor_type.shape.dim[0].dim_param = "n"


def _to_grid(features: Any, cells: int) -> Any:
    """Bring a square feature map to the grid: average when it is finer, interpolate when it is coarser."""
    import tensorflow as tf

    side = features.shape[1]
    if side > cells:
        return tf.nn.avg_pool2d(features, side // cells, side // cells, "VALID")
    return features if side == cells else tf.image.resize(features, (cells, cells), method="bilinear")
