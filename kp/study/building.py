"""Build the graph of a study's steps from its file, its inputs and its results so far.

Records are the only state: if trials depend on the results of earlier ones, the graph follows from the study's file and the store, so it is
the same after a kill.
"""

import math
from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace

from kp.config.study import StudyConfig
from kp.search.proposals import Replay, objective_of, proposed
from kp.store.filenames import TRIAL_FILE
from kp.store.steps import Step, Store
from kp.study.graph import Graph, Trial
from kp.study.identities import Identities
from kp.study.measurement import Trained
from kp.study.measurements.registry import MEASUREMENTS
from kp.study.registry import SEARCH, STAGES
from kp.study.stage import Making
from kp.training.spec import TRIAL_END, TrialSpec, grid
from kp.vocabulary import TrialStatus


def build_graph(config: StudyConfig, identities: Identities, specs: Iterable[TrialSpec] | None = None) -> Graph:
    """The steps of this study with these trials, by default those of its grid."""
    steps: dict[str, Step] = {}
    making = Making(config, identities, steps)
    for stage in STAGES:
        steps |= stage.make_steps(making)
    graph = Graph(
        steps=steps,
        trials=tuple(_trial(making, spec) for spec in (grid(config) if specs is None else specs)),
        base={name: step for one in MEASUREMENTS for name, step in one.of_base(making).items()},
    )
    return replace(graph, by_stage={stage.name: stage.steps(graph) for stage in STAGES})


def _trial(making: Making, spec: TrialSpec) -> Trial:
    """The trial with this spec, and all its measurements."""
    trained = Trained(spec, SEARCH.trial_step(making, spec))
    measured = {name: step for one in MEASUREMENTS for name, step in one.at_scales(making, trained).items()}
    return Trial(spec, trained.step, measured)


@dataclass(frozen=True)
class ProposedGraph:
    """The steps of the trials known so far; `complete` if no result can add a trial."""

    graph: Graph
    complete: bool


def proposed_graph(
    config: StudyConfig, identities: Identities, store: Store, failed: Collection[str] = (), replay: Replay | None = None
) -> ProposedGraph:
    """The steps of the study; `failed` has the ids of trials that failed in this run and so have no record.

    `replay` is kept by a run that asks again after every batch.
    """

    def objective(spec: TrialSpec) -> float | None:
        (trial,) = build_graph(config, identities, [spec]).trials
        if trial.trial_id in failed:
            return math.nan
        if not store.is_done(trial.step):
            return None
        row = store.read(trial.step, TRIAL_FILE, TRIAL_END).to_pylist()[0]
        return objective_of(TrialStatus(row["status"]), row["unknown_accuracy"])

    proposal = proposed(config, objective, replay)
    return ProposedGraph(build_graph(config, identities, proposal.specs), proposal.complete)
