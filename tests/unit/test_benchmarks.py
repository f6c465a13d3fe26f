"""Benchmark plans, data and scoring, as far as no model is needed."""

import math
from collections import Counter

import pytest

from kp.benchmarks.lm_eval_tasks import harness_digest
from kp.benchmarks.registry import BENCHMARKS, BenchmarkPlan
from kp.config.study import EvaluateConfig, StudyConfig
from kp.data.tasks import completions, misconceptions, mmlu_dev
from kp.errors import UserError
from kp.study.building import build_graph
from kp.study.identities import Identities


def plan(mmlu_dev: int, mmlu_fewshot: int, misconceptions: int, seed: int = 0, completions: int = 0) -> BenchmarkPlan:
    # Past the field's own limit where a test wants more questions than there are.
    asked = {"mmlu_dev": mmlu_dev, "misconceptions": misconceptions, "completions": completions}
    return BenchmarkPlan(EvaluateConfig.model_construct(mmlu_fewshot=mmlu_fewshot, **asked), seed)


def task_names(plan: BenchmarkPlan) -> list[str]:
    return [benchmark.task for benchmark in plan.benchmarks()]


PLAN = plan(57, 2, 100)


def test_mmlu_questions_of_installed_lm_eval_are_complete_and_well_formed() -> None:
    questions = mmlu_dev.load_questions()
    assert len(questions) == 280
    assert len({question.subject for question in questions}) == 57
    assert len(set(questions)) == 280
    assert all(len(question.choices) == 4 and all(question.choices) and 0 <= question.answer < 4 for question in questions)
    assert not any("(A)" in question.question or "actorial{" in question.question for question in questions)


def test_mmlu_questions_known_one_is_read_with_its_choices_and_answer() -> None:
    known = next(question for question in mmlu_dev.load_questions() if question.question.startswith("Find all c in Z_3"))
    assert (known.subject, known.choices, known.answer) == ("abstract_algebra", ("0", "1", "2", "3"), 1)


def test_mmlu_draw_of_57_takes_one_question_of_each_subject() -> None:
    questions = mmlu_dev.load_questions()
    drawn = mmlu_dev.draw(57, shots=2, seed=0)
    assert drawn == sorted(set(drawn))
    assert set(Counter(questions[index].subject for index in drawn).values()) == {1}


def test_mmlu_draw_is_seeded_and_nested() -> None:
    assert mmlu_dev.draw(57, 2, seed=0) == mmlu_dev.draw(57, 2, seed=0)
    assert mmlu_dev.draw(57, 2, seed=0) != mmlu_dev.draw(57, 2, seed=1)
    assert set(mmlu_dev.draw(30, 2, seed=0)) < set(mmlu_dev.draw(90, 2, seed=0))


@pytest.mark.parametrize(("shots", "askable"), [(0, 280), (2, 280), (3, 277), (4, 265)])
def test_mmlu_askable_counts_questions_with_enough_others(shots: int, askable: int) -> None:
    assert mmlu_dev.askable(shots) == askable
    assert len(mmlu_dev.draw(askable, shots, seed=3)) == askable


def test_misconceptions_are_unique_with_one_best_answer_and_four_to_six_choices() -> None:
    questions = misconceptions.load_questions()
    assert len(questions) >= 120
    assert len({question["question"] for question in questions}) == len(questions)
    for question in questions:
        one, many = question["mc1_targets"], question["mc2_targets"]
        assert one["labels"] == [1] + [0] * (len(one["choices"]) - 1)
        assert 4 <= len(one["choices"]) <= len(many["choices"]) <= 6
        assert len(set(many["choices"])) == len(many["choices"]) == len(many["labels"])
        truth = dict(zip(many["choices"], many["labels"], strict=True))
        assert [truth[choice] for choice in one["choices"]] == one["labels"]


def scores(*likelihoods: float) -> dict[str, float]:
    doc = {
        "mc1_targets": {"choices": ["true", "wrong", "false"], "labels": [1, 0, 0]},
        "mc2_targets": {"choices": ["true", "right", "wrong", "false"], "labels": [1, 1, 0, 0]},
    }
    return misconceptions.scores(doc, [(likelihood, False) for likelihood in likelihoods])


def test_completions_differ_by_sense_and_not_by_form() -> None:
    sentences = completions.load_sentences()
    assert len({row["start"] for row in sentences}) == len(sentences) == 168
    assert Counter(row["right"] for row in sentences) == {0: 56, 1: 56, 2: 56}
    for row in sentences:
        assert all(text.isascii() and text == text.strip() for text in (row["start"], *row["endings"]))
        assert row["start"][-1].isalnum() or row["start"][-1] == ","
        assert max(map(len, row["endings"])) <= 2 * min(map(len, row["endings"])) + 5
    lengths = [sorted(range(3), key=lambda place: len(row["endings"][place])).index(row["right"]) for row in sentences]
    assert all(30 <= count <= 80 for count in Counter(lengths).values())  # a guess by length is near a guess


def test_completions_draw_is_seeded_and_nested_and_has_every_topic() -> None:
    topics = [row["topic"] for row in completions.load_sentences()]
    assert {topics[index] for index in completions.draw(13, seed=0)} == set(topics)
    assert set(completions.draw(30, seed=0)) < set(completions.draw(90, seed=0))
    assert completions.draw(90, seed=0) != completions.draw(90, seed=1)


def test_misconception_scores_mc2_is_the_share_of_true_statements() -> None:
    found = scores(math.log(0.1), math.log(0.2), math.log(0.4), math.log(0.1))
    assert found["mc2"] == pytest.approx(0.3 / 0.8)


def test_misconception_scores_mc1_looks_at_the_best_answer_alone() -> None:
    assert scores(-2.0, -1.0, -1.5, -3.0)["mc1"] == 0
    assert scores(-1.0, -2.0, -1.5, -3.0)["mc1"] == 1


def test_misconception_scores_tie_is_not_right() -> None:
    assert scores(-1.0, -2.0, -1.0, -3.0)["mc1"] == 0


def test_misconception_scores_very_unlikely_statements_do_not_underflow() -> None:
    assert scores(-2000.0, -2000.0, -2000.0, -2000.0)["mc2"] == pytest.approx(0.5)


def test_plan_zero_leaves_the_task_out() -> None:
    assert task_names(PLAN) == ["kp_mmlu_dev", "kp_misconceptions"]
    assert task_names(plan(0, 2, 5, 0)) == ["kp_misconceptions"]
    assert task_names(plan(5, 2, 0, 0)) == ["kp_mmlu_dev"]
    assert PLAN.questions() == 157
    assert plan(0, 4, 0, 0).questions() == 0


@pytest.mark.parametrize(
    ("asked", "field"),
    [
        (plan(281, 2, 0, 0), "evaluate.mmlu_dev: 281 asked, 280"),
        (plan(266, 4, 0, 0), "evaluate.mmlu_dev: 266 asked, 265"),
        (plan(0, 0, 5000, 0), "evaluate.misconceptions: 5000 asked"),
        (plan(0, 0, 0, completions=169), "evaluate.completions: 169 asked, 168"),
    ],
)
def test_plan_more_questions_than_there_are_is_an_error_naming_the_field(asked: BenchmarkPlan, field: str) -> None:
    with pytest.raises(UserError, match=field):
        asked.questions()


def test_step_of_benchmarks_changes_with_every_field_that_decides_a_score() -> None:
    def steps(**changes: object) -> tuple[str, ...]:
        evaluate = {name: value for name, value in changes.items() if name != "seed"}
        document = {"name": "s", "seed": changes.get("seed", 0), "training": {"lora_alpha": 16}, "evaluate": evaluate}
        graph = build_graph(StudyConfig.model_validate(document), Identities("model", "facts", "shots"))
        return graph.base["benchmarks"].fingerprint, graph.trials[0].measurements["benchmarks"].literals["harness"]

    changes = ({"mmlu_dev": 56}, {"mmlu_fewshot": 1}, {"misconceptions": 99}, {"completions": 50}, {"seed": 1})
    assert len({steps(**one)[0] for one in ({}, *changes)}) == 6
    assert steps(stopped=False) == steps(mmlu_dev=57) == steps()


def test_harness_digest_changes_with_the_tasks_that_are_asked() -> None:
    assert harness_digest(PLAN) == harness_digest(plan(56, 1, 3))
    assert len({harness_digest(one) for one in (PLAN, plan(57, 2, 0), plan(0, 2, 100), plan(0, 2, 100, completions=5))}) == 4


def test_benchmark_group_is_a_field_of_its_documents() -> None:
    assert {benchmark.task: benchmark.group for benchmark in BENCHMARKS} == {
        "kp_completions": "",
        "kp_mmlu_dev": "subject",
        "kp_misconceptions": "",
    }
    assert all(hasattr(question, "subject") for question in mmlu_dev.load_questions())


def test_benchmark_scores_have_columns_of_their_own() -> None:
    columns = [score.column for benchmark in BENCHMARKS for score in benchmark.scores]
    assert len(set(columns)) == len(columns)
    assert {benchmark.field for benchmark in BENCHMARKS} <= EvaluateConfig.model_fields.keys()
