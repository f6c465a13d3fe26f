"""What a trial that has ended leaves in its step, and what its adapter is called by those that measure it."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from safetensors.numpy import save_file

from kp import schema
from kp.config.study import StudyConfig
from kp.generation.adapters import CONFIG_FILE, WEIGHTS_FILE, adapter_digest
from kp.schema import frame
from kp.search.tune import TrialOutcome
from kp.store.filenames import ADAPTER_FOLDER, FACT_EPOCHS_FILE, TRIAL_FILE
from kp.store.steps import Store
from kp.study.building import build_graph
from kp.study.graph import Graph, Trial
from kp.study.identities import Identities
from kp.study.stages import evaluate, search
from kp.training.job import ADAPTER, Progress
from kp.training.spec import TRIALS
from kp.vocabulary import TrialStatus
from tests.made_up_study import facts

WORKER = {"processor": "Another", "cores": 96, "gpus": ["GPU A"], "hosts": ["elsewhere"]}
EPOCH = {
    "epoch": 1,
    "train_loss": 1.0,
    "unknown_accuracy": 0.5,
    "replay_kl": None,
    "learning_rate": 1e-3,
    "final_learning_rate": 6e-4,
    "steps": 3,
    "rows": 10,
    "exposures": 1.5,
    "tokens": 400,
    "seconds": 2.0,
    "eval_seconds": 1.0,
}


@pytest.fixture
def session(tmp_path: Path) -> Any:
    """As much of a session as commits a trial and asks what is to be measured."""
    settings = {"name": "s", "search": {"unknown": [10], "rank": [4]}, "training": {"lora_alpha": 16}}
    config = StudyConfig.model_validate(settings)
    graph: Graph = build_graph(config, Identities("model", "facts", "shots"))
    model = SimpleNamespace(name="m", revision="rev")
    asked = facts().to_arrow().cast(schema.FACTS)
    return SimpleNamespace(store=Store(tmp_path / "runs"), config=config, graph=graph, model=model, facts=asked)


@pytest.fixture
def outcome(tmp_path: Path) -> Any:
    """A trial that ended well: its last checkpoint, by a worker elsewhere."""
    adapter = tmp_path / "checkpoint" / ADAPTER
    adapter.mkdir(parents=True)
    for name, text in ((CONFIG_FILE, "{}"), ("README.md", "# made by a library")):
        (adapter / name).write_text(text)
    save_file({"model.layers.3.mlp.down_proj.lora_A.weight": np.zeros((1, 2))}, adapter / WEIGHTS_FILE)
    progress = Progress(epochs=[EPOCH], hardware=[WORKER], fact_correct={"1": [1, 0]})
    rows, asked = pa.Table.from_pylist([], schema=schema.TRAINING_ROWS), pa.table({"fact_id": ["f1", "f2"]})
    job: Any = SimpleNamespace(rows=rows, eval_facts=asked, eval_shots=((),))
    return TrialOutcome(job, TrialStatus.COMPLETED, "ran its course", progress, tmp_path / "checkpoint", 12.0)


def commit(session: Any, outcome: TrialOutcome) -> Trial:
    (trial,) = session.graph.trials
    search._commit(session, trial, outcome, search._trial_row(trial, outcome))
    return trial


def test_committed_trial_is_called_by_one_digest_in_its_table_its_record_and_its_answers(session: Any, outcome: Any) -> None:
    trial = commit(session, outcome)
    digest = adapter_digest(session.store.file(trial.step, ADAPTER_FOLDER))
    assert frame(session.store.read(trial.step, TRIAL_FILE, TRIALS))["adapter_digest"].to_list() == [digest]
    assert session.store.record(trial.step)["details"]["adapter_digest"] == digest
    model = evaluate._model(session, trial)
    assert (model.trial_id, model.model_id) == (trial.trial_id, digest)
    assert (model.adapter, model.first_layer) == (session.store.file(trial.step, ADAPTER_FOLDER), 3)


def test_committed_trial_tells_its_last_learning_rate_its_exposures_and_its_scale(session: Any, outcome: Any) -> None:
    outcome.progress.epochs.append({**EPOCH, "epoch": 2, "final_learning_rate": 2e-4, "exposures": 1.0})
    trial = commit(session, outcome)
    (row,) = session.store.read(trial.step, TRIAL_FILE, TRIALS).to_pylist()
    assert (row["final_learning_rate"], row["exposures"], row["lora_scale"]) == (2e-4, 2.5, 4.0)


def test_committed_trial_tells_which_facts_were_right_after_each_epoch_that_was_measured(session: Any, outcome: Any) -> None:
    outcome.progress.epochs.extend([{**EPOCH, "epoch": 2}, {**EPOCH, "epoch": 3}])
    outcome.progress.fact_correct["3"] = [1, 1]
    trial = commit(session, outcome)
    found = frame(session.store.read(trial.step, FACT_EPOCHS_FILE, schema.FACT_EPOCHS))
    assert found.drop("trial_id", "asked").rows() == [(1, "f1", 1), (1, "f2", 0), (3, "f1", 1), (3, "f2", 1)]
    assert set(found["trial_id"]) == {trial.trial_id}
    assert set(found["asked"]) == {1}


def test_trial_without_an_epoch_exposed_no_fact(session: Any, outcome: Any) -> None:
    (trial,) = session.graph.trials
    row = search._trial_row(trial, replace(outcome, status=TrialStatus.FAILED, progress=None))
    assert (row["final_learning_rate"], row["exposures"]) == (None, 0)


def test_committed_trial_names_the_machines_of_its_workers(session: Any, outcome: Any) -> None:
    trial = commit(session, outcome)
    assert session.store.record(trial.step)["hardware"] == [WORKER]
