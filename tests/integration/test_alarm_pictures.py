"""docs/alarms/messages.md shows each message as it was received; ALMENARA_WRITE_DOCS=1 writes it and its pictures."""

from __future__ import annotations

import base64
import hashlib
import json
import os
from datetime import timedelta
from email.message import EmailMessage
from functools import cache
from pathlib import Path

import cv2
import numpy as np
import pytest
from cv2.typing import MatLike
from numpy.typing import NDArray

from almenara.alarms.channels.apprise import AppriseChannel
from almenara.alarms.channels.base import Pace
from almenara.alarms.channels.log import LogChannel
from almenara.alarms.messages import Renderer
from almenara.alarms.records import EvidenceFile, Message, Notification
from tests.support.browser import content_width, require_browser, screenshot
from tests.support.bus_messages import RAISED_AT, alarm, message
from tests.support.data import ROOT
from tests.support.mail import html_of, pictures_of, smtp_server
from tests.support.web_receiver import Request, web_receiver

pytestmark = pytest.mark.slow

DOCS = ROOT / "docs" / "alarms"
WRITE = os.environ.get("ALMENARA_WRITE_DOCS") == "1"
MAILS = {"mail-alarm-en": ("en", 640), "mail-alarm-es": ("es", 400), "mail-flood-en": ("en", 640)}
LARGEST = 150_000  # bytes of a picture in the docs
FRAME = EvidenceFile(
    name="overlay.jpg", uri="/evidence/overlay.jpg", sha256="cd" * 32, size=30_000, media_type="image/jpeg"
)


def scene() -> NDArray[np.uint8]:
    """A belt with bottle caps, one of them cracked and marked."""
    picture = np.full((300, 560, 3), (96, 92, 88), np.uint8)
    picture[40:260] = np.linspace(50, 74, 220, dtype=np.uint8)[:, None, None]
    for column in range(6):
        centre = (60 + 90 * column, 150)
        cv2.circle(picture, centre, 36, (188, 178, 164), -1, cv2.LINE_AA)
        cv2.circle(picture, centre, 27, (214, 206, 196), 3, cv2.LINE_AA)
    crack = np.array([[316, 130], [326, 144], [321, 156], [334, 172]], np.int32)
    cv2.polylines(picture, [crack], isClosed=False, color=(30, 30, 40), thickness=3, lineType=cv2.LINE_AA)
    cv2.rectangle(picture, (286, 106), (374, 194), (30, 38, 226), 3, cv2.LINE_AA)
    return picture


class Evidence:
    def read(self, file: EvidenceFile) -> bytes:
        return cv2.imencode(".jpg", scene(), [cv2.IMWRITE_JPEG_QUALITY, 85])[1].tobytes()


def raised() -> Message:
    return message(reason="anomaly at 58%, 50% of the picture, as rare as 1 in 8000 normal pictures", evidence=(FRAME,))


def returned() -> Message:
    return message(
        "returned",
        252,
        reason="anomaly at 58%, 50% of the picture",
        evidence=(FRAME,),
        acknowledged_at=RAISED_AT + timedelta(minutes=1),
    )


def flood() -> Message:
    told = []
    for number in range(15):
        priority = ("high", "medium", "critical")[number % 3]
        record = alarm(f"line-{1 + number % 4}/camera-{number}", raised_at=RAISED_AT + timedelta(seconds=7 * number))
        record = record.model_copy(update={"priority": priority, "evidence": ()})
        told.append(Notification(key=f"{number}", event="raised", at=record.raised_at, alarm=record))
    return Message(key="b7f1c7d0-digest", kind="digest", notifications=tuple(told[3:]), earlier=tuple(told[:3]))


def channel(url: str, language: str) -> AppriseChannel:
    renderer = Renderer(language, time_zone="Europe/Madrid", link="https://almenara.plant.example")
    return AppriseChannel("shift", url, renderer=renderer, pace=Pace(), evidence=Evidence())


@cache
def received_mails() -> dict[str, EmailMessage]:
    """By picture."""
    with smtp_server() as mailbox:
        for name, (language, _) in MAILS.items():
            url = f"mailto://127.0.0.1:{mailbox.port}?from=Almenara<alarms@plant.example>&to=shift@plant.example"
            channel(url, language).send(flood() if "flood" in name else raised())
        return dict(zip(MAILS, mailbox.received, strict=True))


def received_by_web(url: str, *messages: Message, language: str = "en") -> list[Request]:
    taken = {"result": [{"message_id": 1, "status": "ok"}]}
    with web_receiver(taken) as receiver:
        for each in messages:
            channel(url.format(port=receiver.port), language).send(each)
        return receiver.requests


def sms(language: str) -> list[str]:
    url = "smseagle://token123456@127.0.0.1:{port}/+34600111222"
    requests = received_by_web(url, raised(), returned(), flood(), language=language)
    return [request.json()["params"]["message"] for request in requests]


def push() -> str:
    (request,) = received_by_web("ntfy://127.0.0.1:{port}/plant", raised(), language="es")
    assert request.body == Evidence().read(FRAME)
    return "\n\n".join([request.query["title"][0], request.query["message"][0], f"[{request.query['filename'][0]}]"])


def webhook() -> str:
    (request,) = received_by_web("json://127.0.0.1:{port}/hooks/alarms", raised())
    body = request.json()
    for attachment in body["attachments"]:
        attachment["base64"] = "/9j/4AAQ..."
    head = [f"POST {request.path}", f"Idempotency-Key: {request.headers['idempotency-key']}"]
    return "\n".join([*head, "Content-Type: application/json", "", json.dumps(body, indent=2)])


def mail_section(name: str, mail: EmailMessage) -> str:
    shown = ("Subject", "From", "To", "Idempotency-Key", "References", "Auto-Submitted")
    headers = "\n".join(f"{header}: {mail[header]}" for header in shown if mail[header])
    drawn_from = hashlib.sha256(html_of(mail).encode()).hexdigest()[:16]
    return (
        f"```text\n{headers}\n```\n\n![{mail['Subject']}]({name}.png)\n\n<!-- {name}.png is drawn from {drawn_from} -->"
    )


def log_line(folder: Path) -> str:
    log = LogChannel(folder / "alarms.log")
    log.send(raised())
    return (folder / "alarms.log").read_text(encoding="utf-8").rstrip("\n")


def document(folder: Path) -> str:
    mails = {name: mail_section(name, mail) for name, mail in received_mails().items()}
    texts = {f"sms_{language}": "\n\n".join(sms(language)) for language in ("en", "es")}
    template = (ROOT / "tests" / "support" / "alarm_messages.md").read_text(encoding="utf-8")
    fields = {**{name.replace("-", "_"): text for name, text in mails.items()}, **texts}
    return template.format(**fields, push=push(), webhook=webhook(), log=log_line(folder))


def drawn(browser: str, name: str, folder: Path) -> NDArray[np.uint8]:
    mail = received_mails()[name]
    html = html_of(mail)
    for cid, picture in pictures_of(mail).items():
        html = html.replace(f"cid:{cid}", f"data:image/jpeg;base64,{base64.b64encode(picture).decode()}")
    return screenshot(browser, html, folder, width=MAILS[name][1])


def dark(picture: MatLike) -> float:
    """Share of pixels."""
    return float(np.mean(cv2.cvtColor(picture, cv2.COLOR_BGR2GRAY) < 100))


def test_the_docs_show_the_messages_as_they_are_received(tmp_path: Path) -> None:
    page = DOCS / "messages.md"
    now = document(tmp_path)
    if WRITE:
        DOCS.mkdir(parents=True, exist_ok=True)
        page.write_text(now, encoding="utf-8")
    assert page.read_text(encoding="utf-8") == now, "run this test with ALMENARA_WRITE_DOCS=1 and look at the result"


@pytest.mark.parametrize("name", MAILS)
def test_the_picture_of_a_mail_is_what_a_browser_draws(name: str, tmp_path: Path) -> None:
    picture = drawn(require_browser(), name, tmp_path)
    if WRITE:
        cv2.imwrite(str(DOCS / f"{name}.png"), picture, [cv2.IMWRITE_PNG_COMPRESSION, 9])
    kept = cv2.imread(str(DOCS / f"{name}.png"))
    assert kept is not None
    assert (DOCS / f"{name}.png").stat().st_size < LARGEST
    assert kept.shape[1] == picture.shape[1]
    assert abs(kept.shape[0] - picture.shape[0]) < 0.15 * kept.shape[0], "fonts differ by less than this"
    assert dark(kept) > 0.1, "a page without its text, bars and pictures has nothing dark"
    assert dark(picture) == pytest.approx(dark(kept), rel=0.5)


@pytest.mark.parametrize("width", [320, 400, 640, 1200])
def test_a_mail_fits_any_screen_without_scrolling_sideways(width: int, tmp_path: Path) -> None:
    browser = require_browser()
    html = html_of(received_mails()["mail-alarm-es"])
    assert content_width(browser, html, tmp_path, width=width) <= width
