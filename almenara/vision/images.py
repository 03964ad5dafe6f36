"""Pictures: decode and encode, preprocessing `image-input/1`, and data sets of labelled pictures in folders."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from almenara.contracts import ImageInput
from almenara.errors import InputError
from almenara.manifests import open_manifest
from almenara.vision.containers import Header, inspect

MAX_PIXELS = 25_000_000
"""Most pixels that files of a data set may have."""

SENT_LONGEST_SIDE, SENT_QUALITY, EXACT_QUALITY = 1024, 95, 100
"""Pixels at most, and JPEG quality, of the pictures that the camera worker sends; the second quality is for models that
the first changes too much. At 90 one score in a hundred of real tiles moved by 7 % of the threshold."""

QUALITY_HEADER = "Almenara-Jpeg-Quality"
"""In which the API says which of the two it wants."""

_SPARE = 2
_REDUCED = {
    2: cv2.IMREAD_REDUCED_GRAYSCALE_2 | cv2.IMREAD_COLOR_RGB,
    4: cv2.IMREAD_REDUCED_GRAYSCALE_4 | cv2.IMREAD_COLOR_RGB,
    8: cv2.IMREAD_REDUCED_GRAYSCALE_8 | cv2.IMREAD_COLOR_RGB,
}  # RGB excludes the REDUCED_COLOR flags, which say BGR

NORMAL_LABELS = frozenset({"good", "normal"})
SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp"})
MANIFEST = "manifest.csv"
GROUND_TRUTH = "ground_truth"


# --- one picture ------------------------------------------------------------------------------------------


def decode(
    body: bytes,
    *,
    max_pixels: int,
    enough: tuple[int, int] | None = None,
    most_divisor: int = 8,
    name: str = "The picture",
) -> NDArray[np.uint8]:
    """Decode a JPEG, PNG or WebP file; the one decoder of calibration, API and worker.

    Grey becomes three equal channels, 16 bits are cut to their upper 8, alpha is dropped, CMYK is converted, and the
    EXIF orientation is applied.

    Args:
        body: the file.
        max_pixels: limit on width times height, checked in the header before any memory is taken.
        enough: (height, width) that do for whoever looks. A JPEG is then decoded at a half, a quarter or an eighth of
            its size, whichever is the smallest with no side below the larger of the two; others come whole.
        most_divisor: its size is divided by no more than this.
        name: how error messages call it.

    Returns:
        uint8 RGB, shape (height, width, 3).

    Raises:
        InputError: `image-empty`, `image-type`, `image-truncated`, `image-too-large` or `image-corrupt`.
    """
    header = inspect(body, name)
    if header.width * header.height > max_pixels:
        raise InputError(
            "image-too-large",
            f"{name} has {header.width}x{header.height} pixels, and at most {max_pixels} are accepted.",
            "Shrink it before sending, or raise ALMENARA_MAX_PIXELS.",
        )
    divisor = min(reduction(header, enough), most_divisor) if enough else 1
    try:
        image = cv2.imdecode(np.frombuffer(body, np.uint8), _REDUCED.get(divisor, cv2.IMREAD_COLOR_RGB))
    except cv2.error:
        image = None
    if image is None:
        raise InputError(
            "image-corrupt", f"{name} is a {header.kind} that cannot be decoded.", "Save it again with another program."
        )
    height, width = image.shape[:2]
    sizes = {(-(-header.height // by), -(-header.width // by)) for by in (1, divisor)}  # lossless JPEGs come whole
    if not sizes & {(height, width), (width, height)}:  # EXIF may turn it
        raise InputError(
            "image-corrupt",
            f"{name} says that it is {header.width}x{header.height} pixels and holds {width}x{height}.",
            "Save it again with another program.",
        )
    return np.asarray(image, dtype=np.uint8)


def reduction(header: Header, enough: tuple[int, int]) -> int:
    """By how much `decode` divides a picture's sides: 1, 2, 4 or 8; EXIF may turn it, so both sides are kept alike."""
    if header.kind != "JPEG":
        return 1
    shorter = min(header.height, header.width)
    return max((by for by in _REDUCED if -(-shorter // by) >= max(enough)), default=1)


def enough_for(spec: ImageInput) -> tuple[int, int]:
    """(height, width) for `decode`: twice the graph's input, because at less the scores of real frames moved by 3 %."""
    return _SPARE * spec.height, _SPARE * spec.width


def as_sent(image: NDArray[np.uint8]) -> bytes:
    """The JPEG file of a uint8 RGB picture that the camera worker sends if it may: quality 95, sides up to 1024."""
    height, width = image.shape[:2]
    scale = min(1.0, SENT_LONGEST_SIDE / max(width, height))
    if scale < 1:
        size = (max(1, round(width * scale)), max(1, round(height * scale)))
        image = np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), dtype=np.uint8)
    return encode_jpeg(image, SENT_QUALITY)


def read(path: Path, max_pixels: int = MAX_PIXELS) -> NDArray[np.uint8]:
    """Decode a file; errors name it."""
    return decode(read_bytes(path), max_pixels=max_pixels, name=str(path))


def read_bytes(path: Path) -> bytes:
    """Contents of a file; InputError `file-unreadable` names it."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise InputError(
            "file-unreadable", f"{path} cannot be read: {error.strerror}.", "Check path and rights."
        ) from error


def read_mask(path: Path, max_pixels: int = MAX_PIXELS) -> NDArray[np.bool_]:
    """Ground truth of a defect: True where any channel is at least half bright, shape (height, width)."""
    return np.asarray(read(path, max_pixels).max(axis=2) >= 128)


def encode_jpeg(image: NDArray[np.uint8], quality: int = 90) -> bytes:
    """JPEG file of a uint8 RGB or grey picture; quality 1 to 100."""
    return _encode(image, ".jpg", [cv2.IMWRITE_JPEG_QUALITY, quality])


def encode_png(image: NDArray[np.uint8]) -> bytes:
    """PNG file of a uint8 RGB or grey picture."""
    return _encode(image, ".png", [cv2.IMWRITE_PNG_COMPRESSION, 3])


def prepare(image: NDArray[np.uint8], spec: ImageInput) -> NDArray[np.uint8]:
    """Preprocessing `image-input/1`: stretch to the graph's size, aspect not kept.

    Axes that shrink are averaged over areas first, axes that grow are then interpolated linearly.

    Args:
        image: uint8 RGB, shape (any height, any width, 3).
        spec: the card's input.

    Returns:
        uint8 RGB, shape (spec.height, spec.width, 3).

    Raises:
        InputError: `image-shape` when it is no uint8 picture of three channels.
    """
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or image.size == 0:
        raise InputError(
            "image-shape", f"A uint8 RGB picture (height, width, 3) is needed, and this is {image.dtype} {image.shape}."
        )
    height, width = image.shape[:2]
    smaller = (min(width, spec.width), min(height, spec.height))
    if smaller != (width, height):
        image = np.asarray(cv2.resize(image, smaller, interpolation=cv2.INTER_AREA), dtype=np.uint8)
    if smaller != (spec.width, spec.height):
        image = np.asarray(cv2.resize(image, (spec.width, spec.height), interpolation=cv2.INTER_LINEAR), np.uint8)
    return image


# --- data sets --------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Sample:
    """One labelled picture.

    Attributes:
        file: where it is.
        label: `good` or `normal`, else the defect's name.
        mask: ground truth of the defect, when there is one.
        group: what it shares with others (a tile, a shift, a light period); every split keeps a group together.
    """

    file: Path
    label: str
    mask: Path | None
    group: str

    @property
    def normal(self) -> bool:
        return self.label in NORMAL_LABELS


def load_folder(folder: Path) -> list[Sample]:
    """Samples of a data set, sorted by file.

    With a `manifest.csv` (columns file, label and optionally mask, group; paths relative to the folder) it alone
    counts. Without, every folder is a class (`good/` or `normal/`, else a defect) and masks are searched as
    `ground_truth/<defect>/<stem>*.png`. Without groups each file is a group of its own (see `groups_given`).

    Raises:
        InputError: `dataset-…`, with file and line.
    """
    if not folder.is_dir():
        raise InputError(
            "dataset-missing", f"{folder} is no folder.", "Give the folder that holds good/ and the defects."
        )
    manifest = folder / MANIFEST
    samples = sorted(_from_manifest(manifest) if manifest.is_file() else _from_folders(folder), key=lambda s: s.file)
    if not any(sample.normal for sample in samples):
        raise InputError(
            "dataset-no-normals",
            f"{folder} holds {len(samples)} pictures and none of them is labelled good or normal.",
            "Put normal pictures into good/, or write a manifest.csv with the columns file,label,mask,group.",
        )
    return samples


def groups_given(samples: Sequence[Sample]) -> bool:
    """Whether the data set named groups; False when every picture merely stands for itself."""
    return any(sample.group != _own_group(sample.file) for sample in samples)


def fingerprint(samples: Sequence[Sample]) -> str:
    """SHA-256 over contents, labels, masks and groups; where the files lie and their order do not matter."""
    lines = sorted(
        "\t".join((_digest(sample.file), sample.label, _digest(sample.mask), sample.group)) for sample in samples
    )
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def _from_manifest(manifest: Path) -> Iterator[Sample]:
    folder, seen = manifest.parent, set[str]()
    with open_manifest(manifest) as rows:
        missing = [column for column in ("file", "label") if column not in (rows.fieldnames or ())]
        if missing:
            raise InputError("dataset-manifest", f"{manifest}: line 1 names no column {missing[0]!r}.", "Add it.")
        grouped = "group" in (rows.fieldnames or ())
        for row in rows:
            where = f"{manifest}, line {rows.line_num}"
            name, label = (row["file"] or "").strip(), (row["label"] or "").strip()
            if not name or not label:
                raise InputError("dataset-manifest", f"{where}: file or label is empty.", "Fill it or drop the line.")
            if name in seen:
                raise InputError("dataset-manifest", f"{where}: {name} is named twice.", "Drop one of the lines.")
            seen.add(name)
            group = (row["group"] or "").strip() if grouped else _own_group(folder / name)
            if not group:
                raise InputError("dataset-manifest", f"{where}: group is empty.", "Give each picture its group.")
            mask = (row.get("mask") or "").strip()
            for path in filter(None, (name, mask)):
                if not (folder / path).is_file():
                    raise InputError("dataset-manifest", f"{where}: {folder / path} does not exist.", "Correct it.")
            yield Sample(folder / name, label, folder / mask if mask else None, group)


def _from_folders(folder: Path) -> Iterator[Sample]:
    for directory in sorted(path for path in folder.iterdir() if path.is_dir() and path.name != GROUND_TRUTH):
        masks = sorted((folder / GROUND_TRUTH / directory.name).glob("*.png"))
        for file in sorted(path for path in directory.iterdir() if path.suffix.lower() in SUFFIXES):
            mask = next((path for path in masks if path.stem in (file.stem, f"{file.stem}_mask")), None)
            yield Sample(file, directory.name, mask, _own_group(file))


def _own_group(file: Path) -> str:
    return f"file:{file.parent.name}/{file.name}"


def _digest(path: Path | None) -> str:
    return hashlib.sha256(read_bytes(path)).hexdigest() if path else ""


def _encode(image: NDArray[np.uint8], suffix: str, options: list[int]) -> bytes:
    pixels = cv2.cvtColor(image, cv2.COLOR_RGB2BGR) if image.ndim == 3 else image
    done, body = cv2.imencode(suffix, pixels, options)
    if not done:
        raise InputError("image-encode", f"A picture of shape {image.shape} cannot be encoded as {suffix}.")
    return body.tobytes()
