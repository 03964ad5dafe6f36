"""The MQTT channel against a real broker: what subscribers get, and that nothing is lost when the broker goes."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from almenara.alarms.channels.base import SEND_SECONDS
from almenara.alarms.channels.mqtt import MqttChannel, SourceState, escape
from almenara.alarms.records import Notification
from almenara.errors import ConfigurationError
from almenara.processes import free_port
from tests.support.brokers import Listener, certificate, mosquitto, mosquitto_process, mosquitto_program, wait_for
from tests.support.bus_messages import ALARM_ID, RAISED_AT, message, notification
from tests.support.fences import assert_documented
from tests.support.servers import stop

pytestmark = pytest.mark.slow

ALARMS, STATE, STATUS = "almenara/alarms/line-2/outflow-1", "almenara/state/line-2/outflow-1", "almenara/status"


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with mosquitto(tmp_path_factory.mktemp("mosquitto")) as url:
        yield url


@pytest.fixture
def channel(broker: str) -> Iterator[MqttChannel]:
    opened = MqttChannel("bus", broker)
    yield opened
    opened.close()


def test_subscriber_gets_the_notification_as_it_was_committed(broker: str, channel: MqttChannel) -> None:
    with Listener(broker) as listener:
        channel.send(message())
        assert Notification.model_validate_json(listener.wait(ALARMS)) == notification()


def test_notification_is_not_retained_and_the_state_is(broker: str, channel: MqttChannel) -> None:
    channel.send(message())
    with Listener(broker) as late:
        state = SourceState.model_validate_json(late.wait(STATE))
        assert late.of(ALARMS) == []
    assert (state.active, state.since, state.alarm_id) == (True, RAISED_AT, ALARM_ID)


def test_state_says_nothing_of_an_acknowledgement_since_none_is_told(broker: str, channel: MqttChannel) -> None:
    channel.send(message())
    with Listener(broker) as late:
        assert set(json.loads(late.wait(STATE))) == {"source", "active", "priority", "since", "alarm_id", "key"}


def test_state_of_a_source_follows_its_return(broker: str, channel: MqttChannel) -> None:
    channel.send(message())
    channel.send(message("returned", 42))
    with Listener(broker) as late:
        state = SourceState.model_validate_json(late.wait(STATE))
    assert (state.active, state.key) == (False, "5d0c4e0e-returned")
    assert (state.since - RAISED_AT).total_seconds() == 42


def test_test_message_leaves_the_state_alone(broker: str, channel: MqttChannel) -> None:
    with Listener(broker) as listener:
        channel.send(message("test", source="bench"))
        listener.wait("almenara/alarms/bench")
        assert listener.of("almenara/state/bench") == []


def test_status_is_online_while_a_process_is_connected_and_offline_after_it(broker: str, channel: MqttChannel) -> None:
    channel.start()
    with Listener(broker) as listener:
        assert listener.wait(STATUS) == b"online"
        channel.close()
        wait_for(lambda: listener.of(STATUS)[-1] == b"offline")


def test_process_that_stays_says_online_again_when_another_on_its_topic_ends(broker: str, channel: MqttChannel) -> None:
    channel.start()
    other = MqttChannel("bus", broker)
    other.start()
    with Listener(broker) as listener:
        other.close()
        wait_for(lambda: listener.of(STATUS)[-2:] == [b"offline", b"online"])


def test_killed_process_is_offline_by_its_last_will(broker: str) -> None:
    program = (
        f"from almenara.alarms.channels.mqtt import MqttChannel; MqttChannel('bus', {broker!r}, topic='dying').start();"
        "print(flush=True); input()"
    )
    pipe = subprocess.PIPE
    with (
        subprocess.Popen([sys.executable, "-c", program], stdin=pipe, stdout=pipe, start_new_session=True) as child,
        Listener(broker) as listener,
    ):
        assert listener.wait("dying/status") == b"online"
        stop(child, signal.SIGKILL)
        wait_for(lambda: listener.of("dying/status")[-1] == b"offline")


def test_two_processes_do_not_throw_each_other_out(broker: str, channel: MqttChannel) -> None:
    other = MqttChannel("bus", broker)
    with Listener(broker) as listener:
        for turn in range(3):
            channel.send(message(source=f"first-{turn}"))
            other.send(message(source=f"second-{turn}"))
        assert listener.of(STATUS).count(b"online") <= 3, "nobody had to connect again"
    other.close()


@pytest.mark.parametrize(
    ("source", "topic"),
    [
        ("line-2/cam", "line-2/cam"),
        ("a+b#c", "a%2Bb%23c"),
        ("$SYS/broker", "%24SYS/broker"),
        ("100%", "100%25"),
        ("línea 3", "línea 3"),
    ],
)
def test_source_is_a_topic_that_the_broker_takes(broker: str, channel: MqttChannel, source: str, topic: str) -> None:
    assert escape(source) == topic
    with Listener(broker) as listener:
        channel.send(message(source=source))
        told = Notification.model_validate_json(listener.wait(f"almenara/alarms/{topic}"))
    assert told.alarm.source == source


def test_broker_that_is_away_fails_the_message_in_time() -> None:
    channel = MqttChannel("bus", f"mqtt://127.0.0.1:{free_port()}")
    with pytest.raises(OSError, match="refused"):
        channel.send(message())


def test_broker_that_hangs_fails_the_message_in_time(tmp_path: Path) -> None:
    with mosquitto_process(tmp_path) as (url, broker):
        channel = MqttChannel("bus", url)
        channel.start()
        broker.send_signal(signal.SIGSTOP)
        began = time.monotonic()
        try:
            with pytest.raises(OSError, match="in time"):
                channel.send(message())
            assert time.monotonic() - began < SEND_SECONDS
        finally:
            broker.send_signal(signal.SIGCONT)
        channel.close()


def test_nothing_is_lost_and_no_stale_message_follows_when_the_broker_restarts(tmp_path: Path) -> None:
    port = free_port()
    with mosquitto(tmp_path, port=port) as url:
        channel = MqttChannel("bus", url)
        channel.send(message(source="before"))
    with pytest.raises(OSError):  # noqa: PT011 - whatever the system says of it
        channel.send(message(source="meanwhile"))
    with mosquitto(tmp_path, port=port) as url, Listener(url) as listener:
        channel.send(message(source="meanwhile"))
        channel.send(message("returned", source="meanwhile"))
        wait_for(lambda: len(listener.of("almenara/alarms/meanwhile")) == 2)
        told = [json.loads(each)["event"] for each in listener.of("almenara/alarms/meanwhile")]
        assert told == ["raised", "returned"]
        assert listener.of("almenara/state/before"), "the broker kept what was retained"
        channel.close()


def test_user_and_password_of_the_address_are_decoded(tmp_path: Path) -> None:
    mosquitto_program()
    (tmp_path / "passwords").write_text("shift:p@ss/1\n", encoding="utf-8")
    subprocess.run(["mosquitto_passwd", "-U", tmp_path / "passwords"], check=True)
    with mosquitto(tmp_path, f"password_file {tmp_path / 'passwords'}") as url:
        channel = MqttChannel("bus", url.replace("//", "//shift:p%40ss%2F1@"))
        channel.send(message())
        channel.close()
        wrong = MqttChannel("bus", url.replace("//", "//shift:wrong-secret@"))
        with pytest.raises(ConnectionRefusedError, match="Not authorized") as refused:
            wrong.send(message())
    assert "wrong-secret" not in str(refused.value)


def test_broker_that_forbids_the_topic_fails_the_message(tmp_path: Path) -> None:
    (tmp_path / "acl").write_text("topic read #\ntopic write almenara/status\n", encoding="utf-8")
    with mosquitto(tmp_path, f"acl_file {tmp_path / 'acl'}") as url:
        channel = MqttChannel("bus", url)
        with pytest.raises(PermissionError, match="almenara/alarms/line-2/outflow-1: Not authorized"):
            channel.send(message())
        channel.close()


def test_encrypted_connection_trusts_the_named_certificate_and_no_other(tmp_path: Path) -> None:
    (trusted, key), port = certificate(tmp_path, "urn:almenara"), free_port()
    tls = (f"listener {port} 127.0.0.1", f"certfile {trusted}", f"keyfile {key}")
    with mosquitto(tmp_path, *tls):
        channel = MqttChannel("bus", f"mqtts://localhost:{port}?ca={trusted}")
        channel.send(message())
        channel.close()
        with pytest.raises(OSError, match="certificate verify failed"):
            MqttChannel("bus", f"mqtts://localhost:{port}").send(message())


@pytest.mark.parametrize(
    ("url", "fact"),
    [
        ("http://shift:secret@broker", "does not begin with mqtt:// or mqtts://"),
        ("mqtt://shift:secret@broker/plant", "has a path"),
        ("mqtt://shift:secret@:1883", "no usable host"),
        ("mqtt://shift:secret@broker:99999", "no usable host or port"),
        ("mqtt://shift:sec ret@broker", "has a space"),
        ("mqtts://shift:secret@broker?ca=/nowhere/secret.pem", "cannot be used"),
        ("mqtt://shift:secret@broker?ca=x", "is not encrypted"),
    ],
)
def test_impossible_address_is_a_configuration_error_without_its_password(url: str, fact: str) -> None:
    with pytest.raises(ConfigurationError, match=fact) as refused:
        MqttChannel("bus", url)
    assert "sec" not in str(refused.value).replace("user:password", "")


def test_documentation_shows_what_a_subscriber_receives(broker: str) -> None:
    channel = MqttChannel("bus", broker, topic="doc")
    with Listener(broker) as listener:
        channel.send(message())
        payloads = {name: listener.wait(f"doc/{name}/line-2/outflow-1") for name in ("alarms", "state")}
    channel.close()
    for name, payload in payloads.items():
        text = json.dumps(json.loads(payload), indent=2, ensure_ascii=False)
        assert_documented("alarms/buses.md", f"mqtt-{name}", text)
