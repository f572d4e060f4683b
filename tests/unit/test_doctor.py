"""The doctor finds what is wrong and says what to do."""

import os
import socket
from pathlib import Path

import pytest

from infra.doctor import Check, checks, fit
from infra.settings import Settings


def named(found: list[Check], name: str) -> Check:
    return next(check for check in found if check.name == name)


def test_every_failed_check_says_what_to_do(tmp_path: Path) -> None:
    found = checks(Settings(home=tmp_path, engine_python=tmp_path / "none/bin/python"))
    assert all(check.fix for check in found if not check.ok)
    assert not any(check.fix for check in found if check.ok)
    engine = named(found, "engine")
    assert (engine.ok, engine.required) == (False, False)


def test_taken_port_is_named_with_owner_and_setting(tmp_path: Path) -> None:
    with socket.socket() as foreign:
        foreign.bind(("127.0.0.1", 0))
        foreign.listen()
        port = foreign.getsockname()[1]
        found = checks(Settings(home=tmp_path, gateway_port=port))
    check = named(found, f"port {port}")
    assert not check.ok
    assert f"pid {os.getpid()}" in check.detail
    assert "SLUICE_GATEWAY_PORT" in check.fix
    assert not fit(found)


def test_address_of_another_machine(tmp_path: Path) -> None:
    check = named(checks(Settings(home=tmp_path, host="192.0.2.1")), "ports")
    assert "SLUICE_HOST" in check.detail


def test_remote_servers_need_no_port_here(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path, engine_url="http://far:1", mlflow_url="http://far:2", prefect_url="http://far:3")
    found = checks(settings)
    assert [check.name for check in found if check.name.startswith("port ")] == [f"port {settings.gateway_port}"]
    assert named(found, "engine").ok


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_state_folder_that_cannot_be_written(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    try:
        assert not named(checks(Settings(home=tmp_path / "home")), "state folder").ok
    finally:
        tmp_path.chmod(0o700)


def test_embedder_digest_is_the_official_one(tmp_path: Path) -> None:
    assert named(checks(Settings(home=tmp_path)), "embedder").ok
