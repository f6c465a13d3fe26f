"""ASHA stops the weaker trials; what it stopped is kept, measured and marked."""

from pathlib import Path

import pytest

from tests.conftest import Kp
from tests.tables import report_tables


@pytest.mark.studies
def test_search_with_asha_stops_trials_that_learn_nothing_and_keeps_their_adapters(
    tiny_copy: Path, tiny_study: Path, kp_on_ray: Kp
) -> None:
    overrides = [
        "search.scheduler=asha",
        "search.grace_epochs=6",
        "search.arms=[{}]",
        "search.learning_rate=[3e-2, 1e-7, 2e-7, 3e-7, 4e-7]",
        "evaluate.misconceptions=0",
    ]
    done = kp_on_ray("study", tiny_study, *overrides, "--results", tiny_copy)
    assert done.returncode == 0, done.stdout + done.stderr
    trials = report_tables(tiny_copy, "tiny")["trials.parquet"]
    stopped = trials.filter(status="stopped")
    assert len(stopped) >= 1
    assert stopped["epochs"].max() < stopped["max_epochs"].min()
    assert all("stopped by the scheduler after epoch" in cause for cause in stopped["cause"])
    assert stopped["adapter_digest"].null_count() == 0
    assert set(trials.filter(learning_rate=3e-2)["status"]) == {"completed"}
