"""Nodes are compared with where the study was started before hours of work depend on them."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from kp.cluster.preflight import LEAST_FREE, Probe, compared, probe_here, versions
from kp.store.shared_folder import DRIVER, meeting_place, met, unmet

ROOT = Path("/mnt/results")
HERE = Probe("driver", {"kp": "abc", "torch": "2.13.0"}, None, 10 * LEAST_FREE, 10 * LEAST_FREE, clock=1010.0)
NODE = replace(HERE, node="10.0.0.2", clock=1005.0)


def told(*probes: Probe, here: Probe = HERE) -> list[tuple[str, bool]]:
    return [(finding.message, finding.is_fatal) for finding in compared(here, probes, ROOT, began=1000.0)]


def test_nodes_that_are_as_they_must_be_have_no_findings() -> None:
    assert told(NODE, replace(NODE, node="10.0.0.3")) == []


def test_node_with_another_folder_cannot_run_a_study() -> None:
    assert told(NODE, replace(NODE, node="10.0.0.3", folder_fault="is another folder there", free=0)) == [
        ("/mnt/results is another folder there (node 10.0.0.3)", True)
    ]


def test_nodes_with_other_packages_are_counted_by_version() -> None:
    old = replace(NODE, packages={"kp": "abc", "torch": "2.12.0"})
    ((message, is_fatal),) = told(NODE, old, old)
    assert message == "2 of 3 nodes have torch 2.12.0, and here it is 2.13.0: install the same on every node, as an image does"
    assert is_fatal


def test_full_disk_is_told_once_and_a_full_temporary_folder_for_its_node() -> None:
    full, tight = replace(NODE, free=LEAST_FREE - 1), replace(NODE, node="10.0.0.3", free_here=0)
    assert told(full, full, tight) == [
        ("/mnt/results has 2.0 GiB left; make room", True),
        ("node 10.0.0.3 has 0.0 GiB left for temporary files", False),
    ]


@pytest.mark.parametrize(("clock", "skew"), [(996.0, None), (1014.0, None), (4610.0, "+3600"), (-2600.0, "-3600")])
def test_clock_that_is_elsewhere_than_between_question_and_answer_is_told(clock: float, skew: str | None) -> None:
    messages = [message for message, _ in told(replace(NODE, clock=clock))]
    assert messages == ([f"the clock of node 10.0.0.2 differs by {skew} s; its log lines do too"] if skew else [])


def test_probe_of_this_machine_finds_its_folder_sound_and_leaves_nothing(tmp_path: Path) -> None:
    with meeting_place(tmp_path) as place:
        probe = probe_here(place, "one")
        assert probe.folder_fault is None
        assert probe.packages == versions()
        assert unmet(place, ["one"]) == set()
    assert list(tmp_path.iterdir()) == []


def test_folder_without_what_the_driver_wrote_is_another(tmp_path: Path) -> None:
    with meeting_place(tmp_path) as place:
        (place / DRIVER).write_text("something else")
        assert met(place, "one") == "shows other content there than where the study was started"
        shutil.rmtree(place)
        assert str(met(place, "one")).startswith("is another folder there")
        place.mkdir()
        assert str(met(place, "one")).startswith("is another folder there")


def test_what_a_node_wrote_and_nobody_sees_is_missed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kp.store.shared_folder.LISTING_SECONDS", 0.0)
    with meeting_place(tmp_path) as place:
        assert met(place, "one") is None
        assert unmet(place, ["one", "two"]) == {"two"}
