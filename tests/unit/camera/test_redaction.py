"""No credentials in anything that is shown."""

from __future__ import annotations

import logging
import sys
import threading
from collections.abc import Iterator

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from almenara.errors import InputError
from almenara.redaction import RedactingFormatter, log_what_nobody_caught, redact, redact_address
from camera_worker import cli
from camera_worker.config import parse_config
from camera_worker.sources import Source

# Between two marks that no other text holds, so that a part of a password is told from the rest of a message.
ODD = st.text(st.sampled_from("aB7 @:/?#&=%'\"<>[](){}|\\^`~!*,;.+-_éß漢"), max_size=12)
PASSWORDS = ODD.map(lambda middle: f"QXZ{middle}ZXQ")
HOSTS = st.sampled_from(["10.0.0.7/stream", "cam.plant:554/live/channel-1", "[fe80::1]:8554/cam"])


def shows_password(text: str) -> bool:
    return "QXZ" in text or "ZXQ" in text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("rtsp://op:secret@cam/1", "rtsp://***@cam/1"),
        ("rtsp://plant.op:p%40ss@10.0.0.7:554/live", "rtsp://***@10.0.0.7:554/live"),
        ("rtsp://op:p@ss@cam/1 is away", "rtsp://***@cam/1 is away"),
        ("Error: 'rtsp://op@cam/1'", "Error: 'rtsp://***@cam/1'"),
        ("http://cam/snap?user=op&password=secret&x=1", "http://cam/snap?user=***&password=***&x=***"),
        ("rtsp://cam/1 mailed to op@plant", "rtsp://cam/1 mailed to op@plant"),
        ("rtsp://admin:se/cret@10.0.0.7/stream is away", "rtsp://***@10.0.0.7/stream is away"),
        ("rtsp://admin:p@ss/w@10.0.0.7/stream", "rtsp://***@10.0.0.7/stream"),
        ("cannot open 'rtsp://op:s'e\"c<ret@cam/1'", "cannot open 'rtsp://***@cam/1'"),
        ("http://cam/snap?password=se'cret", "http://cam/snap?password=***"),
        ("http://cam/snap?loginuse=op&loginpas=secret&w=8", "http://cam/snap?loginuse=***&loginpas=***&w=***"),
        ("rtsp://cam/user=op_password=secret_channel=1", "rtsp://cam/user=***"),
        ("http://cam/snap?x=1&API_Key=secret", "http://cam/snap?x=***&API_Key=***"),
        ("no 'http://cam/snap?p=secret&secret'; again", "no 'http://cam/snap?p=***&***; again"),
        ("a (rtsp://cam/1?code=***) is live", "a (rtsp://cam/1?code=***) is live"),
        ("a (rtsp://cam/user=op) is live", "a (rtsp://cam/user=*** is live"),
        ("a (rtsp://cam/user=***) is live", "a (rtsp://cam/user=***) is live"),
        ("rtsp://cam/1;pw=secret", "rtsp://cam/1;pw=***"),
        ("is it away? a=1", "is it away? a=1"),
        ("sent Authorization: Basic b3A6c2VjcmV0", "sent Authorization: ***"),
        ("{'X-API-Key': 'secret'}", "{'X-API-Key': ***"),
        ("width=640, state=live", "width=640, state=live"),
    ],
)
def test_user_information_is_hidden(text: str, shown: str) -> None:
    assert redact(text) == shown


def test_tracebacks_are_redacted_too() -> None:
    error = ValueError("cannot open rtsp://op:secret@cam/1")
    record = logging.LogRecord("x", logging.ERROR, __file__, 1, "failed", None, (ValueError, error, None))
    line = RedactingFormatter().format(record)
    assert "secret" not in line
    assert "rtsp://***@cam/1" in line


@pytest.fixture
def hooks() -> Iterator[None]:
    """What the interpreter does with errors that nobody caught, restored afterwards."""
    before = threading.excepthook, sys.unraisablehook, logging.raiseExceptions
    yield
    threading.excepthook, sys.unraisablehook, logging.raiseExceptions = before


def test_what_ends_a_thread_goes_to_the_log(
    hooks: None, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail() -> None:
        raise ValueError("rtsp://op:secret@cam/1")

    log_what_nobody_caught()
    thread = threading.Thread(target=fail, name="some-thread")
    thread.start()
    thread.join()
    (record,) = (record for record in caplog.records if record.name == "almenara.redaction")
    assert record.getMessage() == "some-thread failed."
    assert "rtsp://***@cam/1" in RedactingFormatter().format(record)
    assert capsys.readouterr().err == ""


def test_what_a_destructor_cannot_raise_goes_to_the_log(
    hooks: None, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    class Failing:
        def __del__(self) -> None:
            raise ValueError("rtsp://op:secret@cam/1")

    log_what_nobody_caught()
    Failing()
    (record,) = (record for record in caplog.records if record.name == "almenara.redaction")
    assert "rtsp://***@cam/1" in RedactingFormatter().format(record)
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("rtsp://op:se cret@cam/1", "rtsp://***@cam/1"),
        ("op:secret@cam/1", "***@cam/1"),
        ("rtsp:/op:secret@cam/1", "rtsp:/***@cam/1"),
        ("rtsp://cam/1", "rtsp://cam/1"),
        ("videos/line@2.mp4", "videos/line@2.mp4"),
        ("http://cam/snap.cgi?user=a&pw=secret", "http://cam/snap.cgi?user=***&pw=***"),
        ("http://op:secret@cam/v?p=secret&u=&secret;sid=1=2", "http://***@cam/v?p=***&u=***&***;sid=***"),
        ("http://cam/v?access=se cret", "http://cam/v?access=***"),
        ("cam/v?code=secret", "cam/v?code=***"),
        ("rtsp://cam/11?", "rtsp://cam/11?"),
        ("rtsp://op:secret", "rtsp://***"),
        ("rtsp:/op:sec/ret", "rtsp:/***"),
        ("rtsp://[fe80::1]:8554/cam", "rtsp://[fe80::1]:8554/cam"),
        ("rtsp://cam:554", "rtsp://cam:554"),
    ],
)
def test_an_address_hides_credentials_and_every_value_though_it_is_malformed(address: str, shown: str) -> None:
    assert redact_address(address) == shown


@given(password=PASSWORDS, host=HOSTS)
def test_no_password_shows_in_a_log_line_or_its_traceback(password: str, host: str) -> None:
    assume(" " not in password)  # an address with a space is refused before anything logs it
    address = f"rtsp://admin:{password}@{host}"
    try:
        raise OSError(5, "Input/output error", address)  # noqa: TRY301 - FFmpeg's errors end with the address
    except OSError:
        record = logging.LogRecord("x", logging.ERROR, __file__, 1, "%s is away", (address,), sys.exc_info())
    line = RedactingFormatter().format(record)
    assert not shows_password(line)
    assert host in line


@given(password=PASSWORDS, host=HOSTS, scheme=st.sampled_from(["rtsp://", "ftp://", "rtsp:/", "rtsp:", ""]))
def test_no_password_shows_in_what_is_said_of_a_source(password: str, host: str, scheme: str) -> None:
    try:
        shown = Source.parse(f"{scheme}admin:{password}@{host}").label
    except InputError as error:
        shown = str(error)
    assert not shows_password(shown)
    assert not shows_password(redact(shown))


@given(password=PASSWORDS, host=HOSTS, quoted=st.booleans())
def test_no_password_shows_in_an_error_of_the_configuration(password: str, host: str, quoted: bool) -> None:
    address = f"rtsp://admin:{password}@{host}"
    value = "'" + address.replace("'", "''") + "'" if quoted else address
    text = f"cameras:\n  - name: outflow\n    source: {value}\n    fps: 0\n"
    with pytest.raises(InputError) as caught:
        parse_config(text, name="cameras.yaml", environment={})
    assert not shows_password(str(caught.value))


@pytest.mark.parametrize(
    "value", ["*QXZ", "!QXZ", "!QXZ!a", "&QXZ b c", "*QXZ'\"", "@QXZ", "QXZ: a", "[QXZ", "2001-99-99"]
)
def test_a_password_that_yaml_misunderstands_is_not_shown(value: str) -> None:
    text = f"cameras:\n  - name: outflow\n    source: 0\n    fps: 0\n    password: {value}\n"
    with pytest.raises(InputError, match=r"cameras\.yaml") as caught:
        parse_config(text, name="cameras.yaml", environment={})
    assert not shows_password(str(caught.value))


def test_the_traceback_of_an_unforeseen_error_of_the_command_is_redacted(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(**_: object) -> None:
        address = "rtsp://admin:QXZ/p@ssZXQ@cam/1"
        raise RuntimeError(f"nobody foresaw {address}")

    monkeypatch.setattr(cli, "app", fail)
    with pytest.raises(SystemExit) as ended:
        cli.main()
    shown = capsys.readouterr().err
    assert ended.value.code == 1
    assert "Traceback" in shown
    assert "RuntimeError: nobody foresaw rtsp://***@cam/1" in shown
    assert not shows_password(shown)
