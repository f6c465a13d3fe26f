"""What a machine is in a record: that of the processes that did the work, each kind once."""

import socket
import subprocess
import sys
from types import SimpleNamespace

import pytest

from kp.store.hardware import distinct_hardware, hardware, process_hardware


def torch_with(names: list[str], initialized: bool) -> SimpleNamespace:
    """As much of torch as says which GPUs there are."""
    cuda = SimpleNamespace(
        is_initialized=lambda: initialized, device_count=lambda: len(names), get_device_name=lambda number: names[number]
    )
    return SimpleNamespace(cuda=cuda)


@pytest.mark.parametrize(("initialized", "expected"), [(True, ["GPU A", "GPU B"]), (False, [])])
def test_hardware_names_the_gpus_that_the_process_computes_on(
    monkeypatch: pytest.MonkeyPatch, initialized: bool, expected: list[str]
) -> None:
    monkeypatch.setitem(sys.modules, "torch", torch_with(["GPU A", "GPU B"], initialized))
    assert hardware()["gpus"] == expected


def test_hardware_imports_no_torch() -> None:
    program = (
        "import sys; from kp.store.steps import process_hardware; assert process_hardware()['gpus'] == []; sys.exit('torch' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


def test_process_hardware_names_its_host() -> None:
    assert process_hardware() == hardware() | {"hosts": [socket.gethostname()]}


def test_distinct_hardware_equal_machines_are_one_with_all_their_hosts() -> None:
    def machine(host: str, *gpus: str) -> dict[str, object]:
        return {"cores": 2, "gpus": list(gpus), "hosts": [host]}

    found = distinct_hardware([machine("b"), machine("a"), machine("b"), machine("c", "GPU A")])
    assert found == [{"cores": 2, "gpus": ["GPU A"], "hosts": ["c"]}, {"cores": 2, "gpus": [], "hosts": ["a", "b"]}]
    assert distinct_hardware([*found, machine("d")])[1]["hosts"] == ["a", "b", "d"]
    assert distinct_hardware([]) == []
