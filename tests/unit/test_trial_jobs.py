from pathlib import Path

import polars as pl
import pytest

from kp import schema
from kp.config.study import load_study
from kp.inference.answering import EngineSpec
from kp.metrics.categories import categorise
from kp.schema import frame
from kp.store.filenames import ANSWERS_FILE, CATEGORIES_FILE, PARTS_FILE
from kp.store.steps import Step
from kp.study.run import open_session, run_stage
from kp.study.session import Session
from kp.study.trial_jobs import eval_facts, make_jobs
from kp.training.mixtures import draw_rows
from kp.vocabulary import Matcher
from tests.made_up_study import apart, categories, drawing_spec, facts, frame_of

SMOKE = Path(__file__).parents[2] / "ray_jobs" / "studies" / "smoke.toml"


def rows_of(unknown: int, maybe_known: int = 0) -> tuple[list[str], object]:
    mixture = drawing_spec(unknown, maybe_known=maybe_known, paraphrases=1, seed=3)
    rows = draw_rows(mixture, facts(), categories(0, "base", "S0", "strict"), frame_of([], schema.ANSWERS))
    asked = eval_facts(facts().to_arrow().cast(schema.FACTS), rows, 5)
    return rows.filter(role="unknown")["fact_id"].to_list(), asked["fact_id"].to_pylist()


def test_eval_facts_are_the_first_drawn_and_the_same_for_every_mix_and_size() -> None:
    drawn, asked = rows_of(20)
    assert asked == drawn[:5]
    assert rows_of(20, maybe_known=1)[1] == asked
    assert rows_of(40)[1] == asked


@pytest.mark.parametrize("most", [None, 20, 21])
def test_eval_facts_without_a_limit_below_are_all_that_were_trained(most: int | None) -> None:
    mixture = drawing_spec(20, seed=3)
    rows = draw_rows(mixture, facts(), categories(0, "base", "S0", "strict"), frame_of([], schema.ANSWERS))
    asked = eval_facts(facts().to_arrow().cast(schema.FACTS), rows, most)
    assert asked["fact_id"].to_pylist() == rows["fact_id"].to_list()
    assert asked.schema == schema.FACTS


def commit(session: Session, step: Step, asked: pl.DataFrame, shot_sets: list[str], right: set[str]) -> None:
    """Answers to two prompts that nobody gave: those of the facts `right` are."""
    rows = [
        {
            "fact_id": fact["fact_id"],
            "model_id": "base",
            "shot_set": shot_set,
            "prompt_index": index,
            "answer": f"said {fact['question']}",
            "finish_reason": "stop",
            **{f"match_{matcher}": fact["fact_id"] in right for matcher in Matcher},
            "refused": False,
        }
        for fact in asked.iter_rows(named=True)
        for shot_set in shot_sets
        for index in range(2)
    ]
    answers = frame_of(rows, schema.ANSWERS)
    tables = {ANSWERS_FILE: (answers.to_arrow(), schema.ANSWERS), CATEGORIES_FILE: (categorise(answers).to_arrow(), schema.CATEGORIES)}
    session.commit(step, *apart(tables), 0.0)


def test_make_jobs_replays_facts_of_the_other_source_and_probes_the_first_drawn(tmp_path: Path) -> None:
    overrides = ["search.unknown=[3]", "search.eval_facts=2"]
    overrides += ["search.arms=[{}, {highly_known = 2, paraphrases = 1}]", "search.replay_source=builtin", "search.replay_count=60"]
    config = load_study(SMOKE, [*overrides, "facts.count=9", "facts.control_unknown_share=0.4"])
    with open_session(config, tmp_path) as session:
        session.trial_engine = EngineSpec(config.model, 8, True, 4, 1, False)  # its own would start a cluster
        run_stage(session, "facts")
        run_stage(session, "replay_facts")
        replayable = frame(session.replay_facts)
        assert session.graph.steps["replay_categorise"] is not None
        commit(session, session.graph.steps["categorise"], frame(session.facts), ["S0", "S1", "S2"], set())
        commit(session, session.graph.steps["replay_categorise"], replayable, ["S0"], set(replayable["fact_id"].to_list()[:20]))
        run_stage(session, "parts")
        parts = frame(session.store.read(session.graph.steps["parts"], PARTS_FILE, schema.PARTS))
        plain, mixed = make_jobs(session, list(session.graph.trials))
        studied = set(session.facts["fact_id"].to_pylist())
    rows = frame(mixed.rows)
    assert rows.filter(role="unknown")["fact_id"].to_list() == frame(plain.rows)["fact_id"].to_list()
    assert rows["role"].value_counts().sort("role").rows() == [("highly_known", 6), ("paraphrase", 3), ("unknown", 3)]
    control = parts.filter(pl.col("part") != "pool")["fact_id"].to_list()
    assert len(control) == 4  # of the 9 facts, of which the base knows none
    assert set(control).isdisjoint(rows["fact_id"])
    replayed = rows.filter(role="highly_known")
    assert studied.isdisjoint(replayed["fact_id"])
    assert replayed["target"].to_list() == [f"said {question}" for question in replayed["question"]]
    assert mixed.eval_facts["fact_id"].to_pylist() == rows["fact_id"].to_list()[:2]
    assert mixed.eval_facts.equals(plain.eval_facts)
