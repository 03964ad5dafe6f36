"""`.env` gets strong secrets of its own, and nothing that is in it is lost."""

from __future__ import annotations

import re
import stat
from pathlib import Path

import pytest

from almenara.env_file import PLACEHOLDER, complete, complete_file
from almenara.errors import ConfigurationError
from almenara.settings import load_settings
from tests.support.data import ROOT

SAMPLE = "# secrets\nDATABASE_PASSWORD=change-me-database\n\n# where\nPORT=8000\n"


def values(text: str) -> dict[str, str]:
    return dict(line.split("=", 1) for line in text.splitlines() if line and not line.startswith("#"))


def test_a_new_file_is_the_sample_with_a_secret_in_place_of_each_placeholder() -> None:
    first, second = complete(SAMPLE, None), complete(SAMPLE, None)
    assert first.secrets == ("DATABASE_PASSWORD",)
    assert first.added == ()
    secret = values(first.text)["DATABASE_PASSWORD"]
    assert re.fullmatch("[0-9a-f]{40}", secret)
    assert first.text == SAMPLE.replace("change-me-database", secret)
    assert values(second.text)["DATABASE_PASSWORD"] != secret


def test_the_sample_of_the_project_leaves_no_placeholder() -> None:
    text = complete((ROOT / "sample.env").read_text(encoding="utf-8"), None).text
    assert complete((ROOT / "sample.env").read_text(encoding="utf-8"), None).secrets
    assert not [name for name, value in values(text).items() if PLACEHOLDER in value]


def test_what_somebody_wrote_stays() -> None:
    own = "export PORT=9000 \n# mine\nOTHER='a b'\nDATABASE_PASSWORD=own\n"
    done = complete(SAMPLE, own)
    assert (done.text, done.secrets, done.added) == (own, (), ())


@pytest.mark.parametrize("left", ["change-me-database", '"change-me-database"', "change-me"])
def test_a_placeholder_that_was_left_gets_a_secret(left: str) -> None:
    done = complete(SAMPLE, f"PORT=9000\nDATABASE_PASSWORD={left}\n")
    assert done.secrets == ("DATABASE_PASSWORD",)
    assert re.fullmatch(r"PORT=9000\nDATABASE_PASSWORD=[0-9a-f]{40}\n", done.text)


def test_settings_that_are_missing_are_added() -> None:
    done = complete(SAMPLE, "PORT=9000\n")
    assert (done.secrets, done.added) == (("DATABASE_PASSWORD",), ("DATABASE_PASSWORD",))
    assert done.text.startswith("PORT=9000\n")
    assert len(values(done.text)["DATABASE_PASSWORD"]) == 40


def test_the_file_is_its_owners_alone_and_a_second_time_changes_nothing(tmp_path: Path) -> None:
    sample, file = tmp_path / "sample.env", tmp_path / ".env"
    sample.write_text(SAMPLE, encoding="utf-8")
    complete_file(file, sample)
    first = file.read_bytes()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert complete_file(file, sample).secrets == ()
    assert file.read_bytes() == first
    assert sorted(path.name for path in tmp_path.iterdir()) == [".env", "sample.env"]


def test_without_a_sample_the_file_stays_as_it_is(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("PORT=1\n", encoding="utf-8")
    with pytest.raises(ConfigurationError, match=r"sample\.env: No such file or directory\. Call it where"):
        complete_file(tmp_path / ".env", tmp_path / "sample.env")
    assert (tmp_path / ".env").read_text(encoding="utf-8") == "PORT=1\n"


def test_a_service_refuses_a_placeholder_by_the_name_of_its_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALMENARA_API_KEY", "change-me-api")
    with pytest.raises(ConfigurationError, match=r"ALMENARA_API_KEY: it is the placeholder of sample\.env") as refused:
        load_settings()
    assert "change-me-api" not in str(refused.value)
