"""ASHA stops the weaker trials; what it stopped is kept, measured and marked."""

from pathlib import Path

import pytest

from tests.conftest import SMOKE, run_kp
from tests.tables import report_tables


@pytest.mark.studies
@pytest.mark.timeout(1200)
def test_search_with_asha_stops_trials_that_learn_nothing_and_keeps_their_adapters(smoke_copy: Path) -> None:
    overrides = [
        "search.scheduler=asha",
        "search.grace_epochs=2",
        "search.arms=[{}]",
        "search.learning_rate=[3e-3, 1e-7, 2e-7, 3e-7, 4e-7]",
        "evaluate.mmlu_dev=0",
        "evaluate.misconceptions=0",
    ]
    done = run_kp("study", SMOKE, *overrides, "--results", smoke_copy)
    assert done.returncode == 0, done.stdout + done.stderr
    trials = report_tables(smoke_copy)["trials.parquet"]
    stopped = trials.filter(status="stopped")
    assert len(stopped) >= 1
    assert stopped["epochs"].max() < stopped["max_epochs"].min()
    assert all("stopped by the scheduler after epoch" in cause for cause in stopped["cause"])
    assert stopped["adapter_digest"].null_count() == 0
    assert set(trials.filter(learning_rate=3e-3)["status"]) == {"completed"}
