"""What a reload touches."""

from __future__ import annotations

from camera_worker.config import WorkerConfig, parse_config
from camera_worker.reloading import changed_cameras, settings_that_wait


def config(*cameras: str, head: str = "") -> WorkerConfig:
    return parse_config(f"{head}\ncameras:\n" + "".join(f"  - {{{camera}}}\n" for camera in cameras), name="test")


def test_only_cameras_that_differ_are_touched() -> None:
    before = config("name: a, source: '0'", "name: b, source: '1'", "name: c, source: '2'")
    after = config("name: a, source: '0'", "name: b, source: '1', fps: 5", "name: d, source: '3'")
    changes = changed_cameras(before, after)
    assert changes.ended == ("b", "c")
    assert [camera.name for camera in changes.started] == ["b", "d"]
    assert str(changes) == "changed: b; new: d; removed: c"


def test_a_new_password_is_a_change_and_is_not_told() -> None:
    camera = "name: a, source: rtsp://cam/, username: plant.op, password: "
    changes = changed_cameras(config(camera + "old-secret"), config(camera + "new-secret"))
    assert str(changes) == "changed: a"
    assert "secret" not in repr(changes)


def test_the_order_of_cameras_is_no_change() -> None:
    a, b = "name: a, source: '0'", "name: b, source: '1'"
    assert str(changed_cameras(config(a, b), config(b, a))) == "no camera changed"


def test_settings_that_only_a_restart_applies_are_named() -> None:
    before = config("name: a, source: '0'")
    after = config("name: a, source: '0'", head="alerts: false\nblind_after: 5s\napi: {timeout: 1s}\nvar_dir: there")
    assert settings_that_wait(before, after) == ["api", "alerts", "var_dir"]
    assert settings_that_wait(before, before) == []
