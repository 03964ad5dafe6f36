"""Alarms through Apprise to real servers: mail, SMS gateway, push, webhook; and how it fails."""

from __future__ import annotations

import json
import logging
import tempfile
import time
from pathlib import Path
from urllib.parse import quote
from xml.etree import ElementTree as ET

import pytest

from almenara.alarms.channels.apprise import AppriseChannel
from almenara.alarms.channels.base import SEND_SECONDS, Pace
from almenara.alarms.messages import Renderer
from almenara.alarms.records import EvidenceFile, Message
from almenara.errors import ConfigurationError
from almenara.evidence import EvidenceReader
from tests.support.bus_messages import message, notification
from tests.support.mail import PASSWORD, USER, html_of, pictures_of, self_signed, smtp_server
from tests.support.web_receiver import dribbling_server, mute_server, web_receiver

pytestmark = pytest.mark.slow

LINK = "https://almenara.plant.example"
JPEG = b"\xff\xd8\xff\xe0 a picture"
SMS_TAKEN = {"result": [{"message_id": 4753, "status": "ok"}]}


class Folder:
    """Evidence in memory; what it does not hold is gone."""

    def __init__(self, **content: bytes) -> None:
        self._content = {name.replace("_", "."): data for name, data in content.items()}

    def read(self, file: EvidenceFile) -> bytes:
        if file.name not in self._content:
            raise FileNotFoundError(file.name)
        return self._content[file.name]


class Broken:
    def read(self, file: EvidenceFile) -> bytes:
        raise RuntimeError("a library's own error")


class Slow:
    def read(self, file: EvidenceFile) -> bytes:
        time.sleep(20)
        raise AssertionError("nobody waits for it")


def channel(url: str, *, attach: bool = True, evidence: EvidenceReader | None = None) -> AppriseChannel:
    renderer = Renderer("en", time_zone="Europe/Madrid", link=LINK)
    return AppriseChannel(
        "shift", url, renderer=renderer, pace=Pace(), attach=attach, evidence=evidence or Folder(frame_jpg=JPEG)
    )


def mail_url(port: int, *, user: str = "", scheme: str = "mailto", options: str = "") -> str:
    return f"{scheme}://{user}127.0.0.1:{port}?from=alarms@plant.example&to=shift@plant.example{options}"


def file(name: str, size: int = 12) -> EvidenceFile:
    return EvidenceFile(name=name, uri=f"/e/{name}", sha256="0" * 64, size=size, media_type="image/jpeg")


def many(count: int) -> Message:
    told = [notification(source=f"line-{number}").model_copy(update={"key": str(number)}) for number in range(count)]
    return Message(key="f100d000-digest", kind="digest", notifications=tuple(told))


# --- mail --------------------------------------------------------------------------------------------------


def test_a_mail_shows_the_picture_and_carries_the_key() -> None:
    with smtp_server() as mailbox:
        channel(mail_url(mailbox.port)).send(message())
    (mail,) = mailbox.received
    assert mail["Subject"] == "HIGH alarm: line-2/outflow-1, foreign object"
    assert mail["To"] == "shift@plant.example"
    assert mail["Idempotency-Key"] == message().key
    assert len(mail.get_all("Message-ID", [])) == 1
    assert 'src="cid:frame.jpg"' in html_of(mail)
    assert pictures_of(mail) == {"frame.jpg": JPEG}


def test_a_mail_has_a_plain_text_that_reads_well() -> None:
    with smtp_server() as mailbox:
        channel(mail_url(mailbox.port)).send(message())
    plain = mailbox.received[0].get_body(("plain",))
    assert plain is not None
    lines = [line.strip() for line in plain.get_content().splitlines() if line.strip()]
    assert lines[0] == "HIGH alarm: line-2/outflow-1"
    assert "foreign object" in lines


def test_mails_of_one_alarm_make_a_thread() -> None:
    with smtp_server() as mailbox:
        shift = channel(mail_url(mailbox.port))
        shift.send(message())
        shift.send(message("returned", 60))
    raised, returned = mailbox.received
    assert raised["References"] == returned["References"] is not None
    assert raised["Idempotency-Key"] != returned["Idempotency-Key"]


def test_a_log_in_over_starttls(tmp_path: Path) -> None:
    with smtp_server(login=True, certificate=self_signed(tmp_path)) as mailbox:
        user = f"{USER}:{quote(PASSWORD, safe='')}@"
        channel(mail_url(mailbox.port, user=user, scheme="mailtos", options="&verify=no")).send(message())
    assert len(mailbox.received) == 1


def test_a_certificate_nobody_signed_is_refused(tmp_path: Path) -> None:
    with smtp_server(certificate=self_signed(tmp_path)) as mailbox, pytest.raises(OSError, match="CERTIFICATE_VERIFY"):
        channel(mail_url(mailbox.port, scheme="mailtos")).send(message())
    assert mailbox.received == []


def test_a_wrong_password_is_said_but_not_shown() -> None:
    with smtp_server(login=True) as mailbox:
        wrong = "not/the:pass word"
        shift = channel(mail_url(mailbox.port, user=f"{USER}:{quote(wrong, safe='')}@"))
        with pytest.raises(OSError, match="535") as caught:
            shift.send(message())
    assert mailbox.received == []
    assert wrong not in str(caught.value)
    assert quote(wrong, safe="") not in str(caught.value)


def test_a_mail_too_large_with_its_picture_comes_with_a_link_at_the_next_attempt() -> None:
    with smtp_server() as mailbox:
        mailbox.refuse = lambda content: "552 5.3.4 message too large" if b"image/jpeg" in content else None
        shift = channel(mail_url(mailbox.port))
        with pytest.raises(OSError, match="552"):
            shift.send(message())
        shift.send(message())
    assert f"{LINK}/v1/alarms/{message().notifications[0].alarm.id}/evidence/frame.jpg" in html_of(mailbox.received[0])


@pytest.mark.parametrize("evidence", [Folder(), Broken()])
def test_a_picture_that_cannot_be_read_is_linked(evidence: EvidenceReader) -> None:
    with smtp_server() as mailbox:
        channel(mail_url(mailbox.port), evidence=evidence).send(message())
    assert pictures_of(mailbox.received[0]) == {}
    assert "/evidence/frame.jpg" in html_of(mailbox.received[0])


def test_a_store_that_does_not_answer_holds_no_alarm_back() -> None:
    start = time.monotonic()
    with smtp_server() as mailbox:
        channel(mail_url(mailbox.port), evidence=Slow()).send(message())
    assert len(mailbox.received) == 1
    assert time.monotonic() - start < SEND_SECONDS


def test_pictures_beyond_eight_mebibytes_are_linked() -> None:
    evidence = Folder(frame_jpg=b"1", overlay_jpg=b"2")
    told = message(evidence=(file("frame.jpg", 5 * 2**20), file("overlay.jpg", 4 * 2**20)))
    with smtp_server() as mailbox:
        channel(mail_url(mailbox.port), evidence=evidence).send(told)
    assert pictures_of(mailbox.received[0]) == {"frame.jpg": b"1"}
    assert "/evidence/overlay.jpg" in html_of(mailbox.received[0])


def test_the_digest_of_a_flood_is_one_mail_that_names_all() -> None:
    with smtp_server() as mailbox:
        channel(mail_url(mailbox.port)).send(many(1000))
    (mail,) = mailbox.received
    assert str(mail["Subject"]).startswith("Alarm flood: 1000 alarms")
    html = html_of(mail)
    assert [number for number in range(1000) if f"line-{number}," not in html.replace("<", ",")] == []
    assert len(html) < 250_000


# --- SMS, push, webhook --------------------------------------------------------------------------------------


def test_an_sms_gateway_gets_a_short_text_and_no_picture() -> None:
    with web_receiver(SMS_TAKEN) as gateway:
        channel(f"smseagle://token123456@127.0.0.1:{gateway.port}/+34600111222").send(message())
    sent = gateway.requests[0].json()["params"]
    assert sent["to"] == "+34600111222"
    assert sent["message_type"] == "sms"
    assert len(sent["message"]) <= 300
    assert sent["message"].startswith("HIGH alarm: line-2/outflow-1, foreign object, anomaly 0.86.")
    assert sent["message"].endswith(f"#{message().key[:8]}")


def test_an_sms_of_a_flood_counts_what_it_cannot_name() -> None:
    with web_receiver(SMS_TAKEN) as gateway:
        channel(f"smseagle://token123456@127.0.0.1:{gateway.port}/+34600111222").send(many(1000))
    text = gateway.requests[0].json()["params"]["message"]
    assert "Alarm flood: 1000 alarms" in text
    assert " more" in text
    assert len(text) <= 300


def test_a_push_has_title_text_and_the_overlay_as_its_one_picture() -> None:
    told = message(evidence=(file("frame.jpg"), file("overlay.jpg")))
    with web_receiver() as ntfy:
        channel(f"ntfy://127.0.0.1:{ntfy.port}/plant", evidence=Folder(frame_jpg=b"1", overlay_jpg=b"2")).send(told)
    (pushed,) = ntfy.requests
    assert pushed.path == "/plant"
    assert pushed.query["title"] == ["HIGH alarm: line-2/outflow-1, foreign object"]
    assert "Raised: 2026-03-01 07:00:02 CET" in pushed.query["message"][0]
    assert f"{LINK}/v1/alarms/{told.notifications[0].alarm.id}/evidence/frame.jpg" in pushed.query["message"][0]
    assert pushed.body == b"2"
    assert "x-icon" not in pushed.headers


def test_a_push_without_attachments_links_the_picture() -> None:
    with web_receiver() as ntfy:
        channel(f"ntfy://127.0.0.1:{ntfy.port}/plant", attach=False).send(message())
    assert "/evidence/frame.jpg" in ntfy.requests[0].json()["message"]


def test_gotify_which_drops_pictures_gets_a_link() -> None:
    with web_receiver() as gotify:
        channel(f"gotify://127.0.0.1:{gotify.port}/AToken123456789").send(message())
    assert "/evidence/frame.jpg" in gotify.requests[0].json()["message"]


def test_a_push_of_a_flood_fits() -> None:
    with web_receiver() as ntfy:
        channel(f"ntfy://127.0.0.1:{ntfy.port}/plant").send(many(1000))
    (pushed,) = ntfy.requests
    assert len(pushed.json()["message"].encode()) < 4096


def test_a_json_webhook_gets_key_event_alarm_and_picture() -> None:
    with web_receiver() as hook:
        channel(f"json://127.0.0.1:{hook.port}/alarms?+X-Plant=north&:line=2").send(message())
    (request,) = hook.requests
    body = request.json()
    assert request.headers["idempotency-key"] == body["idempotency_key"] == message().key
    assert (request.headers["x-plant"], body["line"], body["event"], body["kind"]) == ("north", "2", "raised", "single")
    (told,) = body["notifications"]
    assert told["alarm"]["source"] == "line-2/outflow-1"
    assert [each["filename"] for each in body["attachments"]] == ["frame.jpg"]


def test_a_repeated_webhook_has_the_same_key() -> None:
    with web_receiver() as hook:
        hook.failures = [500]
        shift = channel(f"json://127.0.0.1:{hook.port}/")
        with pytest.raises(OSError, match="500"):
            shift.send(message())
        shift.send(message())
    first, second = hook.requests
    assert first.headers["idempotency-key"] == second.headers["idempotency-key"]
    assert first.json() == second.json()


def test_xml_and_form_webhooks_carry_the_notifications_as_json() -> None:
    with web_receiver() as hook:
        channel(f"xml://127.0.0.1:{hook.port}/").send(message())
        channel(f"form://127.0.0.1:{hook.port}/").send(message())
    xml, form = hook.requests
    fields = {element.tag: element.text for element in ET.fromstring(xml.body).iter()}  # noqa: S314 - our own
    assert fields["idempotency_key"] == message().key
    assert json.loads(fields["notifications"] or "")[0]["alarm"]["source"] == "line-2/outflow-1"
    assert form.headers["idempotency-key"] == message().key
    assert JPEG in form.body


# --- failing ------------------------------------------------------------------------------------------------


def test_one_attempt_is_one_request() -> None:
    with web_receiver() as hook:
        hook.failures = [503] * 5
        with pytest.raises(OSError, match="503"):
            channel(f"json://127.0.0.1:{hook.port}/?retry=3&wait=0.1").send(message())
        assert len(hook.requests) == 1


@pytest.mark.parametrize("scheme", ["mailto", "json"])
def test_a_server_that_never_answers_is_given_up_in_time(scheme: str) -> None:
    start = time.monotonic()
    with mute_server() as port:
        shift = channel(mail_url(port) if scheme == "mailto" else f"json://127.0.0.1:{port}/")
        with pytest.raises(OSError, match="shift"):
            shift.send(message())
    assert time.monotonic() - start < SEND_SECONDS


def test_a_server_that_dribbles_its_answer_is_given_up_in_time() -> None:
    start = time.monotonic()
    with dribbling_server() as port, pytest.raises(TimeoutError, match="9 s"):
        channel(f"json://127.0.0.1:{port}/").send(message())
    assert time.monotonic() - start < SEND_SECONDS


def test_without_room_for_temporary_files_pictures_are_linked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "gone"))
    with smtp_server() as mailbox:
        channel(mail_url(mailbox.port)).send(message())
    assert pictures_of(mailbox.received[0]) == {}
    assert "/evidence/frame.jpg" in html_of(mailbox.received[0])


def test_two_messages_at_once_do_not_wait_for_each_other() -> None:
    """Apprise holds a second mail back for 5.5 s."""
    with smtp_server() as mailbox:
        shift = channel(mail_url(mailbox.port))
        start = time.monotonic()
        shift.send(message())
        shift.send(message("returned", 60))
    assert len(mailbox.received) == 2
    assert time.monotonic() - start < 4


def test_a_token_in_the_path_is_not_in_the_error() -> None:
    with web_receiver() as server:
        port = server.port
    with pytest.raises(OSError, match=r"\*\*\*") as caught:
        channel(f"json://127.0.0.1:{port}/hooks/T0PSECRET/x?-sig=QUERYSECRET").send(message())
    assert "T0PSECRET" not in str(caught.value)
    assert "QUERYSECRET" not in str(caught.value)


@pytest.mark.parametrize(
    "url",
    ["nosuch://user:S3CRET@host", "S3CRET", "smseagle://", "mailto://user:S3CRET@plant.example?to=not-an-address"],
)
def test_an_unusable_url_is_refused_at_once_and_not_shown(url: str) -> None:
    with pytest.raises(ConfigurationError, match="channel shift") as caught:
        channel(url)
    assert "S3CRET" not in str(caught.value)


def test_what_apprise_logs_goes_nowhere() -> None:
    passed_on: list[str] = []
    listener = logging.Handler()
    listener.emit = lambda record: passed_on.append(record.name)  # type: ignore[method-assign]
    logging.getLogger().addHandler(listener)
    try:
        with web_receiver() as hook:
            hook.failures = [500]
            with pytest.raises(OSError, match="500"):
                channel(f"json://127.0.0.1:{hook.port}/").send(message())
    finally:
        logging.getLogger().removeHandler(listener)
    assert "apprise" not in passed_on
