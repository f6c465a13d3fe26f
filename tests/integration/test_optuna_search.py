"""A search whose trials Optuna proposes, batch by batch, as a user runs it."""

from pathlib import Path

import polars as pl
import pytest

from tests.conftest import Kp

OVERRIDES = (
    "search.sampler=optuna",
    "search.trials=3",
    "search.optuna_batch=2",
    "search.learning_rate_range=[1e-3, 1e-2]",
    "search.rank=[2, 8]",
    "search.arms=[{}]",
    "training.epochs=2",
    'trackers.use=["tensorboard"]',
)


@pytest.mark.studies
def test_search_by_optuna_runs_every_batch_and_finds_the_same_trials_again(tiny_copy: Path, tiny_study: Path, kp_on_ray: Kp) -> None:
    before = set(tiny_copy.glob("store/trial/*"))
    done = kp_on_ray("search", tiny_study, *OVERRIDES, "--results", tiny_copy)
    assert done.returncode == 0, done.stdout + done.stderr
    trials = [pl.read_parquet(folder / "trial.parquet") for folder in set(tiny_copy.glob("store/trial/*")) - before]
    assert len(trials) == 3
    assert pl.concat(trials)["learning_rate"].is_between(1e-3, 1e-2).all()
    assert "search: 2 trials trained" in done.stdout
    assert "search: 1 trials trained" in done.stdout
    told = {folder.name for folder in (tiny_copy / "tiny" / "tensorboard").iterdir()}
    assert told == set(pl.concat(trials)["trial_id"])

    again = kp_on_ray("search", tiny_study, *OVERRIDES, "--results", tiny_copy)
    assert "search: 3 of 3 trials already done, not redone" in again.stdout
    assert "starting Ray" not in again.stdout

    seen = kp_on_ray("trials", tiny_study, *OVERRIDES, "--results", tiny_copy)
    assert "3 trials: 3 completed" in seen.stdout
