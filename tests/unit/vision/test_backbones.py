"""Checkpoints are read without running their code, and the network they fill is the one that was trained."""

from __future__ import annotations

import hashlib
import os
import pickle
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

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
    body = b"".join(pickle.dumps(part, 2) for part in (0x1950A86A20F9469CFC6C, 1001, {}, _Evil(), []))
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
def test_the_first_layers_agree_with_numpy() -> None:
    """Stem and first tap's shape of values, recomputed from the checkpoint by plain sums."""
    model = backbone(LITE0, 32, ["stride2"])
    stem = model.get_layer("conv_stem")
    (kernel,) = stem.get_weights()
    rng = np.random.default_rng(0)
    picture = rng.uniform(0, 255, (32, 32, 3))
    found = _call(model, "conv_stem", picture)
    padded = np.pad((picture - 127) / 128, ((0, 1), (0, 1), (0, 0)))
    expected = np.array(
        [[np.einsum("ijc,ijcf->f", padded[y : y + 3, x : x + 3], kernel) for x in (0, 8, 30)] for y in (0, 8, 30)]
    )
    assert np.allclose(found[np.ix_([0, 4, 15], [0, 4, 15])], expected, atol=1e-4)


def _call(model: object, layer: str, picture: NDArray[np.float64]) -> NDArray[np.float32]:
    import keras

    part = keras.Model(model.inputs, model.get_layer(layer).output)  # type: ignore[attr-defined]
    return np.asarray(part(picture[None].astype(np.float32)))[0]
