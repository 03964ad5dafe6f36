"""Decoding, preprocessing and data sets of pictures, good ones and bad ones."""

from __future__ import annotations

import io
import struct
import subprocess
import sys
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from almenara.contracts import ImageInput
from almenara.errors import InputError
from almenara.vision import images
from almenara.vision.containers import Header

LIMIT = 1_000_000


@pytest.fixture
def picture() -> NDArray[np.uint8]:
    """A smooth colour picture, so that JPEG keeps it nearly as it is."""
    y, x = np.mgrid[0:60, 0:80]
    return np.stack([x * 3, y * 4, 255 - x * 2], axis=-1).astype(np.uint8)


def saved(image: Image.Image, kind: str, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def code_of(body: bytes, max_pixels: int = LIMIT) -> str:
    with pytest.raises(InputError) as raised:
        images.decode(body, max_pixels=max_pixels)
    return raised.value.code


def png_bomb(side: int) -> bytes:
    """A grey PNG of side x side pixels, a few hundred kilobytes for a hundred megapixels."""

    def chunk(kind: bytes, payload: bytes) -> bytes:
        return struct.pack(">I", len(payload)) + kind + payload + struct.pack(">I", zlib.crc32(kind + payload))

    header = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    rows = zlib.compress(bytes(side * (side + 1)), 9)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


class TestDecode:
    def test_png_is_exact(self, picture: NDArray[np.uint8]) -> None:
        assert np.array_equal(images.decode(images.encode_png(picture), max_pixels=LIMIT), picture)

    @pytest.mark.parametrize("progressive", [False, True])
    def test_jpeg_keeps_colours_in_rgb_order(self, picture: NDArray[np.uint8], progressive: bool) -> None:
        body = saved(Image.fromarray(picture), "JPEG", quality=95, subsampling=0, progressive=progressive)
        found = images.decode(body, max_pixels=LIMIT)
        assert np.abs(found.astype(int) - picture).max() < 12

    @pytest.mark.parametrize("lossless", [False, True])
    def test_webp(self, picture: NDArray[np.uint8], lossless: bool) -> None:
        found = images.decode(saved(Image.fromarray(picture), "WEBP", lossless=lossless), max_pixels=LIMIT)
        assert found.shape == picture.shape
        assert np.abs(found.astype(int) - picture).mean() < 6

    def test_grey_becomes_three_equal_channels(self, picture: NDArray[np.uint8]) -> None:
        found = images.decode(images.encode_png(picture[..., 0]), max_pixels=LIMIT)
        assert np.array_equal(found, np.repeat(picture[..., :1], 3, axis=2))

    def test_sixteen_bits_keep_their_upper_eight(self) -> None:
        deep = np.arange(0, 65536, 64, dtype=np.uint16).reshape(32, 32)
        found = images.decode(saved(Image.fromarray(deep), "PNG"), max_pixels=LIMIT)
        assert np.abs(found[..., 0].astype(int) - (deep >> 8)).max() <= 1

    def test_alpha_is_dropped(self, picture: NDArray[np.uint8]) -> None:
        with_alpha = np.dstack([picture, np.full(picture.shape[:2], 7, np.uint8)])
        found = images.decode(saved(Image.fromarray(with_alpha), "PNG"), max_pixels=LIMIT)
        assert np.array_equal(found, picture)

    def test_cmyk_is_converted(self) -> None:
        red = Image.new("RGB", (32, 32), (220, 20, 20)).convert("CMYK")
        found = images.decode(saved(red, "JPEG", quality=95), max_pixels=LIMIT)
        assert found[..., 0].mean() > 180
        assert found[..., 1:].mean() < 60

    def test_orientation_is_applied(self, picture: NDArray[np.uint8]) -> None:
        exif = Image.Exif()
        exif[0x0112] = 6  # the camera was turned: rotate a quarter clockwise
        body = saved(Image.fromarray(picture), "JPEG", quality=95, subsampling=0, exif=exif)
        found = images.decode(body, max_pixels=LIMIT)
        assert np.abs(found.astype(int) - np.rot90(picture, -1)).max() < 12

    def test_trailing_bytes_do_not_matter(self, picture: NDArray[np.uint8]) -> None:
        assert images.decode(images.encode_jpeg(picture) + b"\0" * 20, max_pixels=LIMIT).shape == picture.shape


class TestBadPictures:
    def test_empty(self) -> None:
        assert code_of(b"") == "image-empty"

    def test_text(self) -> None:
        with pytest.raises(InputError, match="the text 'hello, this is t'") as raised:
            images.decode(b"hello, this is text", max_pixels=LIMIT)
        assert raised.value.code == "image-type"

    def test_gif(self, picture: NDArray[np.uint8]) -> None:
        assert code_of(saved(Image.fromarray(picture), "GIF")) == "image-type"

    @pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
    @pytest.mark.parametrize("share", [0.02, 0.3, 0.9, 0.995])
    def test_truncated_anywhere(self, picture: NDArray[np.uint8], kind: str, share: float) -> None:
        noisy = np.clip(picture + np.random.default_rng(0).normal(0, 30, picture.shape), 0, 255).astype(np.uint8)
        body = saved(Image.fromarray(noisy), kind)
        assert code_of(body[: max(4, int(share * len(body)))]) == "image-truncated"

    def test_truncated_progressive_jpeg_with_a_thumbnail(self, picture: NDArray[np.uint8]) -> None:
        """The thumbnail's own end marker must not pass for the picture's."""
        exif = b"Exif\0\0" + images.encode_jpeg(picture[:16, :16])
        body = saved(Image.fromarray(picture), "JPEG", progressive=True, exif=exif)
        assert images.decode(body, max_pixels=LIMIT).shape == picture.shape
        assert code_of(body[:-40]) == "image-truncated"

    def test_png_with_a_flipped_bit(self, picture: NDArray[np.uint8]) -> None:
        body = bytearray(images.encode_png(picture))
        body[len(body) // 2] ^= 4
        assert code_of(bytes(body)) == "image-corrupt"

    @pytest.mark.parametrize("marker", [0x00, 0x01, 0xD0, 0xD7])
    def test_jpeg_that_shows_a_small_header_and_hides_a_large_picture(
        self, picture: NDArray[np.uint8], marker: int
    ) -> None:
        """A decoder steps over these markers, which have no length, and decodes what looks like their segment."""
        large, small = images.encode_jpeg(picture), images.encode_jpeg(picture[:10, :10])
        body = large[:2] + bytes([0xFF, marker]) + len(large).to_bytes(2, "big") + large[2:] + small[2:]
        assert code_of(body, max_pixels=100) == "image-corrupt"

    def test_a_decoder_that_finds_another_size_than_the_header_is_not_believed(
        self, picture: NDArray[np.uint8], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(images, "inspect", lambda body, name: Header("PNG", 10, 10))
        assert code_of(images.encode_png(picture)) == "image-corrupt"

    def test_jpeg_structure_without_a_picture(self) -> None:
        assert code_of(b"\xff\xd8\xff\xd9") == "image-corrupt"

    def test_too_many_pixels_names_the_size(self, picture: NDArray[np.uint8]) -> None:
        with pytest.raises(InputError, match="80x60") as raised:
            images.decode(images.encode_jpeg(picture), max_pixels=4799)
        assert raised.value.code == "image-too-large"
        assert images.decode(images.encode_jpeg(picture), max_pixels=4800).shape == (60, 80, 3)

    def test_hundred_megapixels_cost_no_memory(self, tmp_path: Path) -> None:
        bomb = tmp_path / "bomb.png"
        bomb.write_bytes(png_bomb(10_000))
        program = (
            "import resource, sys\n"
            "from almenara.errors import InputError\n"
            "from almenara.vision.images import decode\n"
            "body = open(sys.argv[1], 'rb').read()\n"
            "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
            "try:\n    decode(body, max_pixels=25_000_000)\n"
            "except InputError as error:\n    code = error.code\n"
            "print(code, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)\n"
        )
        done = subprocess.run([sys.executable, "-c", program, str(bomb)], capture_output=True, text=True, check=True)
        code, grown = done.stdout.split()
        assert code == "image-too-large"
        kilobytes = int(grown) if sys.platform == "linux" else int(grown) / 1024
        assert kilobytes < 20_000

    def test_a_missing_file_is_named(self, tmp_path: Path) -> None:
        with pytest.raises(InputError, match=r"absent\.jpg"):
            images.read(tmp_path / "absent.jpg")


class TestPrepare:
    """Golden vectors of image-input/1: released models depend on them."""

    def test_shrinking_averages_areas(self) -> None:
        picture = np.random.default_rng(0).integers(0, 256, (12, 8, 3), dtype=np.uint8)
        found = images.prepare(picture, ImageInput(height=4, width=4))
        expected = picture.reshape(4, 3, 4, 2, 3).mean(axis=(1, 3))
        assert np.abs(found - expected).max() <= 0.5 + 1e-6

    def test_growing_interpolates_linearly(self) -> None:
        picture = np.repeat(np.array([[[0], [200]]], dtype=np.uint8), 3, axis=2)
        found = images.prepare(picture, ImageInput(height=1, width=4))
        assert found[0, :, 0].tolist() == [0, 50, 150, 200]

    def test_one_axis_shrinks_while_the_other_grows(self) -> None:
        picture = np.zeros((8, 2, 3), dtype=np.uint8)
        picture[1::2] = 100
        found = images.prepare(picture, ImageInput(height=4, width=4))
        assert np.all(found == 50)

    def test_the_right_size_is_left_alone(self) -> None:
        picture = np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8)
        assert np.array_equal(images.prepare(picture, ImageInput(height=16, width=16)), picture)

    @pytest.mark.parametrize("bad", [np.zeros((4, 4), np.uint8), np.zeros((4, 4, 3), np.float32)])
    def test_other_arrays_are_refused(self, bad: NDArray[np.uint8]) -> None:
        with pytest.raises(InputError, match="uint8 RGB"):
            images.prepare(bad, ImageInput(height=4, width=4))


class TestDataset:
    @pytest.fixture
    def folder(self, tmp_path: Path, picture: NDArray[np.uint8]) -> Path:
        for name in ("good/a.png", "good/b.jpg", "scratch/c.png", "ground_truth/scratch/c_mask.png"):
            file = tmp_path / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(images.encode_png(picture) if file.suffix == ".png" else images.encode_jpeg(picture))
        return tmp_path

    def test_class_folders(self, folder: Path) -> None:
        samples = images.load_folder(folder)
        assert [(sample.file.name, sample.label, sample.normal) for sample in samples] == [
            ("a.png", "good", True),
            ("b.jpg", "good", True),
            ("c.png", "scratch", False),
        ]
        assert samples[2].mask == folder / "ground_truth/scratch/c_mask.png"
        assert not images.groups_given(samples)
        assert len({sample.group for sample in samples}) == 3

    def test_manifest_alone_counts(self, folder: Path) -> None:
        manifest = "file,label,mask,group\ngood/a.png,good,,monday\nscratch/c.png,scratch,,tuesday\n"
        (folder / "manifest.csv").write_text(manifest)
        samples = images.load_folder(folder)
        assert [sample.group for sample in samples] == ["monday", "tuesday"]
        assert samples[1].mask is None
        assert images.groups_given(samples)

    @pytest.mark.parametrize(
        ("manifest", "said"),
        [
            ("file,group\ngood/a.png,1\n", "line 1 names no column 'label'"),
            ("file,label\ngood/a.png,good\ngood/z.png,good\n", r"line 3: .*z\.png does not exist"),
            ("file,label\ngood/a.png,good\ngood/a.png,good\n", r"line 3: good/a\.png is named twice"),
            ("file,label,group\ngood/a.png,good,\n", "line 2: group is empty"),
            ("file,label\ngood/a.png,\n", "line 2: file or label is empty"),
            ("file,label\nscratch/c.png,scratch\n", "none of them is labelled good"),
        ],
    )
    def test_a_bad_manifest_is_named_by_line(self, folder: Path, manifest: str, said: str) -> None:
        (folder / "manifest.csv").write_text(manifest)
        with pytest.raises(InputError, match=said):
            images.load_folder(folder)

    def test_no_folder(self, tmp_path: Path) -> None:
        with pytest.raises(InputError, match="is no folder"):
            images.load_folder(tmp_path / "nothing")

    def test_fingerprint_follows_content_not_place(
        self, folder: Path, tmp_path_factory: pytest.TempPathFactory
    ) -> None:
        before = images.fingerprint(images.load_folder(folder))
        moved = tmp_path_factory.mktemp("moved") / "set"
        folder.rename(moved)
        assert images.fingerprint(images.load_folder(moved)) == before
        (moved / "good" / "a.png").write_bytes(images.encode_png(np.zeros((4, 4, 3), np.uint8)))
        assert images.fingerprint(images.load_folder(moved)) != before
