"""Sources: addresses, and how files, webcams and multipart answers are read."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from almenara.errors import InputError
from camera_worker.sources import (
    Description,
    ReadOptions,
    Source,
    SourceKind,
    SourceLostError,
    Witness,
    read_file,
    read_source,
)
from camera_worker.sources.file import FileClock
from camera_worker.sources.multipart import MultipartError, MultipartParser
from tests.support.camera import Scene, write_video

JPEG = bytes(range(256)) * 3


class Notes(Witness):
    """Remembers what a reader tells."""

    def __init__(self) -> None:
        self.damage: list[str] = []
        self.skips = 0
        self.sizes: list[int] = []
        self.description: Description | None = None

    def described(self, description: Description) -> None:
        self.description = description

    def received(self, size: int, *, key_frame: bool, at: float | None) -> None:
        self.sizes.append(size)

    def skipped(self) -> None:
        self.skips += 1

    def damaged(self, reason: str) -> None:
        self.damage.append(reason)


class FakeWebcam:
    """Stands for a local camera: there is none where the tests run. Gives `pictures`, then fails as if unplugged."""

    def __init__(self, pictures: list[NDArray[np.uint8]], *, there: bool = True) -> None:
        self._pictures, self._there = pictures, there
        self.released = False

    def isOpened(self) -> bool:  # noqa: N802 - OpenCV's name
        return self._there

    def grab(self) -> bool:
        return bool(self._pictures)

    def retrieve(self) -> tuple[bool, Any]:
        return True, self._pictures.pop(0)

    def get(self, propId: int) -> float:  # noqa: N803 - OpenCV's name
        return 30.0 if propId == cv2.CAP_PROP_FPS else 0.0

    def release(self) -> None:
        self.released = True


@pytest.fixture
def plug_in(monkeypatch: pytest.MonkeyPatch) -> Callable[[FakeWebcam], None]:
    def plug(webcam: FakeWebcam) -> None:
        monkeypatch.setattr("camera_worker.sources.webcam.open_device", lambda *_: webcam)

    return plug


# --- addresses ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("0", SourceKind.WEBCAM),
        ("rtsp://cam/1", SourceKind.STREAM),
        ("RTSPS://cam:322/1", SourceKind.STREAM),
        ("http://cam/video.mjpg", SourceKind.HTTP),
        ("https://[fe80::1]:8443/snap?x=1", SourceKind.HTTP),
    ],
)
def test_kinds_of_sources(text: str, kind: SourceKind) -> None:
    assert Source.parse(text).kind is kind


@pytest.mark.parametrize(
    "text", ["ftp://cam/1", "rtsp://", "rtsp://cam:99999/1", "rtsp://[::1/1", "rtsp:///path", "http://cam/a b"]
)
def test_other_addresses_are_refused(text: str) -> None:
    with pytest.raises(InputError) as caught:
        Source.parse(text)
    assert caught.value.code == "source-unknown"


@pytest.mark.parametrize("text", ["absent.mp4", "²", "12345"])
def test_an_absent_file_is_refused(text: str) -> None:
    with pytest.raises(InputError, match=f"no video file {text}"):
        Source.parse(text)


@pytest.mark.parametrize("text", ["", " "])
def test_an_empty_source_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="The source is empty"):
        Source.parse(text)


def test_a_folder_is_refused_as_one(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is a folder, not a video file"):
        Source.parse(str(tmp_path))


def test_given_credentials_go_before_those_of_the_address() -> None:
    source = Source.parse("rtsp://a:b@cam:554/1?x=1", username="op@site", password="ä/:@")  # noqa: S106
    assert source.address == "rtsp://op%40site:%C3%A4%2F%3A%40@cam:554/1?x=1"


@given(username=st.text(min_size=1, max_size=20), password=st.text(max_size=20))
def test_the_label_never_shows_credentials(username: str, password: str) -> None:
    try:
        source = Source.parse("http://cam/1", username=username, password=password)
    except UnicodeEncodeError:  # a lone surrogate is no text that anybody can send
        return
    assert source.label == "http://***@cam/1"
    assert "cam" not in repr(source)


def test_a_password_without_a_user_is_refused() -> None:
    with pytest.raises(InputError, match="without a user"):
        Source.parse("rtsp://cam/1", password="secret")  # noqa: S106


def test_credentials_for_a_webcam_are_refused() -> None:
    with pytest.raises(InputError, match="takes no credentials"):
        Source.parse("0", username="op")


# --- video files ----------------------------------------------------------------------------------------------


def test_a_file_is_played_at_its_own_speed(tmp_path: Path) -> None:
    waits: list[float] = []
    source = Source.parse(str(write_video(tmp_path / "a.mp4", frames=25)))
    assert len(list(read_source(source, ReadOptions(), Witness(), wait=waits.append))) == 25
    assert waits[-1] == pytest.approx(2.4, abs=0.5)


def test_a_file_says_what_it_is(tmp_path: Path) -> None:
    notes = Notes()
    list(read_file(str(write_video(tmp_path / "a.mp4", frames=10)), ReadOptions(), notes))
    assert notes.description is not None
    assert (notes.description.codec, notes.description.fps) == ("h264", 10)
    assert len(notes.sizes) == 10


@pytest.mark.parametrize("name", ["a.mp4", "a.jpg"])
def test_a_file_that_is_no_video_is_lost_with_a_reason(tmp_path: Path, name: str) -> None:
    file = tmp_path / name
    file.write_text("hello, I am text" * 10)
    with pytest.raises(SourceLostError, match="no picture that can be read: it is cut, damaged or no video"):
        next(read_file(str(file), ReadOptions(), Witness()))


def test_a_file_without_video_says_so(tmp_path: Path) -> None:
    file = tmp_path / "a.wav"
    with av.open(str(file), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=8000)
        frame = av.AudioFrame(format="s16", layout="mono", samples=800)
        frame.sample_rate = 8000
        container.mux(stream.encode(frame))
    with pytest.raises(SourceLostError, match="no video"):
        next(read_file(str(file), ReadOptions(), Witness()))


def test_a_playlist_reaches_nothing_on_the_network(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.2)
        file = tmp_path / "a.m3u8"
        address = f"http://127.0.0.1:{server.getsockname()[1]}/a.ts"
        file.write_text(f"#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\n{address}\n#EXT-X-ENDLIST\n")
        with pytest.raises(SourceLostError):
            next(read_file(str(file), ReadOptions(), Witness()))
        with pytest.raises(TimeoutError):
            server.accept()


def write_with_b_frames(path: Path) -> Path:
    """An H.264 file with a key frame a second and B-frames, 10 pictures a second for 3 s."""
    scene = Scene()
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=10)
        stream.width, stream.height, stream.pix_fmt, stream.gop_size = 320, 240, "yuv420p", 10
        stream.options = {"bf": "2", "x264-params": "scenecut=0"}
        for index in range(30):
            frame = av.VideoFrame.from_ndarray(scene(index / 10), format="rgb24")
            frame.pts, frame.time_base = index, Fraction(1, 10)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def test_key_frames_alone_come_at_once_and_the_rest_is_not_decoded(tmp_path: Path) -> None:
    """A decoder that waits for the B-frames in between would hold each key frame back until the next."""
    notes = Notes()
    pictures = read_file(str(write_with_b_frames(tmp_path / "a.mp4")), ReadOptions(keyframes_only=True), notes)
    position, _ = next(pictures)
    assert (position, notes.skips) == (0.0, 0)
    assert [round(position, 3) for position, _ in pictures] == [1.0, 2.0]
    assert notes.skips == 27


def test_a_picture_too_large_to_decode_is_damage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("camera_worker.sources.reading.MOST_PIXELS", 100)
    with pytest.raises(SourceLostError, match="no picture that can be read"):
        next(read_file(str(write_video(tmp_path / "a.mp4", frames=3)), ReadOptions(), Witness()))


def test_an_encoded_picture_too_large_is_not_decoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("camera_worker.sources.reading.MOST_PACKET_BYTES", 10)
    notes = Notes()
    with pytest.raises(SourceLostError, match="too large"):
        next(read_file(str(write_video(tmp_path / "a.mp4", frames=3)), ReadOptions(), notes))
    assert len(notes.damage) == 3


def test_damage_between_key_frames_is_noticed_without_decoding(tmp_path: Path) -> None:
    whole = write_with_b_frames(tmp_path / "a.ts").read_bytes()
    packets = [whole[start : start + 188] for start in range(0, len(whole), 188)]
    file = tmp_path / "holes.ts"
    file.write_bytes(b"".join(packet for index, packet in enumerate(packets) if index % 80 != 35))
    notes = Notes()
    pictures: list[object] = []
    with pytest.raises(SourceLostError, match=r"of its .* pictures are damaged"):
        pictures.extend(read_file(str(file), ReadOptions(keyframes_only=True), notes))
    assert "a picture came incomplete" in notes.damage
    assert pictures
    assert len(pictures) + notes.skips <= 30 - len(notes.damage)


@given(st.lists(st.one_of(st.none(), st.floats(-1e9, 1e9), st.just(float("nan"))), max_size=30))
def test_positions_begin_at_zero_and_never_go_back(times: list[float | None]) -> None:
    clock = FileClock(10.0)
    positions = [clock.position(at) for at in times]
    assert positions[:1] in ([], [0.0])
    assert all(later >= earlier for earlier, later in pairwise(positions))


@pytest.mark.parametrize(
    ("times", "positions"),
    [
        ([-1.0, -0.5, 0.0], [0.0, 0.5, 1.0]),
        ([None, None, None], [0.0, 0.1, 0.2]),
        ([5.0, 5.04, 5.3], [0.0, 0.04, 0.3]),
        ([5.0, 5.5, 0.0, 0.5], [0.0, 0.5, 0.6, 1.1]),
        ([1.0, None, 1.2], [0.0, 0.1, 0.2]),
    ],
    ids=["before zero", "without times", "variable rate", "joined recordings", "one time missing"],
)
def test_positions_in_files_with_odd_times(times: list[float | None], positions: list[float]) -> None:
    clock = FileClock(10.0)
    assert [clock.position(at) for at in times] == pytest.approx(positions)


# --- webcams --------------------------------------------------------------------------------------------------


def test_an_absent_webcam_says_so_in_one_line(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SourceLostError, match="no webcam 97"):
        next(read_source(Source.parse("97"), ReadOptions(), Witness()))
    assert capfd.readouterr().err == ""


def test_a_webcam_gives_bgr_until_it_is_unplugged(plug_in: Callable[[FakeWebcam], None]) -> None:
    blue = np.zeros((4, 6, 3), np.uint8)
    blue[..., 0] = 255
    webcam = FakeWebcam([blue])
    plug_in(webcam)
    notes = Notes()
    pictures = read_source(Source.parse("0"), ReadOptions(), notes)
    picture = next(pictures)
    assert isinstance(picture, np.ndarray)
    assert picture[0, 0].tolist() == [255, 0, 0]
    assert notes.description == Description("raw", "webcam", fps=30.0)
    with pytest.raises(SourceLostError, match="webcam 0 gives no picture"):
        next(pictures)
    assert webcam.released


def test_a_webcam_picture_of_an_odd_format_is_counted_and_skipped(plug_in: Callable[[FakeWebcam], None]) -> None:
    plug_in(FakeWebcam([np.zeros((4, 6, 2), np.uint8), np.zeros((4, 6, 3), np.uint8)]))
    notes = Notes()
    picture = next(read_source(Source.parse("0"), ReadOptions(), notes))
    assert isinstance(picture, np.ndarray)
    assert picture.shape == (4, 6, 3)
    assert len(notes.damage) == 1


def test_a_webcam_picture_is_decoded_only_when_it_is_time(plug_in: Callable[[FakeWebcam], None]) -> None:
    class Busy(FakeWebcam):
        grabbed = 0

        def grab(self) -> bool:
            self.grabbed += 1
            time.sleep(0.01)
            return self.grabbed < 50

    webcam = Busy([np.zeros((4, 6, 3), np.uint8)] * 50)
    plug_in(webcam)
    pictures = read_source(Source.parse("0"), ReadOptions(decode_every=0.2), Witness())
    next(pictures)
    decoded_at = time.monotonic()
    next(pictures)
    assert time.monotonic() - decoded_at >= 0.19
    assert webcam.grabbed > 5


# --- multipart answers ----------------------------------------------------------------------------------------


def part(body: bytes, delimiter: bytes = b"--frame", *, length: bool = True, end: bytes = b"\r\n") -> bytes:
    header = [delimiter, b"Content-Type: image/jpeg"] + [b"Content-length: %d" % len(body)] * length
    return end.join([*header, b"", body, b""])


@given(
    sizes=st.lists(st.integers(1, 700), min_size=1, max_size=4),
    cut=st.integers(1, 400),
    length=st.booleans(),
    end=st.sampled_from([b"\r\n", b"\n"]),
    delimiter=st.sampled_from([b"--frame", b"----frame"]),
)
def test_parts_come_out_whole_however_they_are_cut(
    sizes: list[int], cut: int, length: bool, end: bytes, delimiter: bytes
) -> None:
    bodies = [JPEG[:size] for size in sizes]
    stream = b"".join(part(body, delimiter, length=length, end=end) for body in bodies) + delimiter
    parser = MultipartParser("--frame", most=1000)
    parts = [body for start in range(0, len(stream), cut) for body in parser.feed(stream[start : start + cut])]
    if length:
        assert parts == bodies
    else:
        assert [body.rstrip(b"\r\n-") for body in parts] == [body.rstrip(b"\r\n-") for body in bodies]


def test_a_quoted_boundary_is_understood() -> None:
    assert MultipartParser('"frame"', most=1000).feed(part(JPEG)) == [JPEG]


@pytest.mark.parametrize("length", [True, False])
def test_a_part_that_is_too_large_ends_the_stream(length: bool) -> None:
    parser = MultipartParser("frame", most=100)
    with pytest.raises(MultipartError, match="too large"):
        parser.feed(part(JPEG, length=length))


def test_a_stream_without_delimiters_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("camera_worker.sources.multipart._MOST_HEADER_BYTES", 1000)
    parser = MultipartParser("frame", most=10_000)
    assert parser.feed(b"x" * 900) == []
    with pytest.raises(MultipartError, match="no beginning"):
        parser.feed(b"x" * 900)
