"""Verdicts as JSON, one a line, for whoever reads the standard output; a reader that stops never stops the cameras."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import queue
import sys
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Self

from camera_worker.states import Scored

logger = logging.getLogger(__name__)

MOST_WAITING = 1000

_PATIENCE_SECONDS = 1.0


class VerdictLines:
    """Prints verdicts from a thread of its own; a context manager.

    Args:
        on_closed: called, in that thread, when the reader has gone; nothing more is printed then.
        complete: what to do when the reader is 1000 lines behind. True waits for it, which holds up what is scored:
            right for video files. False leaves lines out and says so: right for cameras.
        output: descriptor to write to; the standard output by default.
    """

    def __init__(self, on_closed: Callable[[], None], *, complete: bool, output: int | None = None) -> None:
        self._on_closed, self._complete = on_closed, complete
        self._output = sys.stdout.fileno() if output is None else output
        self._waiting: queue.Queue[bytes | None] = queue.Queue(MOST_WAITING)
        self._thread = threading.Thread(target=self._print, name="verdicts", daemon=True)
        self._failure: OSError | None = None
        self._hurried = False
        self.left_out = 0

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Prints what is waiting; of cameras, and after `hurry`, only what the reader takes within two seconds.

        Raises OSError when verdicts that had to be complete could not be written.
        """
        patience = None if self._complete and not self._hurried else _PATIENCE_SECONDS
        with contextlib.suppress(queue.Full):
            self._waiting.put(None, timeout=patience)
            self._thread.join(patience)
        if self._thread.is_alive():
            self.left_out += self._waiting.qsize()
        if self.left_out:
            logger.warning("%d verdicts were not printed: their reader was too slow", self.left_out)
        if self._failure and self._complete and error is None:
            raise self._failure

    def hurry(self) -> None:
        """Somebody has asked for the end: what is waiting must not hold it up."""
        self._hurried = True

    def report(self, scored: Scored) -> None:
        """Prints a verdict soon; with `complete` it may wait for the reader: not for an event loop's thread."""
        try:
            self._waiting.put(_line(scored), block=self._complete)
        except queue.Full:
            if not self.left_out:
                logger.warning("whoever reads the verdicts is too slow: some are left out")
            self.left_out += 1

    def _print(self) -> None:
        closed = False
        while (line := self._waiting.get()) is not None:
            if closed:
                continue
            try:
                self._write(line)
            except OSError as error:
                closed = True
                self._close(error)

    def _write(self, line: bytes) -> None:
        """Past Python's own buffer, whose lock a writer that is stuck would hold when the process ends."""
        while line:
            line = line[os.write(self._output, line) :]

    def _close(self, error: OSError) -> None:
        if not isinstance(error, BrokenPipeError):  # otherwise whoever read the verdicts has seen enough
            self._failure = error
            logger.error("verdicts can no longer be printed: %s", error.strerror)
            if not self._complete:
                return
        self._on_closed()


def _line(scored: Scored) -> bytes:
    position = {} if scored.position is None else {"position_seconds": round(scored.position, 3)}
    line = {
        "camera": scored.camera,
        "captured_at": scored.captured_at.isoformat(),
        **position,
        "posted_age_seconds": round(scored.posted_age, 3),
        "age_seconds": round(scored.age, 3),
        **scored.verdict.model_dump(mode="json", exclude={"heatmap"}),
    }
    return json.dumps(line, ensure_ascii=False).encode() + b"\n"
