"""The `almenara` command as a person meets it: help with examples, one-sentence errors, exit codes, JSON."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from almenara.api_keys import hash_key, read_keys
from almenara.cli import main
from almenara.processes import answers, free_port
from almenara.registry import Registry
from almenara.training import Trainer
from tests.support.data import require_data
from tests.support.packages import classifier_candidate, vision_candidate
from tests.support.servers import running


class Command:
    """Runs the command in this process, in a folder of its own with an embedded registry."""

    def __init__(
        self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], folder: Path, var: Path
    ) -> None:
        monkeypatch.chdir(folder)
        monkeypatch.setenv("ALMENARA_VAR_DIR", str(var))
        monkeypatch.setenv("COLUMNS", "200")
        monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
        self.monkeypatch, self.capsys, self.folder = monkeypatch, capsys, folder

    def __call__(self, *arguments: str) -> tuple[int, str, str]:
        self.monkeypatch.setattr(sys, "argv", ["almenara", *arguments])
        self.capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main()
        out, err = self.capsys.readouterr()
        return int(ended.value.code or 0), out, err


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Command:
    return Command(monkeypatch, capsys, tmp_path, tmp_path / "var")


@pytest.mark.parametrize(
    "arguments",
    [
        ["demo"],
        ["serve"],
        ["train", "vision"],
        ["train", "vibration"],
        ["evaluate", "vision"],
        ["evaluate", "vibration"],
        ["predict", "image"],
        ["predict", "recording"],
        ["models", "list"],
        ["models", "promote"],
        ["models", "rollback"],
        ["data", "import", "cwru"],
        ["keys", "create"],
        ["keys", "list"],
        ["keys", "revoke"],
    ],
)
def test_every_command_has_help_with_an_example(command: Command, arguments: list[str]) -> None:
    code, out, _ = command(*arguments, "--help")
    assert code == 0
    assert f"Example: almenara {' '.join(arguments)}" in out


def test_empty_registry_is_said_with_the_way_out(command: Command) -> None:
    code, out, _ = command("models", "list", "--json")
    assert code == 0
    assert "Train one: almenara train --help" in out.replace("\n", " ")
    assert json.loads(out.splitlines()[-1]) == {"models": []}


def test_a_key_is_made_listed_and_revoked(command: Command) -> None:
    code, key, _ = command("keys", "create", "line-2", "--scope", "predict", "--expires", "30d", "--rate", "5")
    assert code == 0
    kept = read_keys(command.folder / "var" / "api-keys.json")
    assert [each.sha256 for each in kept] == [hash_key(key.strip())]
    code, out, _ = command("keys", "list", "--json")
    [told] = json.loads(out.splitlines()[-1])["keys"]
    assert (told["name"], told["scopes"], told["requests_per_second"]) == ("line-2", ["predict"], 5)
    assert "sha256" not in told
    assert "line-2" in command("keys", "list")[1]
    assert command("keys", "revoke", "line-2")[0] == 0
    assert "There is no key" in command("keys", "list")[1]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["create", "line 2", "--scope", "predict"], "name"),
        (["create", "line-2", "--scope", "predict", "--expires", "soon"], "is no duration"),
        (["create", "line-2", "--scope", "predict", "--expires", "99999999999d"], "too long"),
        (["create", "line-2", "--scope", "root"], "'predict', 'report', 'operate' or 'admin'"),
        (["revoke", "line-2"], "No key is called line-2"),
    ],
)
def test_a_key_that_cannot_be_is_a_sentence_and_exit_code_2(
    command: Command, arguments: list[str], sentence: str
) -> None:
    code, _, err = command("keys", *arguments)
    assert code == 2
    assert sentence in err
    assert "Traceback" not in err


def test_predict_without_a_champion_is_a_sentence_and_exit_code_2(command: Command) -> None:
    picture = command.folder / "frame.png"
    cv2.imwrite(str(picture), np.zeros((32, 32, 3), np.uint8))
    code, _, err = command("predict", "image", str(picture))
    assert code == 2
    assert "has no vision champion" in err
    assert "Train one: almenara train vision" in err
    assert "Traceback" not in err


@pytest.fixture(scope="module")
def var_with_champions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    var = tmp_path_factory.mktemp("var")
    trainer = Trainer(Registry(f"sqlite:///{var / 'mlflow' / 'mlflow.db'}"), "tests")
    trainer.register(vision_candidate())
    trainer.register(classifier_candidate())
    return var


@pytest.fixture
def champions(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path, var_with_champions: Path
) -> Command:
    return Command(monkeypatch, capsys, tmp_path, var_with_champions)


def test_predict_image_prints_the_verdict_and_draws_the_overlay(champions: Command) -> None:
    pictures = {"light": 200, "dark": 40}
    for name, level in pictures.items():
        cv2.imwrite(str(champions.folder / f"{name}.png"), np.full((48, 64, 3), level, np.uint8))
    code, out, _ = champions("predict", "image", "light.png", "dark.png", "--overlays", "drawn", "--json")
    assert code == 0
    verdicts = json.loads(out.splitlines()[-1])["verdicts"]
    assert [verdicts[f"{name}.png"]["label"] for name in pictures] == ["normal", "anomaly"]
    drawn = cv2.imread(str(champions.folder / "drawn" / "dark_overlay.png"))
    assert drawn is not None
    assert drawn.shape == (48, 64, 3)


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("empty.png", b"", "empty"),
        ("text.jpg", b"this is no picture", "text.jpg"),
        ("cut.png", None, "cut.png"),
    ],
)
def test_predict_image_refuses_what_is_no_picture(
    champions: Command, name: str, content: bytes | None, said: str
) -> None:
    whole = cv2.imencode(".png", np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8))[1].tobytes()
    Path(name).write_bytes(whole[: len(whole) // 2] if content is None else content)
    code, _, err = champions("predict", "image", name)
    assert code == 2
    assert said in err
    assert "Traceback" not in err


def test_predict_recording_needs_a_rate_and_takes_it(champions: Command) -> None:
    signal = np.random.default_rng(0).normal(size=24000).astype(np.float32)
    np.save("pump.npy", signal)
    code, _, err = champions("predict", "recording", "pump.npy")
    assert (code, "--sampling-rate-hz" in err) == (2, True)
    options = ["--sampling-rate-hz", "12000", "--shaft-rpm", "1772", "--bearing", "6205-2RS", "--json"]
    code, out, _ = champions("predict", "recording", "pump.npy", *options)
    assert code == 0
    (verdict,) = json.loads(out.splitlines()[-1])["verdicts"].values()
    assert verdict["windows"] == 3
    assert sum(verdict["probabilities"].values()) == pytest.approx(1, abs=1e-4)


def test_predict_recording_judges_each_snapshot(champions: Command) -> None:
    np.save("days.npy", np.random.default_rng(0).normal(size=(3, 12000)).astype(np.float32))
    options = ["--sampling-rate-hz", "12000", "--shaft-rpm", "1772", "--bearing", "6205-2RS", "--json"]
    code, out, _ = champions("predict", "recording", "days.npy", *options)
    verdicts = json.loads(out.splitlines()[-1])["verdicts"]
    assert (code, list(verdicts)) == (0, ["days.npy#0", "days.npy#1", "days.npy#2"])
    assert {verdict["windows"] for verdict in verdicts.values()} == {1}


def test_predict_recording_refuses_a_rate_that_the_file_contradicts(champions: Command) -> None:
    np.savez("pump.npz", signal=np.random.default_rng(0).normal(size=24000), sampling_rate_hz=48_000)
    code, _, err = champions("predict", "recording", "pump.npz", "--sampling-rate-hz", "12000")
    assert code == 2
    assert "12000 Hz and the file says 48000 Hz" in err.replace("\n", " ")


@pytest.mark.parametrize(
    ("signal", "said"),
    [
        (np.full(24000, np.nan, np.float32), "finite"),
        (np.ones(24000, np.float32), "constant"),
        (np.arange(10, dtype=np.float32), "At least 0.1 s"),
    ],
)
def test_predict_recording_refuses_unusable_signals(champions: Command, signal: np.ndarray, said: str) -> None:
    np.save("bad.npy", signal)
    code, _, err = champions("predict", "recording", "bad.npy", "--sampling-rate-hz", "12000")
    assert code == 2
    assert said in err
    assert "Traceback" not in err


def test_a_missing_package_is_named_with_the_remedy(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sklearn", None)
    for name in [name for name in sys.modules if name.startswith(("almenara.vibration", "sklearn."))]:
        monkeypatch.delitem(sys.modules, name)
    source = require_data("vibration", "cwru")
    code, _, err = command("evaluate", "vibration", "--data", str(source), "--no-track")
    assert code == 2
    assert "The Python package sklearn" in err
    assert "make install" in err


def test_promote_unknown_model_is_exit_code_2(champions: Command) -> None:
    code, _, err = champions("models", "promote", "nobody", "1", "--reason", "x")
    assert code == 2
    assert "nobody" in err


def test_data_import_cwru_writes_the_manifest(command: Command) -> None:
    source = require_data("vibration", "cwru", "original")
    code, out, _ = command("data", "import", "cwru", str(source), "cwru")
    assert code == 0
    assert "Imported 7 records" in out
    rows = (command.folder / "cwru" / "manifest.csv").read_text().splitlines()
    assert len(rows) == 8
    healthy = next(row for row in rows if "97" in row.split(",")[0])
    assert ",48000" in healthy


def test_a_damaged_registry_is_a_sentence(command: Command) -> None:
    database = command.folder / "var" / "mlflow" / "mlflow.db"
    database.parent.mkdir(parents=True)
    database.write_bytes(b"SQLite format 3\x00" + b"\xff" * 4096)
    code, _, err = command("models", "list")
    assert code == 2
    assert "did not answer as expected" in err
    assert "if the file is damaged" in err


def test_an_output_folder_that_is_a_file_is_a_sentence(champions: Command) -> None:
    cv2.imwrite("light.png", np.full((48, 64, 3), 200, np.uint8))
    Path("taken").write_text("")
    code, _, err = champions("predict", "image", "light.png", "--overlays", "taken")
    assert code == 2
    assert "taken: File exists" in err


def test_serve_takes_the_place_of_the_command(tmp_path: Path) -> None:
    """SIGTERM to the command is SIGTERM to the API: nothing is left behind."""
    port = free_port()
    environment = {"ALMENARA_VAR_DIR": str(tmp_path / "var")}
    command = [sys.executable, "-m", "almenara", "serve", "--port", str(port)]
    live = f"http://127.0.0.1:{port}/health/live"
    with running(command, tmp_path / "log", ready=lambda: answers(live), environment=environment) as served:
        served.terminate()
        assert served.wait(15) == 0
        assert not answers(live)
