"""The pages that messages lead to: what they show in both languages, and that they need nothing from elsewhere."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser
from pathlib import Path

import pytest

from almenara.alarms import AlarmRecord, Change, Phase, Transition
from almenara.alarms.messages import Pages
from almenara.alarms.records import EvidenceFile
from tests.support.browser import content_width, require_browser
from tests.support.bus_messages import ALARM_ID, RAISED_AT, alarm

ENGLISH, SPANISH = Pages("en", time_zone="Europe/Madrid"), Pages("es", time_zone="Europe/Madrid")
NOW = datetime(2026, 3, 1, 7, 30, tzinfo=UTC)
VERDICT = EvidenceFile(name="verdict.json", uri="/e/v.json", sha256="0" * 64, size=9, media_type="application/json")
EVIDENCE = f"../v1/alarms/{ALARM_ID}/evidence"


class Shown(HTMLParser):
    """What a page shows, what it loads and what it links to."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.text = ""
        self.loaded: list[str] = []
        self.linked: list[str] = []
        self.tags: set[str] = set()
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.loaded += [value or "" for name, value in attrs if name == "src"]
        self.linked += [value or "" for name, value in attrs if name == "href"]

    def handle_data(self, data: str) -> None:
        self.text += " ".join(data.split()) + " "


def step(change: Change, phase: Phase, seconds: float = 0, user: str | None = None, reason: str = "") -> Transition:
    return Transition(
        key=f"{change}-{seconds}",
        source="line-2/outflow-1",
        alarm_id=ALARM_ID,
        change=change,
        previous=Phase.NORMAL,
        phase=phase,
        at=RAISED_AT + timedelta(seconds=seconds),
        anomaly=None,
        reason=reason,
        user=user,
    )


HISTORY = (
    step(Change.RAISED, Phase.UNACKNOWLEDGED, reason="foreign object"),
    step(Change.ACKNOWLEDGED, Phase.ACKNOWLEDGED, 60, user="ana", reason="on my way"),
)


def sign(path: str) -> str:
    return f"signed{path.count('/')}+"


def acknowledged() -> AlarmRecord:
    at = RAISED_AT + timedelta(minutes=1)
    return alarm(
        phase=Phase.ACKNOWLEDGED,
        evidence=(*alarm().evidence, VERDICT),
        acknowledged_at=at,
        acknowledged_by="ana",
        comment="on my way",
        verdict="true_alarm",
    )


def test_the_page_of_an_alarm_has_all_that_is_known() -> None:
    page = Shown(ENGLISH.alarm(acknowledged(), HISTORY, NOW, sign))
    for each in (
        "HIGH alarm: line-2/outflow-1",
        "State lasts, acknowledged",
        "Reason foreign object",
        "Raised 2026-03-01 07:00:02 CET",
        "Acknowledged 2026-03-01 07:01:02 CET by ana",
        "Comment on my way",
        "Finding true alarm",
        "2026-03-01 07:00:02 CET raised foreign object",
        "2026-03-01 07:01:02 CET acknowledged by ana on my way",
        "As of 2026-03-01 08:30:00 CET",
    ):
        assert each in " ".join(page.text.split()), each


def test_the_page_of_an_alarm_in_spanish() -> None:
    shown = " ".join(Shown(SPANISH.alarm(acknowledged(), HISTORY, NOW, sign)).text.split())
    for each in (
        "Estado continúa, reconocida",
        "Resultado alarma verdadera",
        "reconocida por ana",
        "Activada 01/03/2026",
    ):
        assert each in shown, each


def test_pictures_are_shown_and_other_evidence_is_linked_all_of_it_signed() -> None:
    page = Shown(ENGLISH.alarm(acknowledged(), (), NOW, sign))
    assert page.loaded == [f"{EVIDENCE}/frame.jpg?token=signed5%2B"]
    assert f"{EVIDENCE}/verdict.json?token=signed5%2B" in page.linked


def test_a_service_without_a_key_needs_no_token() -> None:
    assert Shown(ENGLISH.alarm(alarm(), (), NOW, None)).loaded == [f"{EVIDENCE}/frame.jpg"]


def test_the_page_says_the_command_while_nobody_has_acknowledged() -> None:
    command = f"almenara alarms ack {ALARM_ID}"
    assert command in ENGLISH.alarm(alarm(), (), NOW, None)
    assert command in SPANISH.alarm(alarm(), (), NOW, None)
    assert command not in ENGLISH.alarm(acknowledged(), (), NOW, None)


@pytest.mark.parametrize("pages", [ENGLISH, SPANISH])
def test_every_change_and_phase_can_be_shown(pages: Pages) -> None:
    for phase in Phase:
        assert pages.alarm(alarm(phase=phase), [step(change, phase) for change in Change], NOW, None)
        assert pages.standing([alarm(phase=phase)], NOW, None, more=False)


def test_the_list_leads_to_each_alarm_and_says_when_there_are_more() -> None:
    over = alarm("line-3", phase=Phase.RETURNED_UNACKNOWLEDGED, cleared_at=NOW)
    page = Shown(ENGLISH.standing([alarm(), over], NOW, sign, more=True))
    assert page.linked == [f"./alarms/{ALARM_ID}?lang=en&token=signed2%2B"] * 2
    assert "The newest 2 standing alarms" in page.text
    assert "Back to normal: line-3 (HIGH)" in page.text
    assert "No hay alarmas pendientes." in SPANISH.standing([], NOW, sign, more=False)


def test_a_page_has_no_script_and_nothing_from_elsewhere() -> None:
    for html in (
        ENGLISH.alarm(acknowledged(), HISTORY, NOW, sign),
        ENGLISH.standing([alarm()], NOW, sign, more=False),
    ):
        page = Shown(html)
        assert page.tags.isdisjoint({"script", "link", "iframe", "form", "object"})
        assert all(address.startswith((EVIDENCE, "./alarms/")) for address in (*page.loaded, *page.linked))
        assert "url(" not in html


def test_words_from_elsewhere_cannot_become_markup() -> None:
    hostile = '"><script>alert(1)</script><img src=http://evil.example/x>'
    record = alarm(hostile[:200], reason=hostile, note=hostile, comment=hostile, evidence=())
    log = [step(Change.ACKNOWLEDGED, Phase.ACKNOWLEDGED, user=hostile, reason=hostile)]
    for html in (ENGLISH.alarm(record, log, NOW, sign), ENGLISH.standing([record], NOW, sign, more=False)):
        page = Shown(html)
        assert "script" not in page.tags
        assert not any("evil" in address for address in page.loaded)
        assert hostile in page.text


@pytest.mark.slow
@pytest.mark.parametrize("width", [320, 390, 1200])
def test_a_page_fits_any_screen_without_scrolling_sideways(width: int, tmp_path: Path) -> None:
    browser = require_browser()
    record = acknowledged().model_copy(update={"source": "s" * 200, "reason": "r" * 400})
    for html in (SPANISH.alarm(record, HISTORY, NOW, sign), SPANISH.standing([record], NOW, sign, more=False)):
        assert content_width(browser, html, tmp_path, width=width) <= width
