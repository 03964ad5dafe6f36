"""What the API tells of itself: /docs without the internet, and examples that can be pasted."""

from __future__ import annotations

import asyncio
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from almenara.vision import images
from almenara_api.examples import BASE
from tests.support.api import RunningApi, cache_champions, faulty_signal, running_api
from tests.support.browser import require_browser
from tests.support.devtools import Page, opened, started
from tests.support.packages import classifier_candidate, vision_candidate

KEY = "correct-horse-battery"
GUIDE = Path(__file__).parents[2] / "docs" / "open-inference-protocol.md"
OPERATIONS = {"get", "post", "put", "delete"}
NOT_THERE = ("404", "409")
"""The examples name alarms that this service does not have."""


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningApi]:
    var = tmp_path_factory.mktemp("api") / "var"
    cache_champions(var, [vision_candidate("sludge-outflow"), classifier_candidate("bearing")])
    with running_api(var, {"ALMENARA_API_KEY": KEY, "ALMENARA_WEBHOOK_SECRET": KEY}) as running:
        yield running


@pytest.fixture(scope="module")
def document(api: RunningApi) -> dict[str, Any]:
    return dict(api.http.get("/openapi.json").json())


@pytest.fixture(scope="module")
def operations(document: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {
        f"{method} {path}": operation
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
        if method in OPERATIONS
    }


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with what the examples send, and the key where they look for it."""
    images_folder = tmp_path / "bench"
    images_folder.mkdir()
    (images_folder / "frame.jpg").write_bytes(images.encode_jpeg(np.full((480, 640, 3), 90, np.uint8)))
    (images_folder / "window.f32").write_bytes(faulty_signal(3).astype("<f4").tobytes())
    monkeypatch.chdir(images_folder)
    monkeypatch.setenv("ALMENARA_API_KEY", KEY)
    monkeypatch.setenv("ALMENARA_WEBHOOK_SECRET", KEY)
    monkeypatch.setenv("CURL_HOME", str(tmp_path))
    return images_folder


def samples(operation: dict[str, Any], language: str) -> list[str]:
    return [each["source"] for each in operation["x-codeSamples"] if each["lang"] == language]


def predicting(operations: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    return {name: each for name, each in operations.items() if name.endswith(("/predict", "/infer"))}


def run_shell(api: RunningApi, source: str) -> str:
    """What an example prints; its failure is ours."""
    address = str(api.http.base_url).rstrip("/")
    command = ["bash", "-eo", "pipefail", "-c", source.replace(BASE, address)]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, f"{source}\n{done.stdout}{done.stderr}"
    return done.stdout


def run_python(api: RunningApi, source: str) -> None:
    here = source.replace(BASE, str(api.http.base_url).rstrip("/"))
    here = here.replace(BASE.removeprefix("http://"), f"{api.http.base_url.host}:{api.http.base_url.port}")
    exec(compile(here, "example", "exec"), {})  # noqa: S102  it is what a reader does


# --- the page ---------------------------------------------------------------------------------------------


def test_the_page_and_its_files_come_from_here_alone(api: RunningApi) -> None:
    page = api.http.get("/docs")
    assert page.headers["content-type"].startswith("text/html")
    assert "script-src 'self';" in page.headers["content-security-policy"]
    links = re.findall(r'(?:src|href)="(?!data:)([^"]+)"', page.text)
    assert len(links) == 3
    assert all(link.startswith("docs/static/") for link in links)
    assert "://" not in page.text
    for link in links:
        answer = api.http.get(f"/{link}")
        assert answer.status_code == 200
        assert answer.headers["content-type"].split(";")[0] in {"text/css", "text/javascript"}
        assert answer.headers["cache-control"] == (
            "public, max-age=31536000, immutable" if "?v=" in link else "no-cache"
        )


@pytest.mark.parametrize("path", ["index.html", "swagger-editor.js", "..%2f__init__.py", "%2e%2e/__init__.py"])
def test_nothing_else_of_that_package_is_served(api: RunningApi, path: str) -> None:
    assert api.http.get(f"/docs/static/{path}").status_code in {404, 422}


@pytest.mark.slow
def test_a_browser_shows_every_operation_and_asks_no_other_host(
    api: RunningApi, operations: dict[str, dict[str, Any]], tmp_path: Path
) -> None:
    browser = require_browser()

    async def look(port: int) -> Page:
        async with opened(port, str(api.http.base_url.join("/docs"))) as page:
            await page.until(f"document.querySelectorAll('.opblock').length === {len(operations)}")
            await _ask_models(page, "401")
            await page.click(".btn.authorize")
            await page.type(".auth-container input", KEY)
            await page.click(".auth-btn-wrapper button.authorize")
            await page.click(".auth-btn-wrapper .btn-done")
            await _ask_models(page, "200")
            return page

    with started(browser, tmp_path) as port:
        page = asyncio.run(look(port))
    assert len(page.requested) >= 6
    own = f"http://127.0.0.1:{api.http.base_url.port}/"
    assert [url for url in page.requested if not url.startswith((own, "data:", "about:", "blob:" + own))] == []
    assert [complaint for complaint in page.complaints if "401" not in complaint] == []


async def _ask_models(page: Page, status: str) -> None:
    """Unfold GET /v1/models, ask, and wait for that status."""
    block = "document.querySelector('[data-path=\"/v1/models\"]').closest('.opblock')"
    if not await page.evaluate(f"{block}.classList.contains('is-open')"):
        await page.evaluate(f"{block}.querySelector('.opblock-summary-control').click()")
        await page.until(f"!!{block}.querySelector('.try-out__btn')")
        await page.evaluate(f"{block}.querySelector('.try-out__btn').click()")
    await page.until(f"!!{block}.querySelector('.execute')")
    await page.evaluate(f"{block}.querySelector('.execute').click()")
    shown = f"({block}.querySelector('.live-responses-table tbody .response-col_status') || {{}}).innerText"
    await page.until(f"({shown} || '').includes('{status}')")


# --- the examples -----------------------------------------------------------------------------------------


def test_every_operation_shows_its_examples_for_a_shell_and_for_python(operations: dict[str, dict[str, Any]]) -> None:
    for name, operation in operations.items():
        for language, fence in (("Shell", "sh"), ("Python", "python")):
            found = samples(operation, language)
            assert found, name
            for source in found:
                assert f"```{fence}\n{source}\n```" in operation["description"], name
                assert ("ALMENARA_API_KEY" in source) is bool(operation.get("security")), name


@pytest.mark.slow
def test_the_shell_examples_of_verdicts_can_be_pasted(
    api: RunningApi, operations: dict[str, dict[str, Any]], bench: Path
) -> None:
    (bench.parent / ".curlrc").write_text("fail-with-body\nsilent\nshow-error\n")
    for name, operation in predicting(operations).items():
        for source in samples(operation, "Shell"):
            assert run_shell(api, source).startswith("{"), name


@pytest.mark.slow
def test_the_python_examples_of_verdicts_can_be_pasted(
    api: RunningApi, operations: dict[str, dict[str, Any]], bench: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, operation in predicting(operations).items():
        for source in samples(operation, "Python"):
            run_python(api, source)
            assert "{" in capsys.readouterr().out, name


@pytest.mark.slow
def test_every_other_shell_example_is_a_request_that_the_service_understands(
    api: RunningApi, operations: dict[str, dict[str, Any]], bench: Path
) -> None:
    (bench.parent / ".curlrc").write_text('silent\noutput = "/dev/null"\nwrite-out = " %{http_code}"\n')
    for name, operation in operations.items():
        if name in predicting(operations) or name == "get /v1/alarms/events":
            continue
        for source in samples(operation, "Shell"):
            status = run_shell(api, source.replace("-o evidence.jpg", "")).strip()
            assert status.startswith("2") or status in NOT_THERE, f"{name}: {status}"


@pytest.mark.slow
def test_the_examples_of_the_guide_can_be_pasted(
    api: RunningApi, bench: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (bench.parent / ".curlrc").write_text("fail-with-body\nsilent\nshow-error\n")
    text = GUIDE.read_text()
    (shell,) = re.findall(r"```sh\n(.*?)```", text, re.DOTALL)
    (python,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    assert '"probabilities"' in run_shell(api, shell)
    run_python(api, python)
    assert "b'anomaly'" in capsys.readouterr().out


def test_every_error_that_is_documented_has_an_example_of_its_own_status(
    operations: dict[str, dict[str, Any]],
) -> None:
    for name, operation in operations.items():
        for status, response in operation["responses"].items():
            content = response.get("content", {}).get("application/problem+json")
            if content is not None:
                assert content["example"]["status"] == int(status), name
                assert ("error" in content["example"]) is name.split()[1].startswith("/v2"), name


def test_every_reference_of_the_document_leads_somewhere(document: dict[str, Any]) -> None:
    def references(part: object) -> Iterator[str]:
        if isinstance(part, dict):
            yield from (value for key, value in part.items() if key == "$ref" and isinstance(value, str))
            for value in part.values():
                yield from references(value)
        elif isinstance(part, list):
            for value in part:
                yield from references(value)

    known = {f"#/components/schemas/{name}" for name in document["components"]["schemas"]}
    assert set(references(document)) <= known
