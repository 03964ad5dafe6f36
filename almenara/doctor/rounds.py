"""Makes every check at once, each for at most five seconds, whatever becomes of the others."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from dataclasses import replace

from almenara.doctor.checks import CHECKS, Check
from almenara.doctor.findings import Finding, problem
from almenara.doctor.place import Place
from almenara.errors import AlmenaraError

SECONDS = 5.0
"""How long a check may take."""


def diagnose(place: Place, checks: Sequence[tuple[str, Check]] = CHECKS, *, seconds: float = SECONDS) -> list[Finding]:
    """What every check found, in their order, without secrets."""
    running = [_Running(subject, check, place) for subject, check in checks]
    deadline = time.monotonic() + seconds
    found = [finding for each in running for finding in each.findings(deadline)]
    return [replace(each, fact=place.clean(each.fact), remedy=place.clean(each.remedy)) for each in found]


class _Running:
    """A check in a thread of its own, which is left behind when it takes too long."""

    def __init__(self, subject: str, check: Check, place: Place) -> None:
        self._subject, self._check, self._place = subject, check, place
        self._found: list[Finding] = []
        self._thread = threading.Thread(target=self._run, name=f"doctor-{subject}", daemon=True)
        self._thread.start()

    def findings(self, deadline: float) -> list[Finding]:
        self._thread.join(max(0.0, deadline - time.monotonic()))
        late = self._thread.is_alive()
        found = list(self._found)
        if late:
            remedy = "See whether it runs and whether the machine is overloaded, then ask again."
            found.append(problem(self._subject, "There was no answer in time.", remedy))
        return found

    def _run(self) -> None:
        try:
            for finding in self._check(self._place):
                self._found.append(finding)  # one by one: what was found before a failure stays
        except AlmenaraError as error:
            self._found.append(problem(self._subject, error.fact, error.remedy))
        except ModuleNotFoundError as error:
            fact = f"The Python package {error.name} is not installed here."
            self._found.append(problem(self._subject, fact, "Install it: make install"))
        except Exception as error:  # noqa: BLE001  a check that fails must not stop the others
            fact = f"It could not be checked: {type(error).__name__}: {error}"
            self._found.append(problem(self._subject, fact, "Please report this together with `almenara --version`."))
