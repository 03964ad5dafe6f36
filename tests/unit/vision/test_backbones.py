"""Checkpoints are read without running their code, and the network they fill is the one that was trained."""

from __future__ import annotations

import hashlib
import os
import pickle
from pathlib import Path

import numpy as np
import pytest

from almenara.contracts import ImageInput
from almenara.errors import InputError
from almenara.vision.backbones import LOGITS, backbone
from almenara.vision.checkpoints import read_checkpoint
from almenara.vision.images import prepare

LITE0 = "efficientnet-lite0"


class _Evil:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, ("touch evil-was-here",)


def test_another_file_is_refused_before_it_is_opened(tmp_path: Path) -> None:
    file = tmp_path / "weights.pth"
    file.write_bytes(pickle.dumps(_Evil()))
    with pytest.raises(InputError) as raised:
        read_checkpoint(file, "0" * 64)
    assert raised.value.code == "checkpoint-digest"


def test_a_checkpoint_that_names_code_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    parts: list[object] = [0x1950A86A20F9469CFC6C, 1001, {}, _Evil(), []]
    body = b"".join(pickle.dumps(part, 2) for part in parts)
    file = tmp_path / "weights.pth"
    file.write_bytes(body)
    with pytest.raises(InputError, match=r"system, which is refused"):
        read_checkpoint(file, hashlib.sha256(body).hexdigest())
    assert not (tmp_path / "evil-was-here").exists()


def test_an_unknown_backbone_names_those_there_are() -> None:
    with pytest.raises(InputError, match=LITE0):
        backbone("resnet9000", 224)


def test_a_size_that_is_no_multiple_of_32_is_refused() -> None:
    with pytest.raises(InputError, match="no multiple of 32"):
        backbone(LITE0, 250)


@pytest.mark.slow
def test_lite0_recognises_photographs() -> None:
    """Wrong padding, order of channels, epsilon or axis order of a kernel would leave nothing of this."""
    from sklearn.datasets import load_sample_image

    model = backbone(LITE0, 224, [LOGITS])
    expected = {"china.jpg": {442, 449, 663, 832}, "flower.jpg": {985, 309, 738}}  # bell cote …, daisy, bee, pot
    for name, classes in expected.items():
        photograph = prepare(load_sample_image(name), ImageInput(height=224, width=224))
        logits = np.ravel(model.predict(photograph[None].astype(np.float32), verbose=0))
        best = np.argsort(-logits)[:3].tolist()
        assert set(best) <= classes
        assert logits[best[0]] > logits.mean() + 5 * logits.std()


@pytest.mark.slow
def test_taps_have_their_strides_and_channels() -> None:
    model = backbone(LITE0, 128)
    assert [tuple(tap.shape[1:]) for tap in model.outputs] == [(32, 32, 24), (16, 16, 40), (8, 8, 112)]
    assert not model.trainable
    assert not any(layer.name.startswith("_") for layer in model.layers)


@pytest.mark.slow
def test_the_stem_agrees_with_numpy() -> None:
    """Rescaling and the padding of a strided convolution, recomputed by plain sums."""
    import keras

    model = backbone(LITE0, 32, ["stride2"])
    stem = model.get_layer("conv_stem")
    (kernel,) = stem.get_weights()
    picture = np.random.default_rng(0).uniform(0, 255, (32, 32, 3))
    found = keras.Model(model.inputs[0], stem.output)(picture[None].astype(np.float32)).numpy()[0]
    padded = np.pad((picture - 127) / 128, ((0, 1), (0, 1), (0, 0)))
    for y, x in [(0, 0), (4, 9), (15, 15)]:
        expected = np.einsum("ijc,ijcf->f", padded[2 * y : 2 * y + 3, 2 * x : 2 * x + 3], kernel)
        assert np.allclose(found[y, x], expected, atol=1e-4)
