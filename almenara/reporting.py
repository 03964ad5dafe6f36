"""What every training reports: its stages as they begin and end, and the libraries that it ran with."""

from __future__ import annotations

import platform
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version

from almenara.contracts import Progress


@contextmanager
def stage(progress: Progress | None, name: str) -> Iterator[None]:
    """Tell the listener, if there is one, that a stage of a single step begins, and at the end that it is done."""
    if progress is not None:
        progress(name, 0, 1)
    yield
    if progress is not None:
        progress(name, 1, 1)


def libraries(names: Sequence[str]) -> dict[str, str]:
    """Versions of Python and of those distributions that are installed, for the model card."""
    found = {"python": platform.python_version()}
    for name in names:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
