"""What an actor measures of a model part by part, and what is put together from the parts; no Ray.

In place of a model there is a generator that knows the answers to some questions, and says which adapter it has.
"""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from kp import schema
from kp.benchmarks.lm_eval_tasks import SHARD_ITEMS
from kp.benchmarks.registry import BENCHMARKS, BenchmarkPlan, divided
from kp.cluster.sizing import Node, plan_cluster
from kp.config.resources import ResourcesConfig
from kp.config.study import EvaluateConfig
from kp.generation.protocol import FinishReason, Generation
from kp.inference import evaluation
from kp.inference.answering import FactIndex, answer_chunk, sorted_answers
from kp.inference.chunk_files import ANSWERED_CHUNKS, ChunkFiles, packed
from kp.inference.evaluation import Evaluation, Measured, MeasuredModel, MeasurementTask, Measuring, evaluate_all
from kp.inference.shared_generator import SharedGenerator
from kp.metrics.generality import QUESTIONS, held_out_questions
from kp.metrics.matching import AnswerKeys
from kp.metrics.scores import score_generality
from kp.progress import Display
from kp.prompts import Messages, builtin_prompts
from kp.store.filenames import ANSWERS_FILE, BENCHMARK_ITEMS_FILE, BENCHMARKS_FILE, CATEGORIES_FILE
from kp.store.hardware import process_hardware
from kp.study.measurements.answers import AnswersTask
from kp.study.measurements.benchmarks import BenchmarkTask
from kp.study.measurements.generality import HeldOutTask
from kp.study.measurements.placebo import PlaceboTask
from kp.vocabulary import Matcher, ShotSet
from tests.made_up_study import facts

FACTS = facts().head(5).with_columns(pl.Series([[f"P{number} {row}?" for number in range(4)] for row in range(5)]).alias("paraphrases"))
TABLE = FACTS.to_arrow().cast(schema.FACTS)
SHOT_SETS = {ShotSet.S1: builtin_prompts(ShotSet.S1)}
ANSWERS = AnswersTask(ShotSet.S1)


class Parrot:
    """Says "object 1" to whatever holds a 1, and the name of its adapter to everything else."""

    def __init__(self) -> None:
        self.on_answered: Any = None
        self.activated: list[str | None] = []

    def read(self, prompts: Any) -> Any:
        return prompts

    def generate(self, prompts: Sequence[Messages]) -> list[Generation]:
        other = str(self.activated[-1])
        return [Generation("object 1" if "1" in chat[-1]["content"] else other, FinishReason.STOP, 2) for chat in prompts]

    def load_adapter(self, path: str | None) -> None:
        self.activated.append(path)


class Engine:
    """Makes nothing: the tests make their Parrot."""

    batch_size = 4


def evaluated(*measurings: Measuring, work: Path = Path("none")) -> Evaluation:
    engine: Any = Engine()
    return Evaluation(engine, TABLE, SHOT_SETS, work, measurings)


def measuring(name: str, task: MeasurementTask, model: str = "t", first_layer: int = 0) -> Measuring:
    return Measuring(f"{model}-{name}", MeasuredModel(model, f"digest of {model}", Path(model), first_layer), name, task)


def held_out(count: int) -> HeldOutTask:
    questions = held_out_questions(FACTS, ["f001", "f003"], count)
    return HeldOutTask(questions.to_arrow().cast(QUESTIONS), ShotSet.S1)


class Pipeline:
    """In place of Ray Data: writes one chunk after the other as that does, up to `most` chunks a run; keeps their ids."""

    def __init__(self, most: int = 1000) -> None:
        self.most = most
        self.asked: list[list[str]] = []
        self.parrot = Parrot()

    def answer_chunks(self, job: Evaluation, chunks: pa.Table, files: ChunkFiles, cluster: Any, tally: Any) -> Iterator[frozenset[str]]:
        base: Any = None
        answer, shared = job.answerer(base), SharedGenerator(self.parrot)
        run = len(self.asked)
        self.asked.append(chunks["chunk_id"].to_pylist() if len(chunks) else [])
        for number, chunk in enumerate(chunks.to_pylist()):
            if number == self.most:
                raise KeyboardInterrupt
            row = {
                "chunk_id": chunk["chunk_id"],
                "answers": packed(answer(shared.share(), chunk)),
                "hardware": json.dumps(process_hardware()),
                "began": 10.0 * number,
                "ended": 10.0 * number + 3,
                "load_began": -5.0,
                "load_ended": 0.0,
            }
            name = f"r{run}_{number}"
            pq.write_table(pa.Table.from_pylist([row], schema=ANSWERED_CHUNKS), files.answers / f"{name}-0.parquet")
            pq.write_table(pa.table({"chunk_id": [chunk["chunk_id"]]}), files.committed / f"{name}.parquet")
            yield files.committed_since()


class NoTally:
    """Nobody hears of progress."""

    def __init__(self, study: str, stage: str) -> None:
        pass

    def shown_on(self, bar: Any, already: int, note: Any) -> Any:
        bar.resume(already)
        return pytest.MonkeyPatch.context()


@pytest.fixture
def pipeline(monkeypatch: pytest.MonkeyPatch) -> Pipeline:
    made = Pipeline()
    monkeypatch.setattr(evaluation, "answer_chunks", made.answer_chunks)
    monkeypatch.setattr(evaluation, "Tally", NoTally)
    return made


def run(work: Path, *measurings: Measuring) -> Iterator[Measured]:
    cluster = plan_cluster(ResourcesConfig(generators=1), [Node(2, 0)])
    return evaluate_all([evaluated(*measurings)], work, cluster, Display())


def frame(table: pa.Table) -> pl.DataFrame:
    return pl.DataFrame(pl.from_arrow(table))


def test_parts_of_answers_are_chunks_of_all_facts_and_the_same_for_every_model() -> None:
    parts = ANSWERS.parts(TABLE)
    assert [len(part.content["fact_ids"]) for part in parts] == [2, 2, 1]
    assert sum(part.prompts for part in parts) == FACTS.height * 10
    assert sorted(fact for part in parts for fact in part.content["fact_ids"]) == sorted(FACTS["fact_id"])
    assert parts == ANSWERS.parts(TABLE)


def test_parts_of_the_placebo_hold_every_second_fact() -> None:
    asked: dict[str, list[str]] = {}
    parts = PlaceboTask(ShotSet.S1).parts(TABLE)
    for part in parts:
        asked.setdefault(part.name[0], []).extend(part.content["fact_ids"])
    assert len({part.name for part in parts}) == len(parts)
    ids = FACTS["fact_id"].to_list()
    assert {half: sorted(facts) for half, facts in asked.items()} == {"0": sorted(ids[::2]), "1": sorted(ids[1::2])}


def test_measured_answers_equal_those_that_are_asked_undivided(pipeline: Pipeline, tmp_path: Path) -> None:
    [found] = run(tmp_path, measuring("answers/S1", ANSWERS))
    whole: Any = Parrot()
    whole.load_adapter("t")
    chunk = {"shot_set": "S1", "fact_ids": FACTS["fact_id"].to_list()}
    index = FactIndex(TABLE)
    expected = answer_chunk(whole, index.take(chunk["fact_ids"]), SHOT_SETS, chunk, "digest of t", AnswerKeys.of_table(TABLE))
    assert found.tables[ANSWERS_FILE].equals(sorted_answers(expected))
    assert frame(found.tables[CATEGORIES_FILE])["fact_id"].n_unique() == FACTS.height
    assert found.hardware == [{**process_hardware(), "hosts": process_hardware()["hosts"]}]
    assert found.seconds == 3 * 3.0  # of three parts; the pauses between them do not count


def test_measured_held_out_paraphrases_are_those_alone(pipeline: Pipeline, tmp_path: Path) -> None:
    [measured] = run(tmp_path, measuring("generality", held_out(2)))
    found = frame(measured.tables[ANSWERS_FILE])
    assert found.to_arrow().cast(schema.HELD_OUT_ANSWERS).schema == schema.HELD_OUT_ANSWERS
    asked = found.select("fact_id", "paraphrase_index", "prompt_index").unique()
    assert (asked.height, found.height) == (2 * 2 * 10, 2 * 2 * 10)
    assert set(found["paraphrase_index"]) == {2, 3}
    assert set(found["shot_set"]) == {"S1"}
    assert score_generality("t", found, ["f001", "f003"], Matcher.STRICT)["value"].to_list() == [0.5]


def test_measurement_without_parts_has_empty_tables(pipeline: Pipeline, tmp_path: Path) -> None:
    [measured] = run(tmp_path, measuring("generality", held_out(0)))
    assert measured.tables[ANSWERS_FILE].num_rows == 0
    assert (measured.seconds, measured.hardware) == (0.0, [])


def test_models_are_measured_one_after_the_other_each_with_its_own_adapter(pipeline: Pipeline, tmp_path: Path) -> None:
    asked = [measuring(f"{name}/S1", ANSWERS, model) for model in ("a", "b") for name in ("answers", "again")]
    found = list(run(tmp_path, *asked))
    assert [one.measuring.identity for one in found] == ["a-answers/S1", "a-again/S1", "b-answers/S1", "b-again/S1"]
    assert pipeline.parrot.activated == ["a", "b"]
    for one in found:
        assert set(frame(one.tables[ANSWERS_FILE])["model_id"]) == {f"digest of {one.measuring.model.trial_id}"}
        assert set(frame(one.tables[ANSWERS_FILE])["answer"]) == {"object 1", one.measuring.model.trial_id}


def test_models_of_upper_layers_exchange_adapters_between_the_parts_and_are_measured_as_if_alone(
    pipeline: Pipeline, tmp_path: Path
) -> None:
    found = list(run(tmp_path / "upper", *(measuring("answers/S1", ANSWERS, model, first_layer=22) for model in ("a", "b"))))
    assert pipeline.parrot.activated == ["a", "b"] * 3
    alone = list(run(tmp_path / "alone", *(measuring("answers/S1", ANSWERS, model) for model in ("a", "b"))))
    assert [one.tables[ANSWERS_FILE] for one in found] == [one.tables[ANSWERS_FILE] for one in alone]


def test_measurement_is_yielded_before_the_next_model_is_asked(pipeline: Pipeline, tmp_path: Path) -> None:
    found = run(tmp_path, *(measuring("answers/S1", ANSWERS, model) for model in ("a", "b")))
    next(found)
    assert pipeline.parrot.activated == ["a"]


@pytest.mark.parametrize("done", range(6))
def test_measurements_that_were_interrupted_are_made_from_the_parts_that_are_there(done: int, pipeline: Pipeline, tmp_path: Path) -> None:
    asked = [measuring("answers/S1", ANSWERS, model) for model in ("a", "b")]
    undisturbed = {one.measuring.identity: one.tables for one in run(tmp_path / "undisturbed", *asked)}
    everything = pipeline.asked[0]

    pipeline.most = done
    committed: list[str] = []
    with pytest.raises(KeyboardInterrupt):
        committed.extend(one.measuring.identity for one in run(tmp_path / "work", *asked))
    assert committed == ["a-answers/S1"][: done // 3]

    pipeline.most = 1000
    left = [one for one in asked if one.identity not in committed]
    found = {one.measuring.identity: one.tables for one in run(tmp_path / "work", *left)}
    assert pipeline.asked[-1] == everything[done:]
    assert found == {one.identity: undisturbed[one.identity] for one in left}


def test_measurement_of_which_all_parts_are_there_is_yielded_without_asking(pipeline: Pipeline, tmp_path: Path) -> None:
    asked = measuring("answers/S1", ANSWERS)
    [first] = run(tmp_path, asked)
    [second] = run(tmp_path, asked)
    assert pipeline.asked[-1] == []
    assert second.tables == first.tables


def test_parts_that_do_not_come_back_are_an_error(pipeline: Pipeline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evaluation, "answer_chunks", lambda *_: iter(()))
    with pytest.raises(RuntimeError, match="3 parts of measurements did not come back"):
        list(run(tmp_path, measuring("answers/S1", ANSWERS)))


def test_divided_keeps_whole_groups_together_and_cuts_only_what_is_larger_than_a_shard() -> None:
    group = {number: "abc"[number % 3] for number in range(9)} | dict.fromkeys(range(9, 16), "large")
    shards = divided(range(16), lambda number: group[number], 6)
    assert shards == [(0, 1, 3, 4, 6, 7), (2, 5, 8), (9, 10, 11, 12, 13, 14), (15,)]
    assert divided([], str, 6) == []


def test_parts_of_benchmarks_hold_every_question_once_and_whole_subjects(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kp.benchmarks.registry.SHARD_QUESTIONS", 20)
    plan = BenchmarkPlan(EvaluateConfig(completions=30, mmlu_dev=114, mmlu_fewshot=2, misconceptions=30), seed=0)
    parts = BenchmarkTask(plan).parts(TABLE)
    assert sum(part.prompts for part in parts) == 174
    for benchmark in BENCHMARKS:
        of_task = [part.content["questions"] for part in parts if part.content["task"] == benchmark.task]
        assert all(len(questions) <= 20 for questions in of_task)
        assert sorted(question for questions in of_task for question in questions) == benchmark.draw(plan.settings, plan.seed)
        groups = [{benchmark.group_of(question) for question in questions} for questions in of_task]
        assert all(one.isdisjoint(other) for one in groups for other in groups if one is not other)


def shard_items(task: str, metric: str, scores: dict[int, float]) -> pa.Table:
    common = {"trial_id": "t", "task": task, "metric": metric, "group": "g", "num_fewshot": 2, "task_version": "1.0"}
    return pa.Table.from_pylist(
        [common | {"item": item, "score": score, "chance": 0.25} for item, score in scores.items()], schema=SHARD_ITEMS
    )


def test_benchmarks_put_together_from_shards_equal_those_of_one_shard() -> None:
    task = BenchmarkTask(BenchmarkPlan(EvaluateConfig(completions=0, mmlu_dev=4, mmlu_fewshot=2, misconceptions=0), seed=0))
    scores = {3: 1.0, 5: 0.0, 8: 1.0, 13: 1.0}
    whole = task.tables([shard_items("kp_mmlu_dev", "acc", scores)])
    parts = [shard_items("kp_mmlu_dev", "acc", {item: scores[item] for item in items}) for items in ([5, 13], [8], [3])]
    assert task.tables(parts) == whole
    assert whole[BENCHMARK_ITEMS_FILE]["item"].to_pylist() == [3, 5, 8, 13]
    [row] = whole[BENCHMARKS_FILE].to_pylist()
    assert (row["value"], row["n"]) == (0.75, 4)
    assert row["standard_error"] == pytest.approx((0.75 * 0.25 / 4) ** 0.5)
