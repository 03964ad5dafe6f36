"""Who may connect to the OPC UA channel, and what gets past nobody."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from asyncua import ua
from asyncua.client.client import Client
from asyncua.crypto.security_policies import SecurityPolicyBasic256Sha256
from asyncua.ua.object_ids import ObjectIds
from asyncua.ua.uaerrors import UaError

from almenara.alarms.channels.opcua import OpcUaChannel
from almenara.alarms.channels.opcua_conditions import node_id
from almenara.errors import ConfigurationError
from almenara.processes import free_port
from tests.support.brokers import certificate
from tests.support.bus_messages import ALARM_ID
from tests.support.opcua import Desk, operator, send

pytestmark = pytest.mark.slow


@dataclass
class Guarded:
    """A server with user, password and certificate, and what a client needs for encryption."""

    endpoint: str
    desk: Desk
    channel: OpcUaChannel
    files: tuple[Path, Path]
    server_certificate: Path

    async def encrypt(self, client: Client) -> None:
        certificate = str(self.server_certificate)
        await client.set_security(SecurityPolicyBasic256Sha256, *self.files, server_certificate=certificate)


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    shown, key = certificate(tmp_path_factory.mktemp("server"), "urn:almenara")
    files = certificate(tmp_path_factory.mktemp("client"), "urn:example.org:FreeOpcUa:opcua-asyncio")
    port, desk = free_port(), Desk()
    address = f"opc.tcp://shift:p%40ss@0.0.0.0:{port}/almenara?certificate={shown}&key={key}"
    channel = OpcUaChannel("scada", address, acknowledge=desk.acknowledge)
    channel.start()
    yield Guarded(f"opc.tcp://127.0.0.1:{port}/almenara", desk, channel, files, shown)
    channel.close()


def test_user_signs_in_over_an_encrypted_channel_and_acknowledges_by_name(guarded: Guarded) -> None:
    async def go() -> None:
        async with operator(guarded.endpoint, "shift", "p@ss", guarded.encrypt) as watching:
            await send(guarded.channel)
            await watching.acknowledge(await watching.wait(), "")

    asyncio.run(go())
    assert guarded.desk.acknowledged == [(ALARM_ID, "shift", "")]


@pytest.mark.parametrize(
    ("user", "password", "encrypted"), [("shift", "wrong", True), ("", "", True), ("shift", "p@ss", False)]
)
def test_nobody_else_is_let_in(guarded: Guarded, user: str, password: str, encrypted: bool) -> None:
    async def go() -> None:
        async with operator(guarded.endpoint, user, password, guarded.encrypt if encrypted else None):
            pass

    with pytest.raises((UaError, OSError)):
        asyncio.run(go())


def test_endpoints_can_be_asked_for_without_encryption_and_all_of_them_encrypt(guarded: Guarded) -> None:
    endpoints = asyncio.run(Client(guarded.endpoint).connect_and_get_server_endpoints())
    assert {endpoint.SecurityMode for endpoint in endpoints} == {ua.MessageSecurityMode.SignAndEncrypt}


@pytest.mark.parametrize("signs_in", [False, True])
def test_client_that_insists_on_no_encryption_can_do_nothing(
    guarded: Guarded, signs_in: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Client, "find_endpoint", staticmethod(lambda endpoints, *_rest: endpoints[0]))

    async def go() -> Any:
        client = Client(guarded.endpoint, timeout=3)
        await client.connect_socket()
        try:
            await client.send_hello()
            await client.open_secure_channel()
            await client.create_session()
            if signs_in:
                await client.activate_session("shift", "p@ss")
            return await client.get_node(node_id(ObjectIds.Server_NamespaceArray)).read_value()
        finally:
            client.disconnect_socket()

    with pytest.raises((UaError, OSError, TimeoutError)):
        asyncio.run(go())


@pytest.mark.parametrize(
    ("endpoint", "fact"),
    [
        ("http://127.0.0.1:4840", "does not begin with opc.tcp://"),
        ("opc.tcp://0.0.0.0:4840/almenara", "is open to the network"),
        ("opc.tcp://shift:secret@0.0.0.0:4840/almenara", "is open to the network"),
        ("opc.tcp://shift@127.0.0.1:4840", "without a password"),
        ("opc.tcp://127.0.0.1:4840?certificate=/nowhere/server.pem", "only one of"),
        ("opc.tcp://127.0.0.1:4840?certificate=/nowhere/server.pem&key=/nowhere/key.pem", "no file /nowhere"),
        ("opc.tcp://127.0.0.1:4840?anonymous=yes", "no other option"),
    ],
)
def test_endpoint_that_cannot_be_offered_is_a_configuration_error(endpoint: str, fact: str) -> None:
    with pytest.raises(ConfigurationError, match=fact) as refused:
        OpcUaChannel("scada", endpoint)
    assert "secret" not in str(refused.value)
