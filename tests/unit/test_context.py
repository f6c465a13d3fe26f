"""How a report says which machines did the work, and with which code."""

import pytest

from kp.store.code_version import CHECKOUT, NO_CHECKOUT
from kp.study.context import code_text, machine_text

MACHINE = {"processor": "AMD EPYC", "cores": 2, "memory_gib": 23.5, "python": "3.11.7", "gpus": [], "hosts": ["a"]}


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ({}, "AMD EPYC, 2 cores, 23.5 GiB, Python 3.11.7"),
        ({"hosts": ["a", "b"]}, "AMD EPYC, 2 cores, 23.5 GiB, Python 3.11.7 (2 hosts)"),
        ({"gpus": ["NVIDIA H100"] * 2}, "AMD EPYC, 2 cores, 23.5 GiB, NVIDIA H100, Python 3.11.7"),
    ],
)
def test_machine_text_names_gpus_and_counts_hosts(more: dict[str, object], expected: str) -> None:
    assert machine_text(MACHINE | more) == expected


def test_code_text_names_the_commit_or_says_that_there_is_none() -> None:
    commit = "0123456789abcdef" + "0" * 24
    assert code_text("1.2", {"source": CHECKOUT, "commit": commit, "dirty": False}) == "1.2, commit 0123456789ab"
    assert code_text("1.2", {"source": CHECKOUT, "commit": commit, "dirty": True}).endswith(", with changes that are not committed")
    assert code_text("1.2", {"source": NO_CHECKOUT, "commit": None, "dirty": None}) == "1.2, installed package, no git checkout"
