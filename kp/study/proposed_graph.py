"""The steps of a study whose trials may hang on what its earlier trials reached.

Nothing is remembered but records: the graph is made from the study's file and the store, so it is the same after a kill.
"""

import math
from collections.abc import Collection
from dataclasses import dataclass

from kp import schema
from kp.config.study import StudyConfig
from kp.search.proposals import objective_of, proposed
from kp.store.filenames import TRIAL_FILE
from kp.store.steps import Store
from kp.study.graph import Graph, Identities, build_graph
from kp.training.spec import TrialSpec
from kp.vocabulary import TrialStatus


@dataclass(frozen=True)
class ProposedGraph:
    """The steps as far as the trials are known; `complete` where no result can add a trial."""

    graph: Graph
    complete: bool


def proposed_graph(config: StudyConfig, identities: Identities, store: Store, failed: Collection[str] = ()) -> ProposedGraph:
    """The steps of the study; `failed` are ids of trials that failed in this run and so have no record."""

    def objective(spec: TrialSpec) -> float | None:
        (trial,) = build_graph(config, identities, [spec]).trials
        if trial.trial_id in failed:
            return math.nan
        if not store.is_done(trial.step):
            return None
        row = store.read(trial.step, TRIAL_FILE, schema.TRIALS).to_pylist()[0]
        return objective_of(TrialStatus(row["status"]), row["unknown_accuracy"])

    proposal = proposed(config, objective)
    return ProposedGraph(build_graph(config, identities, proposal.specs), proposal.complete)
