"""No word of another language, and no name of a program's own, in what people read."""

from __future__ import annotations

import pytest

from almenara.alarms.messages import Renderer
from tests.support.bus_messages import message

LINK = "https://almenara.plant.example"
ENGLISH = Renderer("en", link=LINK)
SPANISH = Renderer("es", link=LINK)
BEARING = (
    "unlike its baseline (score 18.6 over 1.18), inner_race (0.93): "
    "envelope 0.5-2.5 kHz shows BPFI 160.1 Hz and 1 harmonic, 14 dB above background"
)


def test_the_subject_tells_the_reason_in_spanish() -> None:
    told = message(reason="anomaly at 58%, 50% of the picture")
    assert SPANISH.subject(told) == "Alarma ALTA: line-2/outflow-1, anomalía en el 58 %, 50 % de la imagen"


@pytest.mark.parametrize(
    ("reason", "spanish"),
    [
        (
            BEARING,
            "se aparta de su referencia (18,6 sobre 1,18), pista interior (0,93): "
            "la envolvente 0,5-2,5 kHz muestra BPFI 160,1 Hz y 1 armónico, 14 dB sobre el fondo",
        ),
        (
            "like its baseline (score 0.9, threshold 1.2), no fault named, ball (0.41) comes closest: "
            "no line at 2xBSF (141.2 Hz) stands out of the envelope spectrum",
            "como su referencia (0,9, límite 1,2), sin avería identificada, lo más parecido es bola (0,41): "
            "ninguna línea en 2xBSF (141,2 Hz) destaca en el espectro de la envolvente",
        ),
        (
            "Nothing has arrived since 2026-03-01 06:16 UTC: 10.0.0.3 refuses",
            "No llega nada desde el 01/03/2026 06:16 UTC: 10.0.0.3 refuses",
        ),
        (
            "no verdict on the pictures of cam-1.2: The API at http://10.0.0.1:8000 is away. "
            "It is tried again all the time.",
            "sin veredicto de las imágenes de cam-1.2: La API de http://10.0.0.1:8000 no está disponible. "
            "Se reintenta continuamente.",
        ),
        (
            "no verdict on the pictures of bay-3: The API at http://10.0.0.1:8000 is away: no answer in time.",
            "sin veredicto de las imágenes de bay-3: La API de http://10.0.0.1:8000 no está disponible: "
            "sin respuesta a tiempo.",
        ),
        ("test of channel shift", "prueba del canal shift"),
    ],
)
def test_our_own_words_are_told_in_spanish_with_decimal_commas(reason: str, spanish: str) -> None:
    assert f"Motivo: {spanish}\n" in SPANISH.text(message(reason=reason))


def test_a_fault_is_told_in_words_in_english() -> None:
    assert f"Reason: {BEARING.replace('inner_race', 'inner race')}\n" in ENGLISH.text(message(reason=BEARING))


def test_the_worker_is_called_what_it_is() -> None:
    assert "Vigilante: worker-1\n" in SPANISH.text(message())
    assert "Worker: worker-1\n" in ENGLISH.text(message())


@pytest.mark.parametrize("language", [ENGLISH, SPANISH])
def test_a_test_message_links_to_no_alarm(language: Renderer) -> None:
    test = message("test", evidence=())
    for shown in (language.text(test), language.short(test), language.html(test)):
        assert LINK not in shown
