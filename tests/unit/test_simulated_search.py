"""A search without models loses nothing if nothing fails, and no trial if something does."""

from dataclasses import replace

import pytest

from tests.simulated_search import Law, simulate, told

QUIET = Law(trials=12, workers=4, epochs=5, node_workers=2, failures_a_day=0.0, node_losses_a_day=0.0, slow_share=0.0, stops=False)
ROUGH = replace(QUIET, trials=40, failures_a_day=100.0, node_losses_a_day=40.0, start_seconds=20.0)


def test_search_without_failures_loses_no_work() -> None:
    found = simulate(replace(QUIET, spread=1.0))
    assert (found.lost, found.failures, found.node_losses, found.retired) == (0.0, 0, 0, 0)
    assert found.statuses == {"completed": 12}
    assert len(found.latencies) == 12 * 5  # every epoch is decided on once
    assert found.trained == pytest.approx(12 * 5 * (60 + 2))
    assert found.wall == pytest.approx(60 + 12 / 4 * 5 * (60 + 2))  # three trials on each worker, after its start
    assert found.waiting == 0.0


def test_search_with_failures_loses_time_and_no_trial() -> None:
    found, calm = simulate(ROUGH), simulate(replace(ROUGH, failures_a_day=0.0, node_losses_a_day=0.0))
    assert found.failures > 5
    assert found.node_losses > 2
    assert found.lost > 0
    assert found.statuses == calm.statuses == {"completed": 40}
    assert found.trained == pytest.approx(calm.trained)  # each epoch is committed once
    assert found.wall > calm.wall


def test_search_whose_scheduler_stops_trials_trains_less() -> None:
    stopped, whole = simulate(replace(QUIET, trials=30, stops=True)), simulate(replace(QUIET, trials=30))
    assert stopped.statuses["stopped"] > stopped.statuses["completed"] > 0
    assert stopped.trained < whole.trained


def test_search_by_the_same_law_comes_to_the_same() -> None:
    first, second = (replace(simulate(ROUGH), latencies=[], cpu=0.0) for _ in range(2))
    assert first == second
    assert first != replace(simulate(replace(ROUGH, seed=1)), latencies=[], cpu=0.0)


def test_search_that_loses_all_its_groups_ends_all_trials() -> None:
    found = simulate(replace(QUIET, epoch_seconds=3600.0, failures_a_day=2000.0))
    assert found.retired == 4
    assert found.statuses == {"failed": 12}


def test_figures_of_a_search_share_out_all_of_the_workers_time() -> None:
    lines = told(ROUGH, simulate(ROUGH))
    shares = [float(word.rstrip("%,")) for word in lines[2].split() if "%" in word]
    assert sum(shares) == pytest.approx(100.0, abs=0.05)
