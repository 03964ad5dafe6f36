"""The command line of every benchmark."""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Collection
from types import FrameType


def asked(benchmark: str, description: str | None, questions: Collection[str]) -> tuple[bool, list[str]]:
    """Reads the arguments, and lets SIGTERM end the benchmark with its children.

    Args:
        benchmark: the package's name.
        description: for ``--help``, printed as it is.
        questions: that there are.

    Returns:
        Whether to be quick, and the questions to ask; ends the process when one is unknown.
    """
    parser = argparse.ArgumentParser(
        prog=f"python -m benchmarks.{benchmark}",
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--quick", action="store_true", help="a short trial or few of each question, nothing judged")
    parser.add_argument("--only", default=",".join(questions), help="some of %(default)s")
    arguments = parser.parse_args()
    chosen = arguments.only.split(",")
    if unknown := sorted(set(chosen) - set(questions)):
        parser.error(f"{', '.join(unknown)} is no question: there are {', '.join(questions)}")
    signal.signal(signal.SIGTERM, _end)
    return arguments.quick, chosen


def _end(_number: int, _frame: FrameType | None) -> None:
    sys.exit(128 + signal.SIGTERM)
