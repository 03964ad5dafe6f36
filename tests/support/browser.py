"""Pictures of HTML as a browser without a window draws it."""

from __future__ import annotations

import html as markup
import re
import shutil
import subprocess
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
_TALL = 2400  # pixels; what lies under the content is cut off


def require_browser() -> str:
    """Path of a Chromium; skips the test where there is none."""
    found = next(filter(None, map(shutil.which, _NAMES)), None)
    if found is None:
        pytest.skip("this machine has no Chromium to draw the mails (apt-get install chromium)")
    return found


def screenshot(browser: str, html: str, folder: Path, *, width: int) -> NDArray[np.uint8]:
    """The page as BGR, `width` pixels wide and as high as what it shows."""
    picture = folder / "page.png"
    _run(browser, _framed(html, width), folder, f"--screenshot={picture}")
    drawn = cv2.imread(str(picture))
    assert drawn is not None
    image = np.asarray(drawn, dtype=np.uint8)[:, :width]
    rows = np.flatnonzero((image != image[-1, 0]).any(axis=(1, 2)))
    return image[: min(int(rows[-1]) + 13, len(image))]


def content_width(browser: str, html: str, folder: Path, *, width: int) -> int:
    """How wide the page is in a window of `width` pixels; more means that it scrolls sideways."""
    script = (
        "<script>addEventListener('load', () => { document.title = 'width ' + "
        "document.querySelector('iframe').contentDocument.documentElement.scrollWidth; });</script>"
    )
    found = re.search(r"<title>width (\d+)</title>", _run(browser, _framed(html, width) + script, folder, "--dump-dom"))
    assert found is not None
    return int(found[1])


def _framed(html: str, width: int) -> str:
    """The page in a frame, since a browser has a least width of its window."""
    style = f"border:0;width:{width}px;height:{_TALL}px"
    return f'<body style="margin:0"><iframe style="{style}" srcdoc="{markup.escape(html)}"></iframe></body>'


def _run(browser: str, html: str, folder: Path, task: str) -> str:
    page = folder / "page.html"
    page.write_text(f"<!DOCTYPE html><html><head><meta charset=utf-8><title></title></head>{html}</html>", "utf-8")
    command = [browser, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--disable-dev-shm-usage"]
    command += [f"--user-data-dir={folder / 'profile'}", "--host-resolver-rules=MAP * ~NOTFOUND"]
    command += [f"--window-size=1280,{_TALL}", task, page.as_uri()]
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout
