"""`almenara alarms` before it asks the API: its help, and what it refuses by the name of the option."""

from __future__ import annotations

import pytest
from typer.core import TyperGroup
from typer.main import get_command
from typer.testing import CliRunner, Result

from almenara.cli import app
from almenara.cli.alarms import app as alarms
from almenara.errors import InputError
from almenara.processes import free_port

GROUP = get_command(alarms)
assert isinstance(GROUP, TyperGroup)
COMMANDS = GROUP.commands


def refused(*arguments: str) -> str:
    """Why the command does not even ask; an API that is away would be another error."""
    away = f"http://127.0.0.1:{free_port()}"
    done: Result = CliRunner().invoke(app, ["alarms", *arguments, "--api-url", away], env={"COLUMNS": "300"})
    assert done.exit_code == 2
    assert isinstance(done.exception, SystemExit), done.exception
    return done.stderr


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help_with_an_example(name: str) -> None:
    done = CliRunner().invoke(app, ["alarms", name, "--help"], env={"COLUMNS": "200"})
    assert done.exit_code == 0
    assert f"Example: almenara alarms {name}" in done.output


@pytest.mark.parametrize("name", COMMANDS)
def test_help_is_printed_as_it_was_written(name: str) -> None:
    shown = CliRunner().invoke(app, ["alarms", name, "--help"], env={"COLUMNS": "300"}).output
    words = " ".join(shown.replace("│", " ").split())
    command = COMMANDS[name]
    written = [command.help or "", *(getattr(param, "help", None) or "" for param in command.params)]
    for text in written:
        assert " ".join(text.replace("`", "").split()) in words


def test_help_shows_globs_with_their_stars() -> None:
    shown = CliRunner().invoke(app, ["alarms", "silence", "--help"], env={"COLUMNS": "200"}).output
    assert "Glob, such as 'line-2/*' or '*'." in shown


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["shelve", "pump", "30s"], "'DURATION': 30s is too short: at least 1m, at most 7d."),
        (["shelve", "pump", "8d"], "'DURATION': 8d is too long: at least 1m, at most 7d."),
        (["silence", "*", "30s"], "'DURATION': 30s is too short: at least 1m, at most 90d."),
        (["silence", "*", "91d", "--starts", "2040-01-01"], "'DURATION': 91d is too long"),
        (["silence", "*", "1h", "--starts", "2020-01-01"], "'--starts': such a silence was over at 2020-01-01"),
        (["silence", "*", "1h", "--starts", "9999-12-31 23:59:59"], "'--starts': 9999-12-31 23:59:59 lies too far"),
        (["list", "--since", "99999999d"], "'--since': 99999999d is too long"),
        (["list", "--kind", "smell"], "'vision', 'vibration', 'system'"),
        (["list", "--phase", "asleep"], "'--phase'"),
        (["list", "--priority", "urgent"], "'low', 'medium', 'high', 'critical'"),
        (["list", "--source", ""], "'--source': write a name"),
        (["kpi", "--hours", "0"], "'--hours'"),
        (["kpi", "--hours", "745"], "'--hours'"),
        (["kpi", "--operators", "1001"], "'--operators'"),
        (["unshelve", " "], "'SOURCE': write a name of 1 to 200 characters."),
        (["in-service", "pump", "--user", "x" * 201], "'--user': write a name of 1 to 200 characters."),
        (["out-of-service", "pump", "--comment", "x" * 2001], "'--comment': it has 2001 characters; at most 2000"),
    ],
)
def test_what_the_api_would_refuse_is_refused_by_the_options_name(arguments: list[str], words: str) -> None:
    assert words in refused(*arguments)


@pytest.mark.parametrize("duration", ["2", "h", "-1h", ""])
def test_duration_without_number_or_unit_is_refused(duration: str) -> None:
    done = CliRunner().invoke(app, ["alarms", "shelve", "--user", "eva", "pump", "--", duration])
    assert done.exit_code == 2
    assert "is no duration" in done.stderr


def test_account_without_a_name_is_told_to_give_one(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("LOGNAME", "USER", "LNAME", "USERNAME"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setattr("os.getuid", lambda: 4_000_000)
    done = CliRunner().invoke(app, ["alarms", "unshelve", "pump"])
    assert isinstance(done.exception, InputError)
    assert "--user" in str(done.exception)
