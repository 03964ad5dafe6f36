"""This machine: secrets, disk, the folder of databases and evidence, alarms.yaml."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from almenara import env_file
from almenara.alarms.channels.opening import load_checked
from almenara.doctor import findings
from almenara.doctor.findings import Finding, ok, problem, skipped, warning
from almenara.doctor.place import Place
from almenara.errors import InputError


def secrets(place: Place) -> Iterator[Finding]:
    """Those that are set here, by the rules of `almenara env check`."""
    here = {name: value for name, value in place.environment.items() if name in env_file.SECRETS}
    found = [each for each in env_file.check(here) if each.name in here]
    for each in found:
        yield problem("secrets", f"{each.name}: {each.fact}", each.remedy)
    if not here:
        yield skipped("secrets", "None is set here.")
    elif not found:
        yield ok("secrets", f"{len(here)} are set here, none of them a placeholder or well known.")


def disk(place: Place) -> Iterator[Finding]:
    """Free space under the folder of databases and evidence."""
    usage = shutil.disk_usage(_existing(place.settings.var_dir.resolve()))
    yield findings.disk("disk", usage.free, usage.total)


def folder(place: Place) -> Iterator[Finding]:
    """Whether it can be written."""
    path = place.settings.var_dir.resolve()
    if not path.exists():
        yield skipped("folder", f"{path} is not there yet; the first start makes it.")
        return
    try:
        with tempfile.TemporaryFile(dir=path) as file:
            file.write(b"almenara doctor")
            file.flush()
    except OSError as error:
        fact = f"{path} cannot be written: {error.strerror}."
        yield problem("folder", fact, "Correct its rights and the disk, or set ALMENARA_VAR_DIR.")
        return
    yield ok("folder", f"{path} can be written.")


def alarms_file(place: Place) -> Iterator[Finding]:
    """The file, its channels and its heartbeat; nothing is sent."""
    path = place.settings.alarms_file
    if path is None:
        fact = "ALMENARA_ALARMS_FILE is not set: alarms go to the alarm log alone."
        yield warning("alarms.yaml", fact, "Write one as docs/alarms.md shows, so that somebody is told.")
        return
    try:
        config = load_checked(path)
    except InputError as error:
        yield problem("alarms.yaml", error.fact, error.remedy or "Correct it; the services do not start with it.")
        return
    if config.channels:
        names = ", ".join(channel.name for channel in config.channels)
        yield ok("alarms.yaml", f"{path} is valid; channels: {names}.")
    else:
        fact = f"{path} is valid and names no channel: alarms go to the alarm log alone."
        yield warning("alarms.yaml", fact, "Add a channel, and try it: almenara alarms test-channel NAME")
    if config.heartbeat:
        yield ok("heartbeat", f"It goes out every {config.heartbeat.every:g} s while all is well.")
    else:
        fact = "There is none: nobody notices when the platform dies."
        yield warning("heartbeat", fact, "Set heartbeat in alarms.yaml, and a watcher on another machine.")


def _existing(path: Path) -> Path:
    return next(each for each in (path, *path.parents) if each.exists())
