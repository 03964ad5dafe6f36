"""Copying several files at a time, and how far that is."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

Progress = Callable[[str, int, int], None]
"""Told how far a transfer is: (file just touched, bytes done, bytes in all). Threads call it one at a time."""

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


class Meter:
    """Counts bytes over several threads."""

    def __init__(self, total: int, progress: Progress | None) -> None:
        self._total = total
        self._progress = progress
        self._done = 0
        self._lock = threading.Lock()

    def add(self, name: str, size: int) -> None:
        with self._lock:
            self._done += size
            if self._progress is not None:
                self._progress(name, self._done, self._total)

    def of(self, name: str) -> FileMeter:
        return FileMeter(self, name)


class FileMeter:
    """What the S3 library reports the progress of one file to."""

    def __init__(self, meter: Meter, name: str) -> None:
        self._meter = meter
        self._name = name

    def set_meta(self, object_name: str, total_length: int) -> None:
        """The total is known already."""

    def update(self, length: int) -> None:
        self._meter.add(self._name, length)


def in_parallel(work: Callable[[_Item], _Result], items: Iterable[_Item], jobs: int) -> list[_Result]:
    """Results in the order of the items; the first failure ends it once what is in progress has ended."""
    with ThreadPoolExecutor(jobs) as pool:
        running = [pool.submit(work, item) for item in items]
        try:
            return [future.result() for future in running]
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
