"""An address at which no cluster answers is told within seconds, before Ray is asked."""

import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest

from kp.cluster import address
from kp.cluster.address import cluster_address
from kp.errors import UserError

SOON = 15.0


@pytest.fixture
def dead_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


@pytest.fixture
def port_of_another_server() -> Iterator[int]:
    """One that takes connections and answers like a web server."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                with connection:
                    connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

        threading.Thread(target=serve, daemon=True).start()
        yield int(server.getsockname()[1])
        server.shutdown(socket.SHUT_RDWR)


@pytest.fixture
def grpc_port() -> Iterator[int]:
    server = grpc.server(ThreadPoolExecutor(1))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield port
    server.stop(None)


def refusal(address: str, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("RAY_ADDRESS", address)
    began = time.monotonic()
    with pytest.raises(UserError) as caught:
        cluster_address()
    assert time.monotonic() - began < SOON
    assert caught.value.field == "RAY_ADDRESS"
    return str(caught.value)


@pytest.mark.parametrize("scheme", ["", "ray://"])
def test_cluster_address_where_nothing_listens_is_refused(scheme: str, dead_port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    address = f"{scheme}127.0.0.1:{dead_port}"
    message = refusal(address, monkeypatch)
    assert message.startswith(f"RAY_ADDRESS: {address}: no Ray cluster answers there (Connection refused); ")
    assert "unset RAY_ADDRESS" in message


def test_cluster_address_of_another_server_is_refused(port_of_another_server: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(address, "PROBE_SECONDS", 1)
    assert "what answers there is no Ray cluster" in refusal(f"127.0.0.1:{port_of_another_server}", monkeypatch)


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_cluster_address_of_a_dashboard_is_refused_with_what_it_is_for(scheme: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "`ray job submit`" in refusal(f"{scheme}://127.0.0.1:8265", monkeypatch)


@pytest.mark.parametrize("address", ["head", "head:", "head:port", "127.0.0.1:99999999", ":6379", "ray://head"])
def test_cluster_address_without_host_and_port_is_refused(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "expected HOST:PORT, ray://HOST:PORT or auto" in refusal(address, monkeypatch)


def test_cluster_address_auto_without_a_cluster_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def die(address: str) -> str:
        raise ConnectionError("Could not find any running Ray instance.")

    monkeypatch.setattr("ray._private.services.canonicalize_bootstrap_address_or_die", die)
    assert "auto: no Ray cluster runs on this machine" in refusal("auto", monkeypatch)


def test_cluster_address_auto_of_a_cluster_that_has_died_is_refused(dead_port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ray._private.services.canonicalize_bootstrap_address_or_die", lambda address: f"127.0.0.1:{dead_port}")
    assert f"127.0.0.1:{dead_port}: no Ray cluster answers there" in refusal("auto", monkeypatch)


@pytest.mark.parametrize("scheme", ["", "ray://"])
def test_cluster_address_of_a_server_that_speaks_grpc_is_taken(scheme: str, grpc_port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", f"{scheme}127.0.0.1:{grpc_port}")
    assert cluster_address() == f"{scheme}127.0.0.1:{grpc_port}"


@pytest.mark.parametrize("address", ["", "local"])
def test_cluster_address_that_names_none_starts_ray_here(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", address)
    assert cluster_address() is None
