"""How a sampling job asks: each question by its own seed, whatever it is asked beside; and where samples stand among a study's steps."""

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pytest

from kp import schema
from kp.config.study import CategoriseConfig, ModelConfig, StudyConfig
from kp.generation.protocol import FinishReason, Generation
from kp.inference.answering import CHUNK_FACTS, EngineSpec, FactIndex, make_chunks
from kp.inference.sampling import Sampling
from kp.prompts import PROMPTS_PER_SET, QUESTION_PREFIX, Messages, builtin_prompts
from kp.store.steps import Store
from kp.study.building import build_graph
from kp.study.graph import Graph
from kp.study.identities import Identities
from kp.study.inspection import Inspection, inspection_step
from kp.study.plan import make_plan, planning_of
from kp.study.stages.report import report_step
from kp.vocabulary import ShotSet
from tests.made_up_study import facts as made_up_facts

ENGINE = EngineSpec(ModelConfig(), 12, stop_at_newline=True, batch_size=8, threads=1, use_gpu=False)
IDENTITIES = Identities("model", "facts", "shots")


class SeededGenerator:
    """Says the right answer in a third of its draws, and else a number; which of them is decided by the seed alone."""

    def read(self, prompts: Any) -> Any:
        return prompts

    def generate(self, prompts: Sequence[Messages]) -> list[Generation]:
        raise AssertionError("a sampling job asks for no greedy answers")

    def sample(self, prompts: Sequence[Messages], count: int, temperature: float, seeds: Sequence[int]) -> list[list[Generation]]:
        return [
            [self._drawn(prompt[-1]["content"], temperature, random.Random(f"{seed} {number}")) for number in range(count)]
            for prompt, seed in zip(prompts, seeds, strict=True)
        ]

    def load_adapter(self, path: str | None) -> None:
        raise AssertionError("the base model is sampled without an adapter")

    def _drawn(self, question: str, temperature: float, stream: random.Random) -> Generation:
        thing = question.removeprefix(f"{QUESTION_PREFIX}What is ").removesuffix("?")
        said = f"object {thing}" if stream.random() < 1 / 3 else f"number {stream.getrandbits(32)} at {temperature}"
        return Generation(f"Answer: {said}", FinishReason.STOP, 3)


def job_of(facts: pa.Table, count: int = 4, seed: int = 0) -> Sampling:
    return Sampling(facts, facts, {ShotSet.S0: builtin_prompts(ShotSet.S0)}, ENGINE, count, 0.5, seed)


def samples_of(job: Sampling, chunk_facts: list[list[str]]) -> pl.DataFrame:
    """The SAMPLES of a job that is cut into chunks of these facts."""
    index = FactIndex(job.facts)
    chunks = [{"chunk_id": f"c{place}", "shot_set": "S0", "fact_ids": ids} for place, ids in enumerate(chunk_facts)]
    tables = [job.answer(SeededGenerator(), index.take(chunk["fact_ids"]), chunk, "rev") for chunk in chunks]
    assert {table.schema for table in tables} == {schema.SAMPLES}
    return pl.DataFrame(pl.from_arrow(pa.concat_tables(tables))).sort(job.key)


@pytest.fixture
def facts() -> pa.Table:
    return made_up_facts().head(7).to_arrow().cast(schema.FACTS)


def test_sampling_answers_do_not_depend_on_order_or_on_what_is_asked_beside(facts: pa.Table) -> None:
    ids = facts["fact_id"].to_pylist()
    together = samples_of(job_of(facts), [ids])
    assert samples_of(job_of(facts), [ids[4:], ids[2:4][::-1], ids[:2]]).equals(together)
    alone = samples_of(job_of(facts.slice(3, 1)), [[ids[3]]])
    assert alone.equals(together.filter(fact_id=ids[3]))


def test_sampling_another_seed_of_the_study_draws_other_answers(facts: pa.Table) -> None:
    ids = [facts["fact_id"].to_pylist()]
    first, second = (samples_of(job_of(facts, seed=seed), ids) for seed in (0, 1))
    assert first.drop("answer", "match_strict", "match_exact", "match_released").equals(second.select(first.columns[:5]))
    assert not first["answer"].equals(second["answer"])


def test_sampling_keeps_every_answer_and_judges_it_by_all_matchers(facts: pa.Table) -> None:
    samples = samples_of(job_of(facts), [facts["fact_id"].to_pylist()])
    assert samples.height == samples.select("fact_id", "prompt_index", "sample_index").unique().height == 7 * PROMPTS_PER_SET * 4
    assert sorted(samples["prompt_index"].unique()) == list(range(PROMPTS_PER_SET))
    said = samples["answer"].str.starts_with("Answer: object").to_list()
    assert 0 < sum(said) < len(said)
    for matcher in ("strict", "exact", "released"):
        assert samples[f"match_{matcher}"].to_list() == said


def test_sampling_chunk_is_as_much_work_as_one_of_greedy_answers() -> None:
    ids = [f"f{place}" for place in range(1000)]
    facts = pl.DataFrame({"fact_id": ids, "question": ids})
    sizes = [len(chunk["fact_ids"]) for chunk in make_chunks(facts, [ShotSet.S0], 16).to_pylist()]
    assert max(sizes) == CHUNK_FACTS // 16
    assert sum(sizes) == 1000
    most = [len(chunk["fact_ids"]) for chunk in make_chunks(facts, [ShotSet.S0], 10 * CHUNK_FACTS).to_pylist()]
    assert set(most) == {1}


def study(**categorise: object) -> StudyConfig:
    settings = CategoriseConfig.model_validate(categorise)
    config = StudyConfig.model_validate({"name": "s", "facts": {"count": 50}, "training": {"lora_alpha": 16}})
    return config.model_copy(update={"categorise": settings})


def graph_of(**categorise: object) -> Graph:
    return build_graph(study(**categorise), IDENTITIES)


def test_study_without_samples_has_the_steps_it_always_had(tmp_path: Path) -> None:
    plain = graph_of()
    assert "samples" not in plain.steps
    assert graph_of(samples=0, sample_temperature=0.7) == plain
    assert [trial.step.inputs for trial in plain.trials] == [(plain.steps["categorise"], plain.steps["parts"])] * len(plain.trials)
    assert plain.steps["parts"].inputs == (plain.steps["categorise"],)
    exact = study(matcher="exact")
    for literals in (report_step(exact, plain, [], {}).literals["config"], inspection_step(Inspection.AUDIT, exact, plain).literals):
        assert not {"categorise.samples", "categorise.sample_temperature"} & literals.keys()
        assert literals["categorise.matcher"] == "exact"
    assert "samples" not in [line.stage for line in make_plan(planning_of(study(), plain, Store(tmp_path)))]


def test_study_with_samples_asks_greedily_as_before_and_trains_on_what_was_sampled() -> None:
    plain, sampled = graph_of(), graph_of(samples=16)
    assert "samples" in sampled.steps
    assert sampled.steps["categorise"] == plain.steps["categorise"]
    assert sampled.steps["samples"].inputs == (plain.steps["categorise"],)
    known = (sampled.steps["categorise"], sampled.steps["samples"])
    assert sampled.steps["parts"].inputs == known
    assert all(trial.step.inputs == (*known, sampled.steps["parts"]) for trial in sampled.trials)
    assert sampled.steps["samples"] in report_step(study(samples=16), sampled, [], {}).inputs
    assert not {trial.trial_id for trial in plain.trials} & {trial.trial_id for trial in sampled.trials}


@pytest.mark.parametrize("knobs", [{"samples": 4}, {"sample_temperature": 0.7}, {"matcher": "exact"}])
def test_study_sampled_otherwise_is_another_step(knobs: dict[str, object]) -> None:
    usual, other = graph_of(samples=16), graph_of(**{"samples": 16, **knobs})
    assert "samples" in usual.steps
    assert "samples" in other.steps
    assert usual.steps["samples"].fingerprint != other.steps["samples"].fingerprint
    assert usual.steps["categorise"] == other.steps["categorise"]


def test_plan_prices_samples_as_if_no_fact_were_known(tmp_path: Path) -> None:
    lines = make_plan(planning_of(study(samples=16), graph_of(samples=16), Store(tmp_path)))
    assert [line.stage for line in lines] == ["facts", "categorise", "samples", "parts", "search", "evaluate"]
    assert lines[2].work.startswith("at most 8,000 sampled answers: 16 at temperature 0.5 to each prompt of S0")
    assert lines[2].state == "to do"
