"""`docker compose up` as a user knows it: all is healthy, bad settings are refused, an empty registry is fine."""

from __future__ import annotations

import re
import time

import httpx
import pytest

from tests.e2e.compose.conftest import NOTES
from tests.support.platform_stack import SERVICES, Stack, docker, service_of

pytestmark = pytest.mark.compose

MOST_IDLE_MIB = 1.6 * 1024
_UNITS = {"B": 1 / 2**20, "KiB": 1 / 2**10, "MiB": 1.0, "GiB": 2.0**10}


def test_every_service_is_healthy_and_every_one_shot_has_succeeded(stack: Stack) -> None:
    states = {service_of(each): each["State"] for each in stack.containers()}
    assert set(states) == {*SERVICES, "settings", "buckets", "migrations"}
    for service in SERVICES:
        assert stack.health(service) == "healthy", service
    for once in ("settings", "buckets", "migrations"):
        assert (states[once]["Status"], states[once]["ExitCode"]) == ("exited", 0), once


def test_an_empty_registry_is_a_normal_start(stack: Stack) -> None:
    with stack.api() as api:
        assert api.get("/health/live").status_code == 200
        assert api.get("/v1/models").status_code == 200
        assert api.get("/docs").status_code == 200
        assert "register" in api.get("/health/ready").text


def test_nothing_listens_off_loopback_and_databases_not_at_all(stack: Stack) -> None:
    for container in stack.containers():
        bound = [each for ports in (container["NetworkSettings"]["Ports"] or {}).values() for each in ports or ()]
        assert {each["HostIp"] for each in bound} <= {"127.0.0.1"}
        if service_of(container) == "postgres":
            assert not bound


def test_a_request_without_the_key_is_refused(stack: Stack) -> None:
    assert httpx.get(f"{stack.api_url}/v1/models").status_code == 401


def test_a_spoofed_host_is_refused_by_the_registry(stack: Stack) -> None:
    address = f"{stack.mlflow_url}/api/2.0/mlflow/experiments/search?max_results=1"
    assert httpx.get(address).status_code == 200
    assert httpx.get(address, headers={"Host": "evil.example.com"}).status_code == 403


def test_placeholders_are_refused_by_their_names(stack: Stack) -> None:
    secrets = dict.fromkeys(("POSTGRES_PASSWORD", "JUPYTER_TOKEN"), "change-me-please")
    named = [part for name, value in secrets.items() for part in ("--env", f"{name}={value}")]
    refused = stack.compose("run", "--rm", "--no-deps", *named, "settings", check=False)
    said = refused.stdout + refused.stderr
    assert refused.returncode != 0
    assert all(name in said for name in secrets)
    assert "MINIO_SECRET_KEY" not in said
    assert "change-me-please" not in said


def test_services_are_not_root_and_have_limits(stack: Stack) -> None:
    for container in stack.containers():
        host, service = container["HostConfig"], service_of(container)
        assert host["Memory"] > 0, service
        assert host["LogConfig"]["Config"]["max-size"], service
        if service in SERVICES:
            assert container["Config"]["StopTimeout"], service
            assert host["RestartPolicy"]["Name"] == "unless-stopped", service
        if container["Config"]["Image"].startswith("almenara/"):
            assert container["Config"]["User"] == "10001", service
            assert host["ReadonlyRootfs"], service
            assert host["CapDrop"] == ["ALL"], service


def test_idle_memory_fits_a_small_machine(stack: Stack) -> None:
    stack.wait_healthy(*SERVICES)
    names = {each["Name"].lstrip("/"): service_of(each) for each in stack.containers() if each["State"]["Running"]}
    told = docker("stats", "--no-stream", "--format", "{{.Name}} {{.MemUsage}}", *names).splitlines()
    used = {names[line.split()[0]]: _mib(line.split()[1]) for line in told}
    NOTES.extend(f"idle memory: {service} {mib:.0f} MiB" for service, mib in sorted(used.items()))
    NOTES.append(f"idle memory: all {sum(used.values()):.0f} MiB")
    assert set(used) == set(SERVICES)
    assert sum(used.values()) <= MOST_IDLE_MIB


def test_a_second_start_with_nothing_changed_takes_seconds(stack: Stack) -> None:
    before = {service_of(each): each["Id"] for each in stack.containers() if each["State"]["Running"]}
    begun = time.monotonic()
    stack.up("--build")
    NOTES.append(f"up --build --wait again: {time.monotonic() - begun:.0f} s")
    assert {service_of(each): each["Id"] for each in stack.containers() if each["State"]["Running"]} == before


def _mib(text: str) -> float:
    found = re.fullmatch(r"([\d.]+)([KMG]?i?B)", text)
    assert found, text
    return float(found[1]) * _UNITS[found[2]]
