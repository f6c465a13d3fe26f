"""How a paraphrasing job asks, and where the paraphrases stand among a study's steps."""

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pytest

from kp import schema
from kp.config.derived import paraphraser
from kp.config.study import FactsConfig, ModelConfig, ParaphraseConfig, StudyConfig
from kp.facts.paraphrases import paraphrase_table
from kp.generation.protocol import FinishReason, Generation, OnAnswered, ignore_answers
from kp.inference.answering import EngineSpec, FactIndex
from kp.inference.paraphrasing import FURTHER_REPLIES, Paraphrasing
from kp.prompts import Messages
from kp.store.steps import Step, Store
from kp.study.building import build_graph
from kp.study.graph import Graph, Trial
from kp.study.identities import Identities
from kp.study.inspection import Inspection, inspection_step
from kp.study.plan import make_plan, planning_of
from kp.study.stages.report import report_step
from tests.made_up_study import facts as made_up_facts

ENGINE = EngineSpec(ModelConfig(), 64, stop_at_newline=False, batch_size=8, threads=1, use_gpu=False)
SETTINGS = ParaphraseConfig(model="m", count=3, prompt="{count} ways: {question}")


class Talker:
    """Gives two wordings greedily, three about even numbers, and one more in each sampled reply, numbered by the seed alone."""

    def __init__(self) -> None:
        self.on_answered: OnAnswered = ignore_answers
        self.asked: list[Messages] = []
        self.sampled: list[Messages] = []

    def read(self, prompts: Any) -> Any:
        return prompts

    def generate(self, prompts: Sequence[Messages]) -> list[Generation]:
        self.asked += prompts
        replies = [self._reply(prompt) for prompt in prompts]
        self.on_answered(len(replies))
        return replies

    def sample(self, prompts: Sequence[Messages], count: int, temperature: float, seeds: Sequence[int]) -> list[list[Generation]]:
        self.sampled += prompts
        self.on_answered(len(prompts) * count)
        streams = [[random.Random(f"{seed} {number} {temperature}") for number in range(count)] for seed in seeds]
        return [
            [Generation(f"What, in draw {stream.getrandbits(32)}, is {self._number(prompt)}?", FinishReason.STOP, 9) for stream in drawn]
            for prompt, drawn in zip(prompts, streams, strict=True)
        ]

    def load_adapter(self, path: str | None) -> None:
        raise AssertionError("a model paraphrases without an adapter")

    def _number(self, prompt: Messages) -> int:
        return int(prompt[-1]["content"].removeprefix("3 ways: What is ").removesuffix("?"))

    def _reply(self, prompt: Messages) -> Generation:
        number = self._number(prompt)
        lines = [f"{place}. What would {name} {number} be?" for place, name in enumerate(("number", "thing", "item")[: 3 - number % 2], 1)]
        return Generation("\n".join(lines), FinishReason.STOP, 30)


def named_facts(count: int = 7) -> pa.Table:
    """Facts whose subject is the number that their question asks about, without paraphrases."""
    numbers = pl.int_range(pl.len()).cast(pl.String)
    nothing = pl.lit([], dtype=pl.List(pl.String))
    return made_up_facts().head(count).with_columns(numbers.alias("subject"), nothing.alias("paraphrases")).to_arrow().cast(schema.FACTS)


def replies_to(facts: pa.Table, chunks: list[list[str]], seed: int = 0, talker: Talker | None = None) -> pl.DataFrame:
    """The PARAPHRASE_REPLIES of a job that is cut into chunks of these facts."""
    job, index = Paraphrasing(facts, ENGINE, SETTINGS, seed), FactIndex(facts)
    tables = [job.answer(talker or Talker(), index.take(ids), {"chunk_id": "c", "fact_ids": ids}, "rev") for ids in chunks]
    assert {table.schema for table in tables} == {schema.PARAPHRASE_REPLIES}
    return pl.DataFrame(pl.from_arrow(pa.concat_tables(tables))).sort("fact_id")


def test_job_asks_each_fact_by_one_user_message_and_those_that_lack_some_again() -> None:
    facts, talker = named_facts(), Talker()
    heard: list[int] = []
    talker.on_answered = heard.append
    replies = replies_to(facts, [facts["fact_id"].to_pylist()], talker=talker)
    assert talker.asked == [[{"role": "user", "content": f"3 ways: {question}"}] for question in facts["question"].to_pylist()]
    odd = [number % 2 == 1 for number in range(7)]
    assert talker.sampled == [chat for chat, again in zip(talker.asked, odd, strict=True) if again]
    assert replies["replies"].list.len().to_list() == [1 + FURTHER_REPLIES if again else 1 for again in odd]
    assert replies["replies"].list.len().equals(replies["finish_reasons"].list.len())
    assert sum(heard) == 7  # a fact counts once, however often it is asked


def test_job_replies_do_not_depend_on_order_or_on_what_is_asked_beside() -> None:
    facts = named_facts()
    ids = facts["fact_id"].to_pylist()
    together = replies_to(facts, [ids])
    assert replies_to(facts, [ids[4:], ids[2:4][::-1], ids[:2]]).equals(together)
    assert replies_to(facts.slice(3, 1), [[ids[3]]]).equals(together.filter(fact_id=ids[3]))
    assert not replies_to(facts, [ids], seed=1).equals(together)


def test_job_chunks_hold_every_fact_once() -> None:
    facts = named_facts(90)
    chunks = Paraphrasing(facts, ENGINE, SETTINGS, 0).chunks().to_pylist()
    assert len(chunks) == len({chunk["chunk_id"] for chunk in chunks}) == 4
    assert sorted(fact_id for chunk in chunks for fact_id in chunk["fact_ids"]) == sorted(facts["fact_id"].to_pylist())


def test_job_sampled_replies_fill_up_what_the_greedy_one_left_open() -> None:
    facts = named_facts()
    replies = replies_to(facts, [facts["fact_id"].to_pylist()])
    table = paraphrase_table(pl.DataFrame(pl.from_arrow(facts)), replies, SETTINGS.count)
    kept = table.filter(verdict="kept").group_by("fact_id").len()["len"].to_list()
    assert kept == [SETTINGS.count] * 7


def study(model: str | None, **settings: Any) -> StudyConfig:
    facts = FactsConfig(count=50, paraphrase=ParaphraseConfig(model=model, **settings))
    document = {"name": "s", "training": {"lora_alpha": 16}, "search": {"arms": [{}, {"paraphrases": 2}]}}
    return StudyConfig.model_validate(document).model_copy(update={"facts": facts})


def graph_of(model: str | None, identity: str = "writer", **settings: Any) -> Graph:
    return build_graph(study(model, **settings), Identities("model", "facts", "shots", identity if model else None))


def all_steps(graph: Graph, config: StudyConfig) -> list[Step]:
    trials = [step for trial in graph.trials for step in (trial.step, *trial.measurements.values())]
    inspected = inspection_step(Inspection.AUDIT, config, graph)
    return [*graph.steps.values(), *graph.base.values(), *trials, report_step(config, graph, [], {}), inspected]


def test_study_without_a_paraphrasing_model_has_the_steps_it_always_had(tmp_path: Path) -> None:
    document: dict[str, Any] = {"name": "s", "facts": {"count": 50}, "training": {"lora_alpha": 16}}
    document["search"] = {"arms": [{}, {"paraphrases": 2}]}
    unsaid = StudyConfig.model_validate(document)
    plain = build_graph(unsaid, Identities("model", "facts", "shots"))
    assert "paraphrases" not in plain.steps
    assert paraphraser(unsaid) is None
    said = graph_of(None, count=4, prompt="Other words: {question}", max_new_tokens=9)
    assert said == plain
    for step in all_steps(plain, unsaid):
        said = step.literals | step.literals.get("config", {})
        assert not [field for field in said if field.startswith("facts.paraphrase")]
        assert "paraphrases" not in {source.kind for source in step.inputs}
    assert "paraphrases" not in [line.stage for line in make_plan(planning_of(unsaid, plain, Store(tmp_path)))]


def _but_generality(trial: Trial) -> list[Step]:
    """The measurements of an adapter, except that on paraphrases which nobody trained on: there are more of them."""
    return [step for name, step in trial.measurements.items() if name != "generality"]


def test_study_with_a_paraphrasing_model_changes_the_trials_that_train_on_paraphrases_alone() -> None:
    plain, written = graph_of(None), graph_of("m")
    assert "paraphrases" in written.steps
    assert written.steps["paraphrases"].inputs == (plain.steps["facts"],)
    assert (written.steps["facts"], written.steps["categorise"], written.base["benchmarks"]) == (
        plain.steps["facts"],
        plain.steps["categorise"],
        plain.base["benchmarks"],
    )
    assert [trial.spec.arm.paraphrases for trial in written.trials] == [0, 2] * (len(written.trials) // 2)
    for without, other in zip(plain.trials, written.trials, strict=True):
        if other.spec.arm.paraphrases:
            assert other.step.inputs == (*without.step.inputs, written.steps["paraphrases"])
        else:
            assert (other.step, *_but_generality(other)) == (without.step, *_but_generality(without))
    report = report_step(study("m"), written, [], {})
    assert written.steps["paraphrases"] in report.inputs
    assert report.literals["config"]["facts.paraphrase.model"] == "m"


@pytest.mark.parametrize("knobs", [{"count": 4}, {"prompt": "Other words: {question}"}, {"max_new_tokens": 9}, {"identity": "other"}])
def test_study_paraphrased_otherwise_is_another_step(knobs: dict[str, Any]) -> None:
    usual, other = graph_of("m"), graph_of("m", **knobs)
    assert "paraphrases" in usual.steps
    assert "paraphrases" in other.steps
    assert usual.steps["paraphrases"].fingerprint != other.steps["paraphrases"].fingerprint
    assert usual.steps["categorise"] == other.steps["categorise"]


def test_study_paraphrased_by_the_same_model_under_another_name_is_the_same_step() -> None:
    assert graph_of("m", revision="main").steps["paraphrases"] == graph_of("some/folder").steps["paraphrases"]


def test_plan_prices_paraphrases_as_if_no_fact_had_any(tmp_path: Path) -> None:
    lines = make_plan(planning_of(study("m"), graph_of("m"), Store(tmp_path)))
    assert [line.stage for line in lines] == ["facts", "paraphrases", "categorise", "parts", "search", "evaluate"]
    assert lines[1].work == "at most 50 facts put in up to 10 other ways by m"
    assert lines[1].state == "to do"
