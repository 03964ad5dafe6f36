"""What people read: every event and topic in both languages, within the length a service takes."""

from __future__ import annotations

from datetime import timedelta
from html.parser import HTMLParser

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from almenara.alarms.links import Links as Tokens
from almenara.alarms.messages import Renderer
from almenara.alarms.records import Message
from almenara.alarms.vocabulary import PRIORITIES, Phase
from almenara.errors import ConfigurationError
from tests.support.bus_messages import ALARM_ID, RAISED_AT, message, notification

LINK = "https://almenara.plant.example"
ENGLISH = Renderer("en", time_zone="Europe/Madrid", link=LINK)
SPANISH = Renderer("es", time_zone="Europe/Madrid", link=LINK)
ALARM_LINK = f"{LINK}/alarms/{ALARM_ID}?lang=en"
ATTACHED = {"s3://evidence/frame.jpg": "frame.jpg"}


def flood(count: int, earlier: int = 0) -> Message:
    told = [notification(source=f"line-{number}").model_copy(update={"key": str(number)}) for number in range(count)]
    before = [notification(source=f"early-{number}") for number in range(earlier)]
    return Message(key="f100d000", kind="digest", notifications=tuple(told), earlier=tuple(before))


def system(source: str, event: str = "raised", **changes: object) -> Message:
    return message(event, source=source, kind="system", model=None, evidence=(), **changes)  # type: ignore[arg-type]


class Reader(HTMLParser):
    """What a mail shows, and every address in it."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.shown = ""
        self.addresses: list[str] = []
        self.tags: set[str] = set()
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.addresses += [value or "" for name, value in attrs if name in ("src", "href", "background")]

    def handle_data(self, data: str) -> None:
        self.shown += data


@pytest.mark.parametrize(
    ("event", "english", "spanish"),
    [
        ("raised", "HIGH alarm: line-2/outflow-1, foreign object", "Alarma ALTA: line-2/outflow-1, foreign object"),
        ("returned", "Back to normal: line-2/outflow-1 (HIGH)", "Vuelta a la normalidad: line-2/outflow-1 (ALTA)"),
        (
            "reminder",
            "Still unacknowledged, HIGH alarm: line-2/outflow-1, foreign object",
            "Sigue sin reconocer, alarma ALTA: line-2/outflow-1, foreign object",
        ),
        (
            "test",
            "Test message from Almenara: no action needed",
            "Mensaje de prueba de Almenara: no hay que hacer nada",
        ),
    ],
)
def test_the_subject_says_what_happened(event: str, english: str, spanish: str) -> None:
    told = message(event, 60)  # type: ignore[arg-type]
    assert ENGLISH.subject(told) == english
    assert SPANISH.subject(told) == spanish


@pytest.mark.parametrize(
    ("source", "raised", "returned"),
    [
        ("bay-3/sight", "camera bay-3 gives no usable picture", "camera bay-3 gives pictures again"),
        (
            "detection",
            "nothing is being scored, anomalies go unseen",
            "pictures and windows are scored again",
        ),
        ("channel/bus", "alarm channel bus delivers nothing", "alarm channel bus delivers again"),
        ("anything", "anything", "anything"),
    ],
)
def test_an_alarm_about_the_platform_is_told_in_plain_words(source: str, raised: str, returned: str) -> None:
    assert ENGLISH.subject(system(source)) == f"HIGH alarm: {raised}"
    assert ENGLISH.subject(system(source, "returned")) == f"Back to normal: {returned} (HIGH)"
    assert "Anomaly" not in ENGLISH.text(system(source))


@pytest.mark.parametrize(
    ("source", "spanish"),
    [
        ("bay-3/sight", "Alarma ALTA: la cámara bay-3 no da imagen utilizable"),
        ("detection", "Alarma ALTA: no se está analizando nada, las anomalías pasan sin verse"),
        ("channel/bus", "Alarma ALTA: el canal de avisos bus no entrega nada"),
    ],
)
def test_an_alarm_about_the_platform_in_spanish(source: str, spanish: str) -> None:
    assert SPANISH.subject(system(source)) == spanish
    assert SPANISH.subject(system(source, "returned")).startswith("Vuelta a la normalidad: ")


def test_the_text_has_all_that_is_known() -> None:
    assert ENGLISH.text(message()).splitlines() == [
        "HIGH alarm: line-2/outflow-1",
        "",
        "Camera: line-2/outflow-1",
        "Reason: foreign object",
        "Priority: HIGH",
        "Anomaly: 0.86, highest 0.93 (scale 0 to 1)",
        "Raised: 2026-03-01 07:00:02 CET",
        "Model: outflow, version 3",
        "Worker: worker-1",
        f"frame.jpg: {LINK}/v1/alarms/{ALARM_ID}/evidence/frame.jpg",
        "",
        f"Open the alarm: {ALARM_LINK}",
        "",
        f"Message: {message().key[:8]}",
    ]


def test_the_text_in_spanish() -> None:
    lines = SPANISH.text(message("returned", 252, acknowledged_at=RAISED_AT, acknowledged_by="Ana")).splitlines()
    assert lines[0] == "Vuelta a la normalidad: line-2/outflow-1 (ALTA)"
    assert "Anomalía: 0,86, máxima 0,93 (escala de 0 a 1)" in lines
    assert "Activada: 01/03/2026 07:00:02 CET" in lines
    assert "Normal desde: 01/03/2026 07:04:14 CET, tras 4 min 12 s" in lines
    assert "Reconocida: 01/03/2026 07:00:02 CET por Ana" in lines


@pytest.mark.parametrize(("seconds", "shown"), [(7, "7 s"), (60, "1 min 0 s"), (3661, "1 h 1 min")])
def test_a_return_says_how_long_it_lasted(seconds: int, shown: str) -> None:
    assert f", after {shown}" in ENGLISH.text(message("returned", seconds))


def test_an_alarm_that_returned_before_it_was_told_says_so() -> None:
    over = message(phase=Phase.RETURNED_UNACKNOWLEDGED, cleared_at=RAISED_AT + timedelta(seconds=9))
    assert "It has returned to normal since, and nobody has acknowledged it." in ENGLISH.text(over)
    assert "Ya ha vuelto a la normalidad, pero nadie la ha reconocido." in SPANISH.text(over)


def test_chattering_is_said() -> None:
    told = notification().model_copy(update={"chattering": True})
    chattering = Message(key=told.key, notifications=(told,))
    assert "It comes and goes" in ENGLISH.text(chattering)
    assert "Es intermitente" in SPANISH.html(chattering)


@pytest.mark.parametrize("note", ["the disk is full", "no picture: the disk is full"])
def test_a_picture_that_could_not_be_saved_is_told(note: str) -> None:
    without = message(evidence=(), note=note)
    for shown in (ENGLISH.text(without), ENGLISH.short(without), Reader(ENGLISH.html(without)).shown):
        assert "no picture: the disk is full" in shown
        assert shown.count("no picture") == 1
    assert "sin imagen: el disco está lleno" in SPANISH.short(without)


@pytest.mark.parametrize(
    ("reason", "spanish"),
    [
        (
            "anomaly at 58%, 50% of the picture, as rare as 1 in 8000 normal pictures",
            "anomalía en el 58 %, 50 % de la imagen, tan rara como 1 de cada 8000 imágenes normales",
        ),
        ("the camera is offline: no answer in time", "la cámara no responde: sin respuesta a tiempo"),
        (
            "unlike its baseline (score 9.1 over 3.2), outer (0.93): "
            "envelope 2-4 kHz shows BPFO 107.3 Hz and 3 harmonics, 14 dB above background",
            "se aparta de su referencia (9,1 sobre 3,2), outer (0,93): "
            "la envolvente 2-4 kHz muestra BPFO 107,3 Hz y 3 armónicos, 14 dB sobre el fondo",
        ),
        ("somebody's own words", "somebody's own words"),
    ],
)
def test_our_own_reasons_are_told_in_spanish(reason: str, spanish: str) -> None:
    assert f"Motivo: {spanish}" in SPANISH.text(message(reason=reason))
    assert f"Reason: {reason}" in ENGLISH.text(message(reason=reason))


def test_another_kind_of_evidence_that_is_missing_is_told() -> None:
    without = message(evidence=(), note="no window: the disk is full")
    assert "no picture" not in ENGLISH.text(without)
    assert "sin medición: el disco está lleno" in SPANISH.text(without)


def test_a_picture_that_comes_along_is_not_linked() -> None:
    assert "/evidence/" not in ENGLISH.text(message(), attached=ATTACHED)
    assert "/evidence/" not in ENGLISH.html(message(), attached=ATTACHED)


def signed(language: str = "en") -> Renderer:
    return Renderer(language, link=f"{LINK}/", token=lambda path: f"{len(path)}+/=")


def test_links_to_the_alarm_and_its_evidence_are_signed() -> None:
    path = f"/v1/alarms/{ALARM_ID}/evidence/frame.jpg"
    page = f"/alarms/{ALARM_ID}"
    assert f"{LINK}{path}?token={len(path)}%2B%2F%3D" in signed().text(message())
    assert f"{LINK}{page}?lang=en&token={len(page)}%2B%2F%3D" in signed().text(message())
    assert f"{LINK}{page}?lang=es&token={len(page)}%2B%2F%3D" in Reader(signed("es").html(message())).addresses


def test_every_line_of_a_digest_ends_with_the_reference_of_its_notification() -> None:
    digest = flood(12, earlier=3)
    shown = Reader(ENGLISH.html(digest)).shown
    for each in (*digest.notifications, *digest.earlier):
        assert f"#{each.key[:8]}" in shown


def test_a_digest_leads_to_the_page_of_what_stands() -> None:
    link = f"{LINK}/alarms?lang=en&token=7%2B%2F%3D"
    assert link in signed().text(flood(3))
    assert link in signed().short(flood(950))
    assert link in Reader(signed().html(flood(3))).addresses


@pytest.mark.parametrize("single", [True, False])
def test_a_short_text_is_cut_before_its_link(single: bool) -> None:
    long = message(source="s" * 200, note="the disk is full")
    told = long if single else Message(key=long.key, kind="group", notifications=long.notifications * 2)
    tokens = Tokens("key")
    short = Renderer("es", link=LINK, token=tokens.sign).short(told)
    assert len(short) <= 300
    said, address, key = short.rsplit(" ", 2)
    assert said.endswith("...")
    assert key == f"#{long.key[:8]}"
    path, token = address.removeprefix(LINK).split("?lang=es&token=")
    assert tokens.valid(path, token)


def test_without_a_public_address_there_are_no_links() -> None:
    local = Renderer("en")
    for shown in (local.text(message()), local.short(message()), local.html(message()), local.text(flood(3))):
        assert "http" not in shown


def test_a_mail_needs_nothing_from_outside() -> None:
    mail = Reader(ENGLISH.html(message(), attached=ATTACHED, inline=True))
    assert mail.addresses == ["cid:frame.jpg", ALARM_LINK]
    assert mail.tags.isdisjoint({"script", "link", "iframe", "style"})


def test_words_from_elsewhere_cannot_become_markup() -> None:
    hostile = '<img src="http://evil.example/x">'
    for told in (message(reason=hostile, source=hostile, note=hostile), flood(2), group(reason=hostile)):
        mail = Reader(ENGLISH.html(told))
        assert not any("evil" in address for address in mail.addresses)
    assert hostile in Reader(ENGLISH.html(message(reason=hostile))).shown


def group(reason: str = "foreign object") -> Message:
    raised = notification(source="press-1", reason=reason)
    returned = notification("returned", 60, source="press-2")
    return Message(key="6408000", kind="group", notifications=(raised, returned))


def test_a_group_names_each() -> None:
    assert ENGLISH.subject(group()) == "1 alarm, highest HIGH, and 1 back to normal: press-1, press-2"
    assert SPANISH.subject(group()) == "1 alarma, la mayor ALTA, y 1 vuelta a la normalidad: press-1, press-2"
    lines = ENGLISH.text(group()).splitlines()
    assert "- 07:00:02 HIGH alarm: press-1, anomaly 0.86" in lines
    assert "- 07:01:02 Back to normal: press-2 (HIGH)" in lines


def test_a_group_of_returns() -> None:
    told = tuple(notification("returned", 60, source=f"press-{number}") for number in range(2))
    gone = Message(key="6408000", kind="group", notifications=told)
    assert ENGLISH.subject(gone) == "2 back to normal: press-0, press-1"
    assert SPANISH.subject(gone) == "2 vueltas a la normalidad: press-0, press-1"


def test_a_group_leads_with_the_highest_priority() -> None:
    told = tuple(notification(source=priority, priority=priority) for priority in PRIORITIES)
    assert "highest CRITICAL" in ENGLISH.subject(Message(key="6408000", kind="group", notifications=told))


def test_a_digest_names_every_alarm_and_those_told_before() -> None:
    digest = flood(950, earlier=10)
    for shown in (ENGLISH.text(digest), Reader(ENGLISH.html(digest)).shown):
        missing = [number for number in range(950) if f"line-{number}," not in shown]
        missing += [number for number in range(10) if f"early-{number}," not in shown]
        assert missing == []
    assert ENGLISH.subject(digest) == "Alarm flood: 950 alarms, highest HIGH: line-0, line-1, line-2 and 947 more"


def test_what_does_not_fit_is_counted() -> None:
    shown = ENGLISH.text(flood(1000, earlier=10), limit=1000)
    named = shown.count("HIGH alarm: line-")
    assert f"and {1000 - named} more" in shown
    assert "and 10 more" in shown
    assert len(shown) <= 1000
    assert " y 9" in SPANISH.short(flood(1000))


KEPT = st.characters(exclude_categories=["Cs"], exclude_characters="\0")
"""What PostgreSQL can keep."""


@settings(max_examples=50)
@given(
    count=st.integers(1, 40),
    earlier=st.integers(0, 12),
    limit=st.integers(40, 4000),
    reason=st.text(KEPT, max_size=400),
    source=st.text(KEPT, min_size=1, max_size=190),
    language=st.sampled_from([ENGLISH, SPANISH]),
)
def test_no_text_is_longer_than_allowed(
    count: int, earlier: int, limit: int, reason: str, source: str, language: Renderer
) -> None:
    told = tuple(notification(source=f"{source}{number}", reason=reason) for number in range(count))
    before = tuple(notification(source=f"early-{number}") for number in range(earlier))
    digest = Message(key="0123456789", kind="digest", notifications=told, earlier=before)
    single = Message(key="0123456789", notifications=told[:1])
    for each in (digest, single):
        assert len(language.short(each)) <= 300
        assert len(language.text(each, limit=limit)) <= limit
        assert len(language.subject(each)) <= 150


def test_subject_and_short_text_are_one_line() -> None:
    told = message(reason="scratch\r\nBcc: everybody@plant.example")
    assert len(ENGLISH.subject(told).splitlines()) == len(ENGLISH.short(told).splitlines()) == 1


def test_times_are_local_and_name_their_zone() -> None:
    summer = message(raised_at=RAISED_AT + timedelta(days=120))
    assert "Raised: 2026-06-29 08:00:02 CEST" in ENGLISH.text(summer)
    assert "Raised: 2026-03-01 06:00:02 UTC" in Renderer("en").text(message())


@pytest.mark.parametrize(("language", "zone"), [("de", "UTC"), ("en", "Europe/Nowhere"), ("en", "../../etc/passwd")])
def test_an_unknown_language_or_zone_is_refused(language: str, zone: str) -> None:
    with pytest.raises(ConfigurationError, match=r"There (are|is) no"):
        Renderer(language, time_zone=zone)
