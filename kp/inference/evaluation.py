"""Measure the base model and adapters in the pipeline, by actors that hold the base model and exchange adapters.

A measurement of a model is divided into parts, which any actor can make: a large one is made by all actors at once. What a part is, and how
the parts' tables become the tables of the measurement, is up to the measurement's task. Each measurement is yielded as soon as its parts
are in, and the driver commits it while the others continue.
"""

import json
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import polars as pl
import pyarrow as pa

from kp import schema
from kp.cluster.sizing import Cluster
from kp.cluster.tally import Tally
from kp.generation.adapters import save_scaled_adapter
from kp.inference.answering import EngineSpec, FactIndex, answer_chunk, make_chunks, sorted_answers
from kp.inference.bucket_chunks import Chunks, chunks_in
from kp.inference.chunk_files import NO_TIMES, ChunkTimes, times_of, unpacked
from kp.inference.evaluation_order import Place, asking_order
from kp.inference.pipeline import Answerer, answer_chunks
from kp.inference.shared_generator import GeneratorShare
from kp.metrics.matching import AnswerKeys
from kp.models.names import ResolvedModel
from kp.progress import Display
from kp.prompts import PROMPTS_PER_SET, ShotSets
from kp.store.bucket_folder import Fetchable, WorkFolder, here
from kp.store.files import digest_json
from kp.store.hardware import distinct_hardware
from kp.store.steps import covered_seconds
from kp.vocabulary import ShotSet

if TYPE_CHECKING:
    from kp.generation.hf import HFGenerator


@dataclass(frozen=True)
class LoadedModel:
    """What a task gets in an actor: the model with its adapter, and what all measurements share."""

    trial_id: str  # "base" for the model without an adapter
    model_id: str  # base revision or adapter digest
    generator: GeneratorShare
    facts: FactIndex  # all of them
    shot_sets: ShotSets
    work: Path  # the part's folder for what libraries write; it may not exist yet
    keys: AnswerKeys  # of all facts

    @contextmanager
    def transformers(self) -> Iterator["HFGenerator"]:
        """The generator with the adapter active and for nobody else within the context, for a task that needs a transformers model."""
        from kp.generation.hf import HFGenerator

        with self.generator.turn() as generator:
            assert isinstance(generator, HFGenerator), "a task that needs transformers gets its engine"
            yield generator

    def answers(self, questions: FactIndex, part: "Part") -> pa.Table:
        """The ANSWERS to a part of `question_parts`, some of these questions."""
        chunk = part.content
        return answer_chunk(self.generator, questions.take(chunk["fact_ids"]), self.shot_sets, chunk, self.model_id, self.keys)


@dataclass(frozen=True)
class Part:
    """What one actor measures in one go; `content` is plain JSON."""

    name: str  # among the parts of the measurement; equal for two models if both are asked the same
    content: Mapping[str, Any]
    prompts: int  # for the progress display


def question_parts(questions: pa.Table, shot_set: ShotSet, chunk_facts: int, prefix: str = "") -> list[Part]:
    """The questions (FACTS) under all prompts of a shot set, in chunks; `prefix` distinguishes them from others of a measurement."""
    chunks = make_chunks(pl.DataFrame(pl.from_arrow(questions)), [shot_set], chunk_facts=chunk_facts).to_pylist()
    return [Part(prefix + chunk["chunk_id"], chunk, len(chunk["fact_ids"]) * PROMPTS_PER_SET) for chunk in chunks]


def joined_answers(parts: Sequence[pa.Table]) -> pa.Table:
    """ANSWERS, sorted, from those of the parts."""
    return sorted_answers(pa.concat_tables([schema.ANSWERS.empty_table(), *parts]))


class MeasurementTask(Protocol):
    """One measurement of one model; pickled and sent to the actors."""

    @property
    def needs_transformers(self) -> bool:
        """Whether it needs a transformers model, whichever engine answers the study's questions."""
        ...

    def parts(self, facts: pa.Table) -> Sequence[Part]:
        """What is to be done, given the measured facts (FACTS)."""
        ...

    def measure(self, model: LoadedModel, part: Part) -> pa.Table:
        """The resulting table of one part; run by an actor."""
        ...

    def tables(self, parts: Sequence[pa.Table]) -> dict[str, pa.Table]:
        """The tables of the measurement from those of all its parts, in their order, by the name of the file in the step's folder."""
        ...


@dataclass(frozen=True)
class MeasuredModel:
    """The base or an adapter."""

    trial_id: str  # "base" for the model without an adapter
    model_id: str  # base revision or adapter digest
    adapter: Fetchable | None
    first_layer: int = 0  # the first one that the adapter changes
    scale: float = 1.0  # of the adapter's change of the weights

    @property
    def name(self) -> str:
        """Distinguishes it from the other models of a study."""
        return self.trial_id if self.scale == 1 else f"{self.trial_id}@{self.scale:g}"


@dataclass(frozen=True)
class Measuring:
    """One measurement of one model. `identity` identifies it among all that were ever made, so that its parts are found again; `name` is
    the same for all models of which the same is measured."""

    identity: str
    model: MeasuredModel
    name: str
    task: MeasurementTask


@dataclass(frozen=True)
class Measured:
    """The result: tables by file, the seconds in which at least one actor worked on it, the machines of the actors, and when they did."""

    measuring: Measuring
    tables: Mapping[str, pa.Table]
    seconds: float
    hardware: list[dict[str, Any]]
    times: ChunkTimes = NO_TIMES


@dataclass(frozen=True)
class Evaluation:
    """Measurements with one engine, and what all of them share; a job of the pipeline."""

    engine: EngineSpec
    facts: pa.Table  # FACTS
    shot_sets: ShotSets
    work: Path  # for what libraries write
    measurings: Sequence[Measuring]

    def answerer(self, base: ResolvedModel) -> Answerer:
        """What measures parts."""
        return _Evaluator(self)

    def chunks(self, actors: int) -> list[dict[str, Any]]:
        """All parts in the order of asking by as many actors: what `Part` has, its id, and its place in its measurement."""
        made = [
            (measuring, {"place": place, **_row(measuring.identity, part)})
            for measuring in self.measurings
            for place, part in enumerate(measuring.task.parts(self.facts))
        ]
        places = [Place(one.model.name, one.model.first_layer, one.name, row["name"]) for one, row in made]
        return [made[index][1] for index in asking_order(places, actors)]


def _row(identity: str, part: Part) -> dict[str, Any]:
    content = json.dumps(part.content)
    # With a digest, because a newer version of the code may divide the same measurement in another way.
    chunk_id = f"{identity}/{part.name}/{digest_json(part.content)[:12]}"
    return {"chunk_id": chunk_id, "identity": identity, "name": part.name, "prompts": part.prompts, "content": content}


class _Evaluator:
    """What an actor knows of the measurements."""

    def __init__(self, evaluation: Evaluation) -> None:
        self._evaluation = evaluation
        self._facts, self._keys = FactIndex(evaluation.facts), AnswerKeys.of_table(evaluation.facts)
        self._measurings = {measuring.identity: measuring for measuring in evaluation.measurings}
        self._scaled = tempfile.TemporaryDirectory(prefix="kp-scaled-")
        self._finding = threading.Lock()
        self._folders: dict[str, str] = {}  # of adapters, by the id of the model

    def __call__(self, generator: GeneratorShare, chunk: Mapping[str, Any]) -> pa.Table:
        measuring = self._measurings[chunk["identity"]]
        model, part = measuring.model, Part(chunk["name"], json.loads(chunk["content"]), chunk["prompts"])
        generator.load_adapter(self._folder(model))
        evaluation = self._evaluation
        loaded = LoadedModel(
            model.trial_id,
            model.model_id,
            generator,
            self._facts,
            evaluation.shot_sets,
            evaluation.work / chunk["chunk_id"],
            self._keys,
        )
        return measuring.task.measure(loaded, part)

    def _folder(self, model: MeasuredModel) -> str | None:
        """Where the adapter lies, fetched if need be: at another scale than 1, a copy of it on this machine."""
        if model.adapter is None:
            return None
        with self._finding:
            if model.model_id not in self._folders:
                folder = here(model.adapter)
                if model.scale != 1:
                    whole, folder = folder, Path(self._scaled.name) / model.model_id
                    save_scaled_adapter(whole, model.scale, folder)
                self._folders[model.model_id] = str(folder)
            return self._folders[model.model_id]


def evaluate_all(evaluations: Sequence[Evaluation], work: WorkFolder, cluster: Cluster, display: Display) -> Iterator[Measured]:
    """Make every measurement; yields each as soon as its parts are there, beginning with those that an earlier run left in `work`."""
    work_of = [(evaluation, evaluation.chunks(cluster.generators)) for evaluation in evaluations]
    files = chunks_in(work, [chunk["chunk_id"] for _, chunks in work_of for chunk in chunks])
    settled = files.settle()
    if settled.damaged:
        display.line(f"evaluate: what an earlier run left of {settled.damaged} chunks is damaged, and they are made again")
    done = files.committed_since()
    prompts = [(chunk["chunk_id"] in done, chunk["prompts"]) for _, chunks in work_of for chunk in chunks]
    total, already = sum(count for _, count in prompts), sum(count for is_done, count in prompts if is_done)
    tally = Tally(cluster.study, "evaluate")
    with (
        display.bar("evaluate", total, "prompts") as bar,
        tally.shown_on(bar, already, lambda text: display.line(f"evaluate: {text}")),
    ):
        for evaluation, chunks in work_of:
            waiting = _Waiting(evaluation.measurings, chunks, files)
            yield from waiting.measured_with(done)
            missing = [chunk for chunk in chunks if chunk["chunk_id"] not in done]
            for committed in answer_chunks(evaluation, pa.Table.from_pylist(missing), files, cluster, tally):
                yield from waiting.measured_with(committed)
            waiting.check_empty()


class _Waiting:
    """The measurements of which parts are missing."""

    def __init__(self, measurings: Sequence[Measuring], chunks: Sequence[Mapping[str, Any]], files: Chunks) -> None:
        self._files = files
        self._measurings = {measuring.identity: measuring for measuring in measurings}
        self._parts: dict[str, list[str]] = {identity: [] for identity in self._measurings}  # ids of chunks in the order of the parts
        for chunk in sorted(chunks, key=lambda chunk: chunk["place"]):
            self._parts[chunk["identity"]].append(chunk["chunk_id"])
        self._missing = {identity: set(parts) for identity, parts in self._parts.items()}
        self._identity_of = {chunk_id: identity for identity, parts in self._parts.items() for chunk_id in parts}

    def measured_with(self, committed: frozenset[str]) -> Iterator[Measured]:
        """The measurements of which these were the last parts."""
        for chunk_id in committed:
            self._missing.get(self._identity_of.get(chunk_id, ""), set()).discard(chunk_id)
        for identity in [identity for identity, parts in self._missing.items() if not parts]:
            del self._missing[identity]
            yield self._measured(identity)

    def check_empty(self) -> None:
        """Raises RuntimeError if the pipeline has ended without all parts."""
        if self._missing:
            raise RuntimeError(f"{sum(map(len, self._missing.values()))} parts of measurements did not come back")

    def _measured(self, identity: str) -> Measured:
        found = {row["chunk_id"]: row for row in self._files.read(self._parts[identity]).to_pylist()}
        rows = [found[chunk_id] for chunk_id in self._parts[identity]]
        measuring = self._measurings[identity]
        tables = measuring.task.tables([unpacked(row["answers"]) for row in rows])
        times, hardware = times_of(rows), distinct_hardware(json.loads(row["hardware"]) for row in rows)
        return Measured(measuring, tables, covered_seconds(times.working), hardware, times)
