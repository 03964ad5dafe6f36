"""/docs and the OpenAPI document: everything comes from this service, so that they work without the internet."""

from __future__ import annotations

from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from fastapi.responses import FileResponse, HTMLResponse, Response

from almenara_api.examples import examples, problem
from almenara_api.problems import MEDIA_TYPE

_VERSION = metadata.version("swagger-ui-py")
_PAGE = f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Almenara API</title>
<link rel="icon" href="data:,">
<link rel="stylesheet" href="docs/static/swagger-ui.css?v={_VERSION}">
</head>
<body>
<div id="swagger-ui"></div>
<script src="docs/static/swagger-ui-bundle.js?v={_VERSION}"></script>
<script src="docs/static/start.js"></script>
</body>
</html>
"""
_START = """SwaggerUIBundle({
  url: new URL("openapi.json", document.baseURI).href,
  dom_id: "#swagger-ui",
  deepLinking: true,
  validatorUrl: null,
});
"""
_HEADERS = {
    "Cache-Control": "no-cache",
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; connect-src 'self'; img-src 'self' data: blob:; "
        "style-src 'self' 'unsafe-inline'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
_FOREVER = {"Cache-Control": "public, max-age=31536000, immutable", "X-Content-Type-Options": "nosniff"}
_METHODS = ("get", "post", "put", "delete")


def install(app: FastAPI) -> None:
    """Serve /docs and its files, and put examples into the app's OpenAPI document."""
    static = _static()

    async def page() -> Response:
        return HTMLResponse(_PAGE, headers=_HEADERS)

    async def start() -> Response:
        return Response(_START, media_type="text/javascript", headers=_HEADERS)

    async def file(name: Literal["swagger-ui.css", "swagger-ui-bundle.js"]) -> Response:
        return FileResponse(static / name, headers=_FOREVER)

    app.add_api_route("/docs", page, include_in_schema=False)
    app.add_api_route("/docs/static/start.js", start, include_in_schema=False)
    app.add_api_route("/docs/static/{name}", file, include_in_schema=False)

    def document() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = _described(app)
        return app.openapi_schema

    app.openapi = document  # type: ignore[method-assign]  # as FastAPI wants it


def _static() -> Path:
    """Folder of the installed Swagger UI, whose Python side is not needed."""
    spec = find_spec("swagger_ui")
    if spec is None or not spec.submodule_search_locations:
        raise ModuleNotFoundError("swagger-ui-py is not installed")
    return Path(spec.submodule_search_locations[0]) / "static"


def _described(app: FastAPI) -> dict[str, Any]:
    document = get_openapi(title=app.title, version=app.version, description=app.description, routes=app.routes)
    for path, operations in document["paths"].items():
        for method in set(_METHODS) & set(operations):
            operation = operations[method]
            _hoist(document, operation.get("requestBody", {}))
            _show(operation, document, method, path)
            for status, response in operation["responses"].items():
                body = response.get("content", {}).get(MEDIA_TYPE)
                if body is not None:
                    _share(document, body)
                    body["example"] = problem(path, int(status))
    return document


def _share(document: dict[str, Any], body: dict[str, Any]) -> None:
    """Put the schema of a problem where the document has it once, instead of at every error of every route."""
    name = body["schema"]["title"]
    document["components"]["schemas"][name] = body["schema"]
    body["schema"] = {"$ref": f"#/components/schemas/{name}"}


def _hoist(document: dict[str, Any], body: dict[str, Any]) -> None:
    """Move the definitions of a body's own schema to where the document's references point."""
    for content in body.get("content", {}).values():
        document["components"]["schemas"].update(content.get("schema", {}).pop("$defs", {}))


def _show(operation: dict[str, Any], document: dict[str, Any], method: str, path: str) -> None:
    """Examples for Swagger UI, which shows the description alone, and for tools that know the extension."""
    blocks, samples = list[str](), list[dict[str, str]]()
    for example in examples(document, method, path):
        blocks += [f"```sh\n{example.curl}\n```", f"```python\n{example.python}\n```"]
        samples.append({"lang": "Shell", "label": "curl", "source": example.curl})
        samples.append({"lang": "Python", "label": "Python", "source": example.python})
    operation["description"] = "\n\n".join([operation.get("description", ""), "**Examples**", *blocks]).strip()
    operation["x-codeSamples"] = samples
