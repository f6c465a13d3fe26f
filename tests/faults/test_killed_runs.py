"""A study killed at any moment and started again ends as if nothing had happened."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import Kp
from tests.killing import running_kp
from tests.tables import report_tables
from tests.tiny_study import NAME


def kill_when(study: Path, root: Path, condition: Callable[[], bool]) -> None:
    """Start the study and kill -9 its driver as soon as the condition holds."""
    with running_kp(root, "study", study) as run:
        run.wait_until(condition)
        run.driver.kill()


def committed_chunks(root: Path) -> int:
    return sum(".pending" not in path.name for path in root.glob("work/categorise/*/committed/*.parquet"))


def committed_epochs(root: Path) -> int:
    return len(list(root.glob("work/trial/*/epochs/*/progress.json")))


@pytest.mark.studies
def test_study_killed_in_three_stages_ends_with_the_tables_of_an_uninterrupted_one(
    tiny_study: Path, finished_tiny: Path, kp_on_ray: Kp, tmp_path: Path
) -> None:
    root = tmp_path
    kill_when(tiny_study, root, lambda: committed_chunks(root) >= 5)
    assert not list(root.glob("store/categorise/*/record.json"))
    kept = committed_chunks(root)

    kill_when(tiny_study, root, lambda: committed_epochs(root) >= 1)
    assert len(list(root.glob("store/categorise/*/record.json"))) == 1
    assert not list(root.glob("store/answers/*/record.json"))

    kill_when(tiny_study, root, lambda: bool(list(root.glob("store/answers/*/record.json"))))
    assert len(list(root.glob("store/trial/*/record.json"))) == 3
    assert len(list(root.glob("store/answers/*/record.json"))) < 3

    done = kp_on_ray("study", tiny_study, "--results", root)
    assert done.returncode == 0, done.stdout + done.stderr
    for line in ("facts: already done", "categorise: already done", "search: 3 of 3 trials already done"):
        assert line in done.stdout
    assert "measurements already done, not redone" in done.stdout
    assert kept >= 5

    expected, found = report_tables(finished_tiny, NAME), report_tables(root, NAME)
    assert found.keys() == expected.keys()
    for name, table in expected.items():
        assert found[name].equals(table), name


def test_search_with_a_diverging_trial_records_it_and_goes_on(tiny_study: Path, tiny_copy: Path, kp_on_ray: Kp) -> None:
    overrides = ["search.arms=[{}]", "search.learning_rate=[3e-2, 1e30]", "evaluate.misconceptions=0"]
    done = kp_on_ray("study", tiny_study, *overrides, "--results", tiny_copy)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "search: 1 of 2 trials already done, not redone" in done.stdout
    trials = {row["learning_rate"]: row for row in report_tables(tiny_copy, NAME)["trials.parquet"].iter_rows(named=True)}
    assert trials[3e-2]["status"] == "completed"
    assert trials[1e30]["status"] == "diverged"
    assert trials[1e30]["adapter_digest"] is None
    assert "loss" in trials[1e30]["cause"]


def test_study_with_a_failing_trial_reports_its_cause_and_exits_with_3(tiny_study: Path, tiny_copy: Path, kp_on_ray: Kp) -> None:
    overrides = ["search.arms=[{}]", "search.rank=[7]", "training.init=orthogonal", "evaluate.misconceptions=0"]  # PEFT wants an even rank
    done = kp_on_ray("study", tiny_study, *overrides, "--results", tiny_copy)
    assert done.returncode == 3, done.stdout + done.stderr
    trial = report_tables(tiny_copy, NAME)["trials.parquet"].row(0, named=True)
    assert trial["status"] == "failed"
    assert "rank to be even" in trial["cause"]
    assert "rank to be even" in (tiny_copy / NAME / "report" / "report.md").read_text(encoding="utf-8")
    assert not list(tiny_copy.glob(f"store/trial/{trial['trial_id']}"))


def test_study_with_a_damaged_measurement_makes_that_one_again(tiny_study: Path, tiny_copy: Path, kp_on_ray: Kp) -> None:
    answers = sorted(tiny_copy.glob("store/answers/*/answers.parquet"))[0]
    data = bytearray(answers.read_bytes())
    data[len(data) // 2] ^= 1
    answers.write_bytes(bytes(data))
    before = report_tables(tiny_copy, NAME)
    done = kp_on_ray("study", tiny_study, "--results", tiny_copy)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "search: 3 of 3 trials already done" in done.stdout
    assert "evaluate: 1 models measured" in done.stdout
    assert len(list((tiny_copy / "damaged").iterdir())) == 1
    assert all(report_tables(tiny_copy, NAME)[name].equals(table) for name, table in before.items())
