"""What a study asks for and cannot have, as far as it shows only beside its categories or its cluster, is refused before it trains."""

from pathlib import Path

from tests.conftest import Kp, assert_refused
from tests.tiny_study import FACTS


def test_study_with_more_workers_than_cores_is_refused_by_field(tiny_study: Path, kp_on_ray: Kp, tmp_path: Path) -> None:
    overrides = ["resources.workers_per_trial=5000", "training.batch_size=5000", "resources.concurrent_trials=1"]
    done = kp_on_ray("categorise", tiny_study, *overrides, "--results", tmp_path / "runs")
    assert_refused(done, ["resources.workers_per_trial", "5000"])
    assert not list((tmp_path / "runs").rglob("answers.parquet"))


def test_search_for_more_unknown_facts_than_there_are_is_refused_before_training(tiny_study: Path, tiny_copy: Path, kp_on_ray: Kp) -> None:
    done = kp_on_ray("search", tiny_study, f"search.unknown=[{FACTS}]", "--results", tiny_copy)
    assert_refused(done, ["search.unknown", str(FACTS)])
    assert not list((tiny_copy / "work" / "trial").glob("*/*.parquet"))


def test_search_with_rows_longer_than_max_length_is_refused_before_training(tiny_study: Path, tiny_copy: Path, kp_on_ray: Kp) -> None:
    done = kp_on_ray("search", tiny_study, "training.max_length=8", "--results", tiny_copy)
    assert_refused(done, ["training.max_length", "8"])
