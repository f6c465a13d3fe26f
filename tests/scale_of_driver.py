"""What the driver of a large study takes in seconds and memory: the paper's grid over 10,000 facts, with answers that nobody gave.

    python -m tests.scale_of_driver --facts 10000 --folder /tmp/scale

The study is a real one: its facts are synthetic, its steps have their true identities, and `kp report` on the folder finds it. Only what
models do is made up: the answers of every chunk lie in the work folder, as a driver leaves them that is killed after the last answer. From
there the driver's own code runs unchanged, one stage a process: categorise and evaluate settle the chunks and commit tables and categories,
search draws what every trial trains on, report computes effects and everything else. Prints seconds and peak memory of each stage. Exits
with 1 if one of them takes more than --most-gib, or all of them together more than --most-seconds.
"""

import argparse
import json
import multiprocessing
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, cached_property, partial
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from safetensors.numpy import save_file

from kp import schema
from kp.cluster.sizing import Node, plan_cluster
from kp.cluster.tally import Tally
from kp.config.resources import ResourcesConfig
from kp.config.study import StudyConfig, load_study
from kp.generation.adapters import CONFIG_FILE, WEIGHTS_FILE, adapter_digest
from kp.inference.chunk_files import ANSWERED_CHUNKS, ChunkFiles, packed
from kp.progress import Bar
from kp.store.filenames import ADAPTER_FOLDER, EPOCHS_FILE, ROWS_FILE, TRIAL_FILE
from kp.store.files import digest_json
from kp.study.graph import Trial
from kp.study.measurements.surprisal import SurprisalTask
from kp.study.results import trial_columns
from kp.study.run import open_session, run_stage
from kp.study.session import Session
from kp.study.trial_jobs import make_jobs
from kp.training.job import TrialJob
from kp.training.spec import TRIALS
from kp.vocabulary import BASE, Role

STUDY = """
name = "scale"

[facts]
source = "synthetic"
count = {facts}
control_share = 0.5
control_unknown_share = 0.1
synthetic = {{ relations = 16, vocabulary = 1024 }}

[search]
unknown = {unknown}
arms = [{{}}, {{ highly_known = 1 }}, {{ highly_known = 10 }}, {{ paraphrases = 1 }}, {{ paraphrases = 10 }}]
rank = [1]
learning_rate = [1e-3]
seeds = {seeds}
replay_shortfall = "use_all"

[training]
lora_alpha = 2

[evaluate]
held_out_paraphrases = 2
completions = 0
mmlu_dev = 0
misconceptions = 0
drift_words = 0

[resources]
attention = "sdpa"
"""
GRID, SEEDS = (1, 10, 50, 100, 500, 3000), (0, 1, 2)
PROMPTS = 10
WRONG = 4  # answers that a model has for a fact that it does not know
KEPT = 0.85  # of an adapter's answers, as the base gave them
HARDWARE = json.dumps({"machine": "?", "processor": "?", "cores": 1, "memory_gib": 1.0, "python": "3", "gpus": [], "hosts": ["nowhere"]})
REFUSAL = "Answer: I have no information about that."


class _NoTally(Tally):
    """In place of the counter that actors add to, for which a cluster would be started."""

    def __init__(self, study: str, stage: str) -> None:
        """Nothing is started."""

    @contextmanager
    def shown_on(self, bar: Bar, already: int, note: Callable[[str], None]) -> Iterator[None]:
        bar.resume(already)
        yield


class _AllAnsweredError(Exception):
    """Raised in place of what a driver does after the last answer."""


def _study(folder: Path, facts: int, seeds: int) -> StudyConfig:
    path = folder / "scale.toml"
    if not path.exists():
        sizes = [size for size in GRID if size <= 0.3 * facts]
        path.write_text(STUDY.format(facts=facts, unknown=sizes, seeds=list(SEEDS[:seeds])), encoding="utf-8")
    return load_study(path)


def _session(config: StudyConfig, folder: Path) -> Session:
    root = folder / "results"
    root.mkdir(exist_ok=True)
    session = open_session(config, root)
    # Nothing is left for a cluster to do, so none is started.
    session.__dict__["cluster"] = plan_cluster(ResourcesConfig(), [Node(8, 0)])
    return session


@dataclass(frozen=True, eq=False)
class _Answers:
    """What models say of these facts (FACTS): drawn from seeds, as arrays of shape (facts, prompts)."""

    facts: pa.Table

    @cached_property
    def places(self) -> dict[str, int]:
        """The row of each fact."""
        return {fact_id: row for row, fact_id in enumerate(self.facts["fact_id"].to_pylist())}

    @cached_property
    def texts(self) -> pa.Array:
        """All that is ever said: WRONG answers and the right one of each fact, their own ways of saying so, and a refusal."""
        objects = [answers[0] for answers in self.facts["answers"].to_pylist()]
        said = [f"Answer: {name}" for name in objects]
        subjects = self.facts["subject"].to_pylist()
        own = [f"Answer: {subjects[row]} and {objects[row - shift]}" for shift in range(1, WRONG + 1) for row in range(len(objects))]
        return pa.array([*said, *own, REFUSAL])

    @cached_property
    def known(self) -> np.ndarray:
        """The chance of a right answer of the base, by fact."""
        chance = np.random.default_rng(7).beta(0.25, 0.6, len(self.facts))
        return np.where(chance < 0.25, 0.0, np.where(chance > 0.9, 1.0, chance))

    @cache  # noqa: B019
    def of_base(self, shot_set: str) -> np.ndarray:
        """Numbers of texts."""
        return self._said(np.random.default_rng([1, int(shot_set[1:])]), self.known)

    def _said(self, random: np.random.Generator, known: np.ndarray) -> np.ndarray:
        count = len(known)
        rows = np.arange(count)[:, None]
        right = random.random((count, PROMPTS)) < known[:, None]
        other = (rows + 16 * random.integers(1, 1 + WRONG, (count, PROMPTS))) % count  # an object of the same relation
        own = count * random.integers(1, 1 + WRONG, (count, PROMPTS)) + rows
        kind = random.random((count, PROMPTS))
        wrong = np.where(kind < 0.04, len(self.texts) - 1, np.where(kind < 0.6, other, own))
        return np.where(right, np.broadcast_to(rows, wrong.shape), wrong)

    def of_adapter(self, number: int, shot_set: str, trained: np.ndarray) -> np.ndarray:
        """Numbers of texts; the trained facts are nearly always right, and some answers are those of trained facts."""
        random = np.random.default_rng([2, number, int(shot_set[1:])])
        known = self.known.copy()
        known[trained] = 0.95
        said = np.where(random.random((len(known), PROMPTS)) < KEPT, self.of_base(shot_set), self._said(random, known))
        said[trained] = self._said(random, known)[trained]
        exploded = random.random(said.shape) < 0.02
        return np.where(exploded, random.choice(trained[:3], said.shape), said)

    def table(self, said: np.ndarray, asked: dict[str, Any], model_id: str) -> pa.Table:
        """The ANSWERS to a chunk; the id of a paraphrase begins with that of its fact."""
        rows = np.array([self.places[fact_id.partition("/")[0]] for fact_id in asked["fact_ids"]], dtype=np.int64)
        codes = said[rows].T.reshape(-1)
        right = pa.array(codes == np.tile(rows, PROMPTS))
        count = codes.size
        columns = {
            "fact_id": pa.array(asked["fact_ids"] * PROMPTS),
            "model_id": pa.array([model_id] * count),
            "shot_set": pa.array([asked["shot_set"]] * count),
            "prompt_index": pa.array(np.repeat(np.arange(PROMPTS, dtype=np.int32), rows.size)),
            "answer": self.texts.take(pa.array(codes)),
            "finish_reason": pa.array(["newline"] * count),
            **{f"match_{matcher}": right for matcher in ("strict", "exact", "released")},
            "refused": pa.array(codes == len(self.texts) - 1),
        }
        return pa.table(columns).cast(schema.ANSWERS)


def _surprisal(answers: _Answers, number: int, trained: np.ndarray, fact_ids: list[str], model_id: str) -> pa.Table:
    rows = np.array([answers.places[fact_id] for fact_id in fact_ids], dtype=np.int64)
    bits = np.random.default_rng(3).gamma(4.0, 5.0, len(answers.facts))
    bits[trained] *= 0.2
    bits += np.random.default_rng([4, number]).normal(0, 0.1, bits.size)
    count = rows.size
    columns = {"bits": bits[rows], "end_bits": np.full(count, 0.5), "tokens": np.full(count, 4, np.int32), "is_greedy": bits[rows] < 1}
    return pa.table({"fact_id": fact_ids, "model_id": [model_id] * count, **columns}).cast(schema.SURPRISAL)


def _write(files: ChunkFiles, chunk_id: str, answers: pa.Table) -> None:
    """As Ray Data leaves a chunk that is done."""
    name, times = digest_json(chunk_id)[:24], {"began": [0.0], "ended": [1.0], "load_began": [0.0], "load_ended": [0.0]}
    row = {"chunk_id": [chunk_id], "answers": [packed(answers)], "hardware": [HARDWARE], **times}
    pq.write_table(pa.table(row, schema=ANSWERED_CHUNKS), files.answers / f"{name}-0.parquet")
    pq.write_table(pa.table({"chunk_id": [chunk_id]}), files.committed / f"{name}.parquet")


def _made(module: str, answer: Callable[..., Iterator[tuple[str, pa.Table]]], run: Callable[[], None]) -> None:
    """Run a stage until everything is answered, by `answer` in place of the pipeline; the driver then dies."""

    def answer_chunks(job: Any, chunks: pa.Table, files: ChunkFiles, cluster: Any, tally: Any) -> Iterator[frozenset[str]]:
        for chunk_id, table in answer(job, chunks):
            _write(files, chunk_id, table)
        raise _AllAnsweredError
        yield frozenset()

    with mock.patch(f"{module}.answer_chunks", answer_chunks):
        try:
            run()
        except _AllAnsweredError:
            return
    raise AssertionError("there was nothing to answer")


def _make_facts(session: Session) -> None:
    run_stage(session, "facts")


def _make_categorise(session: Session) -> None:
    answers = _Answers(session.facts)

    def answer(job: Any, chunks: pa.Table) -> Iterator[tuple[str, pa.Table]]:
        for chunk in chunks.to_pylist():
            yield chunk["chunk_id"], answers.table(answers.of_base(chunk["shot_set"]), chunk, session.model.revision)

    _made("kp.inference.base_answers", answer, lambda: run_stage(session, "categorise"))


def _categorise(session: Session) -> None:
    run_stage(session, "categorise")
    run_stage(session, "parts")


def _search(session: Session) -> list[TrialJob]:
    """What the driver does before a search: the draws of all trials."""
    return make_jobs(session, list(session.graph.trials))


def _make_search(session: Session) -> None:
    jobs = {job.trial_id: job for job in _search(session)}
    with tempfile.TemporaryDirectory() as scratch:
        for number, trial in enumerate(session.graph.trials):
            adapter = _adapter(Path(scratch) / trial.trial_id, number)
            _commit_trial(session, trial, jobs[trial.trial_id], adapter)


def _adapter(folder: Path, number: int) -> Path:
    folder.mkdir()
    (folder / CONFIG_FILE).write_text(json.dumps({"peft_type": "LORA", "r": 1, "lora_alpha": 2}), encoding="utf-8")
    save_file({"base_model.model.model.layers.0.mlp.up_proj.lora_A.weight": np.full((1, 4), float(number))}, folder / WEIGHTS_FILE)
    return folder


def _commit_trial(session: Session, trial: Trial, job: TrialJob, adapter: Path) -> None:
    digest = adapter_digest(adapter)
    row = {field.name: None for field in TRIALS} | trial_columns(trial) | {"status": "completed", "cause": "ran all its epochs"}
    row |= {"epochs": 10, "steps": 10 * trial.spec.steps_per_epoch, "adapter_digest": digest, "trainable_parameters": 1_000_000}
    row |= {"unknown_accuracy": 1.0, "train_loss": 0.1, "final_learning_rate": 1e-4, "exposures": 10.0, "tokens_per_second": 180.0}
    row |= {"wall_seconds": 60.0, "setup_seconds": 2.0, "training_seconds": 40.0, "eval_seconds": 10.0}
    common = {"trial_id": trial.trial_id, "learning_rate": 1e-3, "final_learning_rate": 1e-4, "steps": 5, "rows": 40, "exposures": 1.0}
    epochs = [common | {"epoch": n, "train_loss": 1 / n, "unknown_accuracy": n / 10, "tokens": 900, "seconds": 4.0, "eval_seconds": 1.0}
              for n in range(1, 11)]  # fmt: skip

    def fill(folder: Path) -> None:
        schema.write_table(pa.Table.from_pylist([row], schema=TRIALS), TRIALS, folder / TRIAL_FILE)
        schema.write_table(pa.Table.from_pylist(epochs, schema=schema.EPOCHS), schema.EPOCHS, folder / EPOCHS_FILE)
        schema.write_table(job.rows, schema.TRAINING_ROWS, folder / ROWS_FILE)
        adapter.rename(folder / ADAPTER_FOLDER)

    details = {"status": "completed", "adapter_digest": digest, "base_model": session.model.name, "base_revision": session.model.revision}
    session.store.commit(trial.step, fill, seconds=1.0, details=details)


def _make_evaluate(session: Session) -> None:
    answers = _Answers(session.facts)
    numbers = {trial.trial_id: number for number, trial in enumerate(session.graph.trials)}

    @cache
    def trained(trial_id: str) -> np.ndarray:
        if trial_id == BASE:
            return np.zeros(0, dtype=np.int64)
        rows = session.store.read(session.graph.trials[numbers[trial_id]].step, ROWS_FILE, schema.TRAINING_ROWS).to_pylist()
        return np.array([answers.places[row["fact_id"]] for row in rows if row["role"] == Role.UNKNOWN.value], dtype=np.int64)

    def answer(job: Any, chunks: pa.Table) -> Iterator[tuple[str, pa.Table]]:
        measurings = {measuring.identity: measuring for measuring in job.measurings}
        for chunk in sorted(chunks.to_pylist(), key=lambda chunk: chunk["identity"]):
            measuring, asked = measurings[chunk["identity"]], json.loads(chunk["content"])
            model = measuring.model
            number, taught = numbers.get(model.trial_id, -1), trained(model.trial_id)
            if isinstance(measuring.task, SurprisalTask):
                yield chunk["chunk_id"], _surprisal(answers, number + 1, taught, asked["fact_ids"], model.model_id)
            else:
                yield chunk["chunk_id"], answers.table(said(number, asked["shot_set"], model.trial_id), asked, model.model_id)

    last: dict[tuple[int, str], np.ndarray] = {}

    def said(number: int, shot_set: str, trial_id: str) -> np.ndarray:
        if (number, shot_set) not in last:
            last.clear()
            last[number, shot_set] = (
                answers.of_base(shot_set) if trial_id == BASE else answers.of_adapter(number, shot_set, trained(trial_id))
            )
        return last[number, shot_set]

    _made("kp.inference.evaluation", answer, lambda: run_stage(session, "evaluate"))


STAGES: dict[str, Callable[[Session], object]] = {
    "facts": _make_facts,
    "made up: categorise": _make_categorise,
    "categorise": _categorise,
    "draws of the search": _search,
    "made up: search": _make_search,
    "made up: evaluate": _make_evaluate,
    "evaluate": partial(run_stage, name="evaluate"),
    "report": partial(run_stage, name="report"),
}
MEASURED = [name for name in STAGES if not name.startswith("made up")]


@dataclass(frozen=True)
class Taken:
    """What one stage took: seconds to open the study and of the stage, CPU seconds of the stage, and the peak of the process's memory."""

    stage: str
    opening: float
    seconds: float
    cpu_seconds: float
    gib: float


def _run(stage: str, folder: Path, facts: int, seeds: int, results: "multiprocessing.Queue[Taken]") -> None:
    began = time.monotonic()
    with (
        mock.patch("kp.inference.base_answers.Tally", _NoTally),
        mock.patch("kp.inference.evaluation.Tally", _NoTally),
        _session(_study(folder, facts, seeds), folder) as session,
    ):
        opened, spent = time.monotonic(), time.process_time()
        STAGES[stage](session)
    ended, spent = time.monotonic(), time.process_time() - spent
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 2**30
    results.put(Taken(stage, opened - began, ended - opened, spent, peak))


def measure(folder: Path, facts: int, seeds: int, stages: list[str]) -> Iterator[Taken]:
    """Run the stages, each in a process of its own."""
    spawn = multiprocessing.get_context("spawn")
    for stage in stages:
        results: multiprocessing.Queue[Taken] = spawn.Queue()
        process = spawn.Process(target=_run, args=(stage, folder, facts, seeds, results))
        process.start()
        process.join()
        if process.exitcode:
            raise SystemExit(f"{stage} ended with {process.exitcode}")
        yield results.get()


def main(arguments: list[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--facts", type=int, default=10_000)
    parser.add_argument("--seeds", type=int, default=len(SEEDS), help="of the grid: 30 trials each, from 10,000 facts on")
    parser.add_argument("--folder", type=Path, help="kept; absent: a temporary one")
    parser.add_argument("--stages", nargs="*", default=list(STAGES), help="some of the stages, on a folder that has what is before them")
    parser.add_argument("--most-gib", type=float, default=4.0)
    parser.add_argument("--most-seconds", type=float, default=120.0, help="of all stages but evaluate, which waits for its models")
    asked = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="kp-scale-") as scratch:
        folder = asked.folder or Path(scratch)
        folder.mkdir(exist_ok=True)
        taken = []
        for one in measure(folder, asked.facts, asked.seeds, asked.stages):
            opening = f"{one.opening:5.1f} s to open the study"
            print(f"{one.stage:<20} {one.seconds:7.1f} s ({one.cpu_seconds:.1f} s of CPU) + {opening}, peak {one.gib:.2f} GiB", flush=True)
            taken += [one] if one.stage in MEASURED else []
    seconds = sum(one.seconds for one in taken if one.stage != "evaluate")
    most = max((one.gib for one in taken), default=0.0)
    print(f"in all without evaluate: {seconds:.1f} s; at most {most:.2f} GiB")
    return int(seconds > asked.most_seconds or most > asked.most_gib)


if __name__ == "__main__":
    sys.exit(main())
