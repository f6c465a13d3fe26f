"""Workers on several nodes meet by the interface that has their node's address."""

import os

import psutil
import pytest
import ray

from kp.cluster.interfaces import GLOO, NCCL, interface_of, use_interface_of_node

HERE = {"lo": ["127.0.0.1", "::1"], "docker0": ["172.17.0.1"], "eth0": ["10.0.0.7", "fe80::1"]}


@pytest.fixture
def unset(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (GLOO, NCCL):
        monkeypatch.setenv(name, "")  # so that what the call sets is taken back
        monkeypatch.delenv(name)


@pytest.mark.parametrize(("address", "name"), [("10.0.0.7", "eth0"), ("127.0.0.1", "lo"), ("fe80::1", "eth0"), ("54.1.2.3", None)])
def test_interface_of_an_address_is_the_one_that_has_it(address: str, name: str | None) -> None:
    assert interface_of(address, HERE) == name


@pytest.mark.usefixtures("unset")
def test_interface_of_node_is_named_to_gloo_and_nccl(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray.util, "get_node_ip_address", lambda: "127.0.0.1")
    use_interface_of_node()
    loopback = os.environ[GLOO]
    assert "127.0.0.1" in [one.address for one in psutil.net_if_addrs()[loopback]]
    assert os.environ[NCCL] == f"={loopback}"


@pytest.mark.usefixtures("unset")
def test_interface_that_the_environment_names_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray.util, "get_node_ip_address", lambda: "127.0.0.1")
    monkeypatch.setenv(GLOO, "ib0")
    use_interface_of_node()
    assert os.environ[GLOO] == "ib0"


@pytest.mark.usefixtures("unset")
def test_address_that_no_interface_has_leaves_the_choice_to_the_libraries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray.util, "get_node_ip_address", lambda: "203.0.113.9")
    use_interface_of_node()
    assert GLOO not in os.environ
    assert NCCL not in os.environ
