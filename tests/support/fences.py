"""Blocks of the documentation that a test makes: it compares them, or writes them with ALMENARA_WRITE_DOCS=1."""

from __future__ import annotations

import os
import re

from tests.support.data import ROOT


def assert_documented(page: str, name: str, text: str) -> None:
    """The fenced block after ``<!-- made by a test: NAME -->`` in a page of docs/ has this text."""
    path = ROOT / "docs" / page
    content = path.read_text(encoding="utf-8")
    block = re.compile(rf"(<!-- made by a test: {re.escape(name)} -->\n+```\w*\n)(.*?)(\n```)", re.DOTALL)
    found = block.search(content)
    assert found is not None, f"{path} has no block {name}"
    if os.environ.get("ALMENARA_WRITE_DOCS") == "1":
        path.write_text(block.sub(lambda match: match[1] + text + match[3], content), encoding="utf-8")
        return
    assert found[2] == text, f"{path}: block {name} is out of date; write it anew with ALMENARA_WRITE_DOCS=1"
