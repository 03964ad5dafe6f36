"""Links of messages, also of a worker's, open in a browser that has no key: the alarm's page and all that is on it."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from urllib.parse import urljoin

import cv2
import httpx
import numpy as np
import pytest

from almenara.alarms import AlarmRecord
from almenara.alarms.config import AlarmsConfig
from almenara.alarms.links import VALID_SECONDS, Links
from almenara.contracts import ModelRef, Observation, VisionVerdict
from camera_worker.alarming import AlarmDesk, Record
from camera_worker.config import CameraConfig
from camera_worker.states import Scored
from tests.support.api import RunningApi, running_api, wait_until
from tests.support.web_receiver import Receiver, web_receiver

pytestmark = pytest.mark.slow

KEY = "correct-horse-battery"
POLICY = "default-src 'none'; img-src 'self'; style-src 'unsafe-inline'"
CAMERA = {
    "name": "outflow",
    "source": "rtsp://cam/1",
    "alarm": {"on_delay": "0s", "cooldown": "0s"},
    "evidence": {"before": "1s", "after": "0s"},
}
PICTURE = cv2.imencode(".jpg", np.full((48, 64, 3), 90, np.uint8))[1].tobytes()
VERDICT = VisionVerdict(
    model=ModelRef(name="wall", version="3"), label="anomaly", score=9, anomaly=0.9, p_value=0.01, threshold=5
)


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningApi]:
    folder = tmp_path_factory.mktemp("api")
    alarms = folder / "alarms.yaml"
    alarms.write_text("{language: es, time_zone: Europe/Madrid}", encoding="utf-8")
    environment = {"ALMENARA_API_KEY": KEY, "ALMENARA_ALARMS_FILE": str(alarms)}
    with running_api(folder / "var", environment, ready=False) as running:
        yield running


@pytest.fixture(scope="module")
def told(api: RunningApi, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The text of the message of a worker's alarm, which the record has."""
    url = str(api.http.base_url)
    with web_receiver() as receiver:
        hook = {"name": "hook", "type": "apprise", "url": f"json://127.0.0.1:{receiver.port}/", "attach": False}
        config = AlarmsConfig.model_validate({"link": url, "channels": [hook]})
        folder = tmp_path_factory.mktemp("worker")
        with AlarmDesk(folder, config=config, name="worker-1", record=Record(url, KEY)) as desk:
            now = datetime.now(UTC)
            seen = Observation(source="outflow", kind="vision", anomaly=0.9, reason="<b>crack</b>", observed_at=now)
            sink = desk.sink(CameraConfig.model_validate(CAMERA))
            sink.observe(seen, time.monotonic(), Scored("outflow", now, PICTURE, VERDICT, 0.1, 0.05))
            wait_until(lambda: bool(receiver.requests) and evidence_arrived(api), 20, api.log)
            yield message(receiver)


def evidence_arrived(api: RunningApi) -> bool:
    found = [AlarmRecord.model_validate(each) for each in with_key(api, "/v1/alarms").json()]
    return bool(found) and all(
        with_key(api, f"/v1/alarms/{found[0].id}/evidence/{file.name}").status_code == 200 for file in found[0].evidence
    )


def message(receiver: Receiver) -> str:
    return str(receiver.requests[0].json()["message"])


def with_key(api: RunningApi, path: str) -> httpx.Response:
    return api.http.get(path, headers={"X-API-Key": KEY})


def link_of(told: str) -> str:
    return str(re.findall(r"Open the alarm: (\S+)", told)[0])


def problem_of(answer: httpx.Response) -> tuple[int, str]:
    assert answer.headers["content-type"] == "application/problem+json", answer.text
    return answer.status_code, answer.json()["type"].removeprefix("urn:almenara:problem:")


def path_of(told: str) -> str:
    return httpx.URL(link_of(told)).path


def test_the_links_of_a_workers_message_open_without_a_key(told: str) -> None:
    files = dict(re.findall(r"^(\w+\.\w+): (http\S+)$", told, re.MULTILINE))
    assert set(files) == {"frame.jpg", "strip.jpg", "verdict.json"}
    assert httpx.get(files["frame.jpg"]).content == PICTURE
    for address in (link_of(told), *files.values()):
        assert httpx.get(address).status_code == 200, address
        changed = address[:-4] + ("AAAA" if not address.endswith("AAAA") else "BBBB")
        assert httpx.get(changed).status_code == 403, changed
        assert httpx.get(address.partition("?")[0]).status_code == 401, address


def test_the_page_shows_the_alarm_and_loads_its_pictures_without_a_key(told: str) -> None:
    answer = httpx.get(link_of(told))
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert answer.headers["content-security-policy"] == POLICY
    assert (answer.headers["cache-control"], answer.headers["referrer-policy"]) == ("no-store", "no-referrer")
    assert "&lt;b&gt;crack&lt;/b&gt;" in answer.text
    pictures = re.findall(r'<img src="([^"]+)"', answer.text)
    assert len(pictures) == 2
    for picture in pictures:
        loaded = httpx.get(urljoin(str(answer.url), picture))
        assert (loaded.status_code, loaded.headers["content-type"]) == (200, "image/jpeg")


def test_what_is_on_a_page_ends_with_the_link_that_opened_it(api: RunningApi, told: str) -> None:
    yesterday = Links(KEY, clock=lambda: time.time() - 86400)
    answer = api.http.get(path_of(told), params={"token": yesterday.sign(path_of(told))})
    ends = {int(until) for until in re.findall(r"token=(\d+)\.", answer.text)}
    assert len(ends) == 1
    assert ends.pop() == pytest.approx(time.time() + VALID_SECONDS - 86400, abs=60)


def test_the_list_of_what_stands_leads_to_the_page(api: RunningApi, told: str) -> None:
    answer = api.http.get("/alarms", params={"lang": "en", "token": Links(KEY).sign("/alarms")})
    assert answer.headers["content-security-policy"] == POLICY
    [address] = re.findall(r'<a href="([^"]+)"', answer.text)
    page = httpx.get(urljoin(str(answer.url), address.replace("&amp;", "&")))
    assert page.status_code == 200
    assert page.url.path == path_of(told)


@pytest.mark.parametrize("path", ["/alarms", "PAGE"])
def test_a_page_is_refused_without_key_and_with_a_link_that_is_old_or_of_something_else(
    api: RunningApi, told: str, path: str
) -> None:
    path = path_of(told) if path == "PAGE" else path
    assert problem_of(api.http.get(path)) == (401, "api-key")
    assert with_key(api, path).status_code == 200
    old = Links(KEY, clock=lambda: time.time() - VALID_SECONDS - 60).sign(path)
    for token in ("x", old, Links("another").sign(path), Links(KEY).sign(f"{path}/")):
        assert problem_of(api.http.get(path, params={"token": token})) == (403, "link-invalid")
    assert old not in api.log.read_text()


def test_a_page_of_no_alarm_is_404(api: RunningApi) -> None:
    assert problem_of(with_key(api, "/alarms/none")) == (404, "alarm-unknown")


@pytest.mark.parametrize(
    ("lang", "accepted", "shown"),
    [("", "", "es"), ("", "en-GB,en;q=0.9", "en"), ("es", "en-GB,en;q=0.9", "es"), ("en", "es", "en")],
)
def test_the_language_is_that_of_the_link_else_of_the_browser_else_of_the_plant(
    api: RunningApi, told: str, lang: str, accepted: str, shown: str
) -> None:
    headers = {"X-API-Key": KEY, "Accept-Language": accepted}
    answer = api.http.get(path_of(told), params={"lang": lang} if lang else {}, headers=headers)
    assert f'<html lang="{shown}">' in answer.text
    assert re.search(r"\d\d:\d\d:\d\d CES?T", answer.text)


def test_the_page_only_reads(api: RunningApi, told: str) -> None:
    token = Links(KEY).sign(path_of(told))
    assert api.http.post(path_of(told), params={"token": token}).status_code == 405
    acknowledge = f"/v1{path_of(told)}/acknowledge"
    assert problem_of(api.http.post(acknowledge, params={"token": token}, json={"user": "x"})) == (401, "api-key")
