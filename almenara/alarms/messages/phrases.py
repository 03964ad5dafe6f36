"""The project's own reasons and notes as people read them. They are stored in English; what is not known here stays."""

from __future__ import annotations

import re
from functools import partial

_NUMBER = r"[\d.e+-]+"
_DECIMAL = re.compile(r"-?\d+\.\d+(?:e[+-]\d+)?")
_SPANISH: tuple[tuple[re.Pattern[str], str], ...] = tuple(
    (re.compile(pattern), spanish)
    for pattern, spanish in (
        (r"^anomaly(?=\b)", "anomalía"),
        (r"\bat (\d+)%, (\d+)% of the picture", r"en el \1 %, \2 % de la imagen"),
        (r"\bas rare as 1 in (\d+) normal pictures", r"tan rara como 1 de cada \1 imágenes normales"),
        (rf"\bunlike its baseline \(score ({_NUMBER}) over ({_NUMBER})\)", r"se aparta de su referencia (\1 sobre \2)"),
        (rf"\blike its baseline \(score ({_NUMBER}), threshold ({_NUMBER})\)", r"como su referencia (\1, límite \2)"),
        (r"\bno fault named, (.+?) comes closest", r"sin avería identificada, lo más parecido es \1"),
        (
            rf": no line at (\w+) \(({_NUMBER}) Hz\) stands out of the envelope spectrum",
            r": ninguna línea en \1 (\2 Hz) destaca en el espectro de la envolvente",
        ),
        (r"\binner_race\b", "pista interior"),
        (r"\bouter_race\b", "pista exterior"),
        (rf"\bball(?= \({_NUMBER}\))", "bola"),
        (rf"\bcage(?= \({_NUMBER}\))", "jaula"),
        (r"(?<=\w \()([01]\.\d\d)(?=\))", r"\1"),
        (r"\b(\d+\.\d+)(?=(?:-[\d.,]+)? k?Hz\b)", r"\1"),
        (r": envelope (.+?) shows (\w+)", r": la envolvente \1 muestra \2"),
        (r" and 1 harmonic\b", " y 1 armónico"),
        (r" and (\d+) harmonics\b", r" y \1 armónicos"),
        (r"(-?\d+) dB above background", r"\1 dB sobre el fondo"),
        (r"\bno verdict on the pictures of ([^:]+):", r"sin veredicto de las imágenes de \1:"),
        (
            r"\bNothing has arrived since (\d+)-(\d+)-(\d+) (\d+:\d+) UTC:",
            r"No llega nada desde el \3/\2/\1 \4 UTC:",
        ),
        (r"^test of channel (\S+)$", r"prueba del canal \1"),
        (r"\bThe API at (\S+) is away\b", r"La API de \1 no está disponible"),
        (r"\bIt is tried again all the time\.", "Se reintenta continuamente."),
        (r"\bthe camera is offline\b", "la cámara no responde"),
        (r"\bthe camera is unauthorised\b", "la cámara rechaza el usuario o la contraseña"),
        (r"\bthe camera is connecting\b", "la cámara se está conectando"),
        (r"\bthe camera ended the stream\b", "la cámara ha cortado la emisión"),
        (r"\bthe camera sends no undamaged picture\b", "la cámara no envía ninguna imagen sin daños"),
        (r"\bthe camera gives pictures\b", "la cámara da imagen"),
        (r"\bthe camera is not watched now\b", "ya no se vigila la cámara"),
        (r"\bthe picture is black\b", "la imagen está en negro"),
        (r"\bthe picture is frozen\b", "la imagen está congelada"),
        (r"\bits pictures are not processed\b", "sus imágenes no se procesan"),
        (r"\bthe API does not answer\b", "la API no responde"),
        (r"\bpictures are scored\b", "se analizan las imágenes"),
        (r"\bno answer in time\b", "sin respuesta a tiempo"),
        (r"^no picture: ", "sin imagen: "),
        (r"^no window: ", "sin medición: "),
        (r"\bthe disk is full\b", "el disco está lleno"),
        (r"\bpermission denied\b", "permiso denegado"),
    )
)


def spanish(text: str) -> str:
    """A reason or a note in Spanish, as far as it is the project's own, with decimal commas."""
    for pattern, replacement in _SPANISH:
        text = pattern.sub(partial(_replaced, replacement), text)
    return text


def english(text: str) -> str:
    """A reason or a note in English, with faults in words."""
    return re.sub(r"\b(inner|outer)_race\b", r"\1 race", text)


def _replaced(replacement: str, match: re.Match[str]) -> str:
    groups = [group.replace(".", ",") if _DECIMAL.fullmatch(group) else group for group in match.groups()]
    return re.sub(r"\\(\d)", lambda number: groups[int(number[1]) - 1], replacement)
