"""The search stage: gives every missing trial to Tune and commits each as it ends; kp.study.trial_jobs draws what it trains on."""

import shutil
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pyarrow as pa

from kp import schema
from kp.config.identity import Reads
from kp.generation.adapters import adapter_digest
from kp.progress import Bar
from kp.search.tune import Listeners, QueueLostError, TrialOutcome, adapter_of, run_trials
from kp.search.worker_groups import SearchFolders, WorkerGroups
from kp.store.filenames import ADAPTER_FOLDER, EPOCHS_FILE, FACT_EPOCHS_FILE, ROWS_FILE, TRIAL_FILE
from kp.store.steps import Step
from kp.study.graph import Graph, Trial
from kp.study.pricing import Prompts, eval_prompts
from kp.study.results import trial_columns, with_adapter
from kp.study.session import Session
from kp.study.stage import Command, Making, Planning, Stage, Work, model_literals
from kp.study.trial_jobs import make_jobs
from kp.trackers.registry import Trackers, open_trackers, validate_installed
from kp.training.bucket_checkpoints import checkpoints_in
from kp.training.job import PROGRESS, Progress
from kp.training.spec import TRIALS, TrialSpec
from kp.vocabulary import Activity, Scheduler, TrialStatus

SCHEDULING = Reads(
    ("model.dtype", "categorise.matcher", "search", "training"),
    but=(
        "search.unknown",  # what the search chooses is in the spec, and always stated
        "search.rank",
        "search.learning_rate",
        "search.learning_rate_range",
        "search.layers",
        "search.seeds",
        "search.sampler",  # how it chooses does not matter once it has chosen
        "search.trials",
        "search.optuna_batch",
        "search.replay_source",  # identified by its content, through the step's inputs
        "search.replay_count",
        "search.replay_shortfall",  # with the same facts, a trial either is an error or replays all there are
    ),
)


MOST_RESTARTS = 5  # of a search whose queue died


class Search(Stage):
    """One step per trial, identified only by its content: the same trial in another search is not trained again."""

    name = "search"
    command = Command.SEARCH
    version = 8
    reads = SCHEDULING
    tables = {TRIAL_FILE: TRIALS, EPOCHS_FILE: schema.EPOCHS, ROWS_FILE: schema.TRAINING_ROWS}

    def trial_step(self, making: Making, spec: TrialSpec) -> Step:
        """Depends on what the base knows, and on paraphrases and replayed facts if its mix has some."""
        config, steps = making.config, making.steps
        # The spec states the fields of search and training that have an effect on this trial.
        model = {"model.dtype": config.model.dtype, "categorise.matcher": config.categorise.matcher.value}
        literals = {"version": self.version, **model_literals(making), **model, "spec": spec.literals()}
        inputs = [*making.known]
        inputs += [steps["parts"]] if "parts" in steps else []
        inputs += [steps["paraphrases"]] if "paraphrases" in steps and spec.arm.paraphrases else []
        inputs += [steps["replay_categorise"]] if "replay_categorise" in steps and spec.replayed else []
        return Step("trial", literals, tuple(inputs))

    def steps(self, graph: Graph) -> tuple[Step, ...]:
        """Those of the trials known so far."""
        return tuple(trial.step for trial in graph.trials)

    def plan(self, planning: Planning) -> Work:
        """All trials, each with its maximal length."""
        trials = planning.trials
        rows, steps = trials.total(lambda spec: spec.rows_in_all), trials.total(lambda spec: spec.max_steps)
        known = f" ({len(trials.known)} of them proposed so far)" if trials.to_come else ""
        text = f"{trials.count} trials{known}, at most {steps:,} steps on {rows:,} rows"
        return Work(text, self.steps(planning.graph), trials.to_come)

    def prompts(self, planning: Planning) -> Prompts | None:
        """For the evaluation after every epoch."""
        return Prompts(evals=planning.trials.total(eval_prompts))

    def run(self, session: Session) -> None:
        """Run every trial without a record; those that fail are noted in `session.failures`."""
        done = sum(session.store.is_done(trial.step) for trial in session.graph.trials)
        if done:
            session.display.line(f"search: {done} of {len(session.graph.trials)} trials already done, not redone")
        validate_installed(session.config.trackers)
        failures, restarts = session.failures, 0
        while True:
            missing = [t for t in session.graph.trials if t.trial_id not in failures and not session.store.is_done(t.step)]
            if missing:
                try:
                    _run(session, missing, failures)
                except QueueLostError as lost:
                    restarts += 1
                    if restarts > MOST_RESTARTS:
                        raise
                    session.display.line(f"search: the process that hands out trials died ({lost}); they go on from their last epochs")
                    continue
            if not session.propose():
                break
        link_adapters(session)


def _run(session: Session, missing: list[Trial], failures: dict[str, dict[str, Any]]) -> None:
    """Run these trials; for each that fails, a TRIALS row is added to `failures`, by trial id."""
    began = time.monotonic()
    known = len(failures)
    with ExitStack() as stack:
        for trial in missing:
            stack.enter_context(session.store.working(trial.step))
        missing = [trial for trial in missing if not session.store.is_done(trial.step)]  # another driver may have had one until now
        if not missing:
            return
        jobs = make_jobs(session, missing)  # if a pool is too small, the study ends here, before anything is trained
        epochs = sum(trial.spec.max_epochs for trial in missing)
        bar = stack.enter_context(session.display.bar("search", epochs, "epochs"))
        trackers = open_trackers(session.config.trackers, session.config.name, session.folder.path, session.display.line)
        stack.callback(trackers.close)
        follower = _Follower(session, {trial.trial_id: trial for trial in missing}, bar, trackers, failures)
        jobs.sort(key=lambda job: -job.spec.rows_in_all)  # the longest first: a long one at the end would run alone
        resources = session.config.resources
        groups = WorkerGroups(session.cluster, resources.workers_per_trial, resources.micro_batch)
        listeners = Listeners(follower.on_epoch, follower.on_end, lambda text: session.display.line(f"search: {text}"))
        work = {trial.trial_id: session.store.work(trial.step) for trial in missing}
        folders = SearchFolders(work, stack.enter_context(session.store.scratch("tune")))
        run_trials(jobs, folders, groups, _scheduler(session, missing), listeners)
    trained = len(missing) - len(failures) + known
    session.display.line(f"search: {trained} trials trained ({time.monotonic() - began:.0f} s)")


def _scheduler(session: Session, missing: list[Trial]) -> Any:
    """Tune's scheduler, with the results of the study's other trials."""
    from ray.tune.schedulers import FIFOScheduler  # here, because a finished study needs no Ray

    from kp.search.asha import AshaSchedule, asha

    settings = session.config.search
    if settings.scheduler is Scheduler.NONE:
        return FIFOScheduler()
    trials = session.graph.trials
    longest = max(trial.spec.max_epochs for trial in trials)
    target = settings.stop_at_accuracy, settings.stop_patience
    schedule = AshaSchedule(settings.grace_epochs, settings.reduction_factor, longest, *target)
    ended = [session.store.read(trial.step, EPOCHS_FILE, schema.EPOCHS) for trial in trials if session.store.is_done(trial.step)]
    history = [dict(zip(table["epoch"].to_pylist(), table["unknown_accuracy"].to_pylist(), strict=True)) for table in ended]
    newest = {trial.trial_id: checkpoints_in(session.store.work(trial.step)).newest(PROGRESS) for trial in missing}
    committed = {trial_id: len(Progress.load(folder).epochs) for trial_id, folder in newest.items() if folder}
    return asha(schedule, history, committed)


class _Follower:
    """Receives epochs and outcomes from Tune, in the driver."""

    def __init__(
        self, session: Session, trials: dict[str, Trial], bar: Bar, trackers: Trackers, failures: dict[str, dict[str, Any]]
    ) -> None:
        self._session, self._trials, self._bar, self._trackers, self._failures = session, trials, bar, trackers, failures
        self._epochs = dict.fromkeys(trials, 0)
        self._done = 0  # their sum
        self._begun: set[str] = set()

    def on_epoch(self, trial_id: str, measured: dict[str, Any]) -> None:
        if trial_id not in self._begun:
            self._begun.add(trial_id)
            self._trackers.started(trial_id, trial_columns(self._trials[trial_id]))
        self._trackers.epoch(trial_id, measured)
        self._count(trial_id, measured["epoch"])

    def on_end(self, outcome: TrialOutcome) -> None:
        trial = self._trials[outcome.job.trial_id]
        self._count(trial.trial_id, trial.spec.max_epochs)  # after an early end there are no epochs to wait for
        row = _trial_row(trial, outcome)
        for activity, spans in (outcome.progress.spans if outcome.progress else {}).items():
            self._session.profile.add(Activity(activity), spans)
        if outcome.status in (TrialStatus.FAILED, TrialStatus.OUT_OF_MEMORY):
            self._failures[trial.trial_id] = row
            self._session.refusals += [outcome.refusal] if outcome.refusal else []
            checkpoints_in(self._session.store.work(trial.step)).note_failure(outcome.status, outcome.cause, outcome.stderr)
        else:
            _commit(self._session, trial, outcome, row)
            self._session.store.forget_work(trial.step)  # its adapter is in the step, and optimiser states are no longer needed
        self._session.display.line(_trial_line(trial, row))
        for line in outcome.stderr.splitlines():
            self._session.display.line(f"    {line}")
        self._trackers.ended(trial.trial_id, row["status"], row["cause"])

    def _count(self, trial_id: str, epochs: int) -> None:
        self._done += epochs - self._epochs[trial_id]
        self._epochs[trial_id] = epochs
        self._bar.update(self._done)


def _commit(session: Session, trial: Trial, outcome: TrialOutcome, row: dict[str, Any]) -> None:
    adapter = adapter_of(outcome)
    epochs = [{"trial_id": trial.trial_id, **epoch} for epoch in (outcome.progress.epochs if outcome.progress else [])]

    def fill(folder: Path) -> None:
        schema.write_table(pa.Table.from_pylist([row], schema=TRIALS), TRIALS, folder / TRIAL_FILE)
        schema.write_table(pa.Table.from_pylist(epochs, schema=_loose(schema.EPOCHS)), schema.EPOCHS, folder / EPOCHS_FILE)
        schema.write_table(_fact_epochs(trial.trial_id, outcome), schema.FACT_EPOCHS, folder / FACT_EPOCHS_FILE)
        schema.write_table(outcome.job.rows, schema.TRAINING_ROWS, folder / ROWS_FILE)
        if adapter:
            shutil.copytree(adapter, folder / ADAPTER_FOLDER)

    details = {"status": row["status"], "adapter_digest": row["adapter_digest"], "base_model": session.model.name}
    details["base_revision"] = session.model.revision
    hardware = outcome.progress.hardware if outcome.progress else []
    session.store.commit(trial.step, fill, seconds=outcome.seconds, details=details, hardware=hardware)


def _fact_epochs(trial_id: str, outcome: TrialOutcome) -> pa.Table:
    """FACT_EPOCHS of a trial: of the epochs whose checkpoint has them."""
    facts, asked = outcome.job.eval_facts["fact_id"].to_pylist(), len(outcome.job.eval_shots)
    rows = [
        {"trial_id": trial_id, "epoch": int(epoch), "fact_id": fact_id, "correct": right, "asked": asked}
        for epoch, correct in (outcome.progress.fact_correct if outcome.progress else {}).items()
        for fact_id, right in zip(facts, correct, strict=True)
    ]
    return pa.Table.from_pylist(rows, schema=schema.FACT_EPOCHS)


def _loose(table_schema: pa.Schema) -> pa.Schema:
    """The same columns with numbers as floats, because progress is read from JSON."""
    return pa.schema([pa.field(f.name, f.type if pa.types.is_string(f.type) else pa.float64()) for f in table_schema])


def _trial_row(trial: Trial, outcome: TrialOutcome) -> dict[str, Any]:
    progress = outcome.progress
    epochs = progress.epochs if progress else []
    last: dict[str, Any] = dict(epochs[-1]) if epochs else {}
    seconds = sum(epoch["seconds"] for epoch in epochs)
    adapter = adapter_of(outcome)
    return {
        **trial_columns(trial),
        "status": outcome.status.value,
        "epochs": len(epochs),
        "steps": progress.steps if progress else 0,
        "unknown_accuracy": last.get("unknown_accuracy"),
        "train_loss": last.get("train_loss"),
        "final_learning_rate": last.get("final_learning_rate"),
        "exposures": sum(epoch["exposures"] for epoch in epochs),
        "tokens_per_second": sum(epoch["tokens"] for epoch in epochs) / seconds if seconds else None,
        "wall_seconds": outcome.seconds,
        "setup_seconds": progress.setup_seconds if progress else None,
        "training_seconds": seconds if epochs else None,
        "eval_seconds": sum(epoch["eval_seconds"] for epoch in epochs) if epochs else None,
        "adapter_digest": adapter_digest(adapter) if adapter else None,
        "trainable_parameters": progress.trainable_parameters if progress else None,
        "cause": outcome.cause,
    }


def _trial_line(trial: Trial, row: dict[str, Any]) -> str:
    measured = "" if row["unknown_accuracy"] is None else f", unknown_accuracy {row['unknown_accuracy']:.2f}"
    cause = "" if row["status"] == TrialStatus.COMPLETED else f": {row['cause']}"
    ran = f"{row['epochs']} epochs{measured}, {row['wall_seconds']:.0f} s"
    return f"trial {trial.trial_id[:8]} {row['status']}{cause} | {trial.spec.label()} | {ran}"


def link_adapters(session: Session) -> None:
    """Point `adapters/<trial>` in the study's folder at every adapter."""
    for trial in with_adapter(session.graph, session.store):
        session.link(f"adapters/{trial.trial_id}", trial.step, ADAPTER_FOLDER)
