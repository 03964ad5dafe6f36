"""Both clients of the API behind one call, so that each test is of both."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable
from typing import Any, Literal

from almenara.client import Almenara, AsyncAlmenara

Kind = Literal["blocking", "awaited"]
KINDS: tuple[Kind, ...] = ("blocking", "awaited")


def have(kind: Kind, url: str, *asks: Callable[[Any], Any], **options: Any) -> list[Any]:
    """What one client of the kind answers to each question, asked one after the other."""
    if kind == "blocking":
        with Almenara(url, **options) as api:
            return [ask(api) for ask in asks]

    async def all_awaited() -> list[Any]:
        async with AsyncAlmenara(url, **options) as api:
            answers = []
            for ask in asks:
                answer = ask(api)
                assert inspect.isawaitable(answer)
                answers.append(await answer)
            return answers

    return asyncio.run(all_awaited())
