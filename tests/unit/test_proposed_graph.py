"""With Optuna the trials of a study follow from the records of those before them, and from nothing else."""

import polars as pl

from kp import schema
from kp.config.study import StudyConfig
from kp.store.filenames import TRIAL_FILE
from kp.store.steps import Store
from kp.study.building import proposed_graph
from kp.study.graph import Trial
from kp.study.identities import Identities
from kp.study.results import trial_columns
from kp.training.spec import TRIALS

IDENTITIES = Identities("model", "facts", "shots")


def study(**search: object) -> StudyConfig:
    settings = {"unknown": [10], "rank": [1, 2, 4, 8], "learning_rate": [1e-3, 3e-3, 1e-2]} | search
    return StudyConfig.model_validate({"name": "s", "search": settings, "training": {"lora_alpha": 16}})


OPTUNA = study(sampler="optuna", trials=6, optuna_batch=2)


def commit(store: Store, trial: Trial, unknown_accuracy: float) -> None:
    """A record of a trial that came to this."""
    row = trial_columns(trial) | {"status": "completed", "epochs": 1, "steps": 1, "unknown_accuracy": unknown_accuracy}
    empty = pl.DataFrame(TRIALS.empty_table())
    table = pl.DataFrame([row], schema={name: empty.schema[name] for name in row}).to_arrow()
    whole = pl.concat([empty, pl.DataFrame(table)], how="diagonal").select(TRIALS.names).to_arrow().cast(TRIALS)
    store.commit(trial.step, lambda folder: schema.write_table(whole, TRIALS, folder / TRIAL_FILE), seconds=1.0)


def ids(store: Store, failed: tuple[str, ...] = ()) -> list[str]:
    return [trial.trial_id for trial in proposed_graph(OPTUNA, IDENTITIES, store, failed).graph.trials]


def test_proposed_graph_of_a_grid_is_complete_at_once(tmp_path: object) -> None:
    found = proposed_graph(study(), IDENTITIES, Store(tmp_path))  # type: ignore[arg-type]
    assert found.complete
    assert len(found.graph.trials) == 12


def test_proposed_graph_grows_by_a_batch_once_the_last_has_records(tmp_path: object) -> None:
    store = Store(tmp_path)  # type: ignore[arg-type]
    first = proposed_graph(OPTUNA, IDENTITIES, store)
    assert (len(first.graph.trials), first.complete) == (2, False)
    commit(store, first.graph.trials[0], 0.5)
    assert ids(store) == [trial.trial_id for trial in first.graph.trials]
    commit(store, first.graph.trials[1], 0.1)
    second = ids(store)
    assert second[:2] == [trial.trial_id for trial in first.graph.trials]
    assert len(set(second)) == 4
    assert ids(Store(tmp_path)) == second  # type: ignore[arg-type]


def test_proposed_graph_goes_on_after_a_trial_that_failed(tmp_path: object) -> None:
    store = Store(tmp_path)  # type: ignore[arg-type]
    first = proposed_graph(OPTUNA, IDENTITIES, store).graph.trials
    commit(store, first[0], 0.5)
    assert len(ids(store, failed=(first[1].trial_id,))) == 4
