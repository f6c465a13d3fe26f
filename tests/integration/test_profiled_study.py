"""`kp study --profile` tells where a study's time went, and of a finished one that nothing was computed."""

import json
from pathlib import Path

import pytest

from tests.conftest import Kp
from tests.tiny_study import NAME

COMPUTING = ("generation", "training", "scoring")


def profile(root: Path) -> dict[str, dict[str, float]]:
    """The seconds of all and of the parts, by name."""
    found = json.loads((root / NAME / "profile.json").read_text(encoding="utf-8"))
    return {part["name"]: part for part in (found["all"], *found["parts"])}


def test_profile_of_a_study_has_the_time_of_each_stage_where_it_was_spent(finished_tiny: Path) -> None:
    found = profile(finished_tiny)
    assert found["categorise"]["generation"] > 0
    assert found["categorise"]["training"] == found["categorise"]["scoring"] == 0
    assert found["search"]["training"] >= found["search"]["evaluation"] > 0
    assert found["search"]["generation"] == found["search"]["scoring"] == 0
    assert min(found["evaluate"][kind] for kind in ("generation", "scoring")) > 0
    assert found["facts"]["computing"] == found["report"]["computing"] == 0
    every = found.pop("all")
    assert every["wall"] == pytest.approx(sum(part["wall"] for part in found.values()), abs=0.1)
    assert every["wall"] == pytest.approx(every["computing"] + every["overhead"], abs=0.1)
    assert every["computing"] <= sum(every[kind] for kind in COMPUTING) + 0.1
    known = every["of_overhead"]
    assert min(known.values()) > 0  # type: ignore[attr-defined]
    assert sum(known.values()) < every["overhead"]  # type: ignore[attr-defined]


def test_profile_of_a_finished_study_has_no_computing_and_says_so(tiny_copy: Path, tiny_study: Path, kp_on_ray: Kp) -> None:
    done = kp_on_ray("study", tiny_study, "--profile", "--results", tiny_copy)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "s, in which nothing was generated, trained or scored" in done.stdout
    every = profile(tiny_copy)["all"]
    assert (every["computing"], every["overhead_share"]) == (0, 1)
    assert every["overhead"] == every["wall"] > 0


def test_profile_of_a_dry_run_is_refused(tiny_study: Path, tmp_path: Path, kp_on_ray: Kp) -> None:
    done = kp_on_ray("study", tiny_study, "--profile", "--dry-run", "--results", tmp_path)
    assert done.returncode == 2
    assert "kp: --profile: " in done.stderr
