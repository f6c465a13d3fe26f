"""Tasks of lm-eval's collection, asked of tiny models with data in a local folder: every number is that of plain lm-eval."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import torch
from lm_eval import simple_evaluate
from lm_eval.models.huggingface import HFLM
from lm_eval.tasks import TaskManager

from kp.benchmarks.harness import GROUP_STEP, HarnessTables, TaskPart, ask_part, drawn_questions, put_together, task_parts
from kp.benchmarks.harness_tasks import HarnessTask, data_set, make_task, single_tasks, template_hash, validate_tasks
from kp.benchmarks.task_data import data_digest
from kp.config.study import EvaluateConfig, ModelConfig
from kp.errors import UserError
from kp.generation.likelihoods import LikelihoodScorer
from kp.models.loading import load_model, load_tokenizer, resolve_model
from tests.tiny_model import save_tiny_model

SUBJECTS = ("anatomy", "astronomy", "virology")
FP32 = 1e-4  # nats


def write(folder: Path, split: str, rows: list[dict[str, Any]]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def question(subject: str, number: int) -> dict[str, Any]:
    choices = [f"the {word} of {subject} {number}" for word in ("bone", "star", "seed", "wave")]
    return {"subject": subject, "question": f"What is the {number}th part of {subject}?", "choices": choices, "answer": number % 4}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """MMLU in three subjects, TruthfulQA's two forms and ARC, with made-up questions in the form of the real ones."""
    root = tmp_path_factory.mktemp("task_data")
    for size, subject in enumerate(SUBJECTS, start=5):
        write(root / "cais" / "mmlu" / subject, "dev", [question(subject, number) for number in range(100, 105)])
        write(root / "cais" / "mmlu" / subject, "test", [question(subject, number) for number in range(size)])
    truths = [
        {
            "question": f"What does the {number}th bell do?",
            "mc1_targets": {"choices": ["It rings.", "It flies.", "It sleeps in winter."], "labels": [1, 0, 0]},
            "mc2_targets": {"choices": ["It rings.", "It makes a sound.", "It flies."], "labels": [1, 1, 0]},
        }
        for number in range(6)
    ]
    write(root / "truthfulqa" / "truthful_qa" / "multiple_choice", "validation", truths)
    told = [
        {
            "question": f"What does the {number}th bell do?",
            "best_answer": "It rings",
            "correct_answers": ["It rings", "It makes a sound"],
            "incorrect_answers": ["It flies"],
        }
        for number in range(3)
    ]
    write(root / "truthfulqa" / "truthful_qa" / "generation", "validation", told)
    sciences = [
        {
            "question": f"Which is number {number}?",
            "choices": {"text": ["a stone", "a tree", "a cloud"], "label": ["A", "B", "C"]},
            "answerKey": "ABC"[number % 3],
        }
        for number in range(7)
    ]
    write(root / "allenai" / "ai2_arc" / "ARC-Easy", "test", sciences)
    return root


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Any]:
    base = resolve_model(ModelConfig(name=str(save_tiny_model(tmp_path_factory.mktemp("tiny")))))
    return load_model(base, "float32", "cpu"), load_tokenizer(base)


def tasks_of(name: str) -> list[HarnessTask]:
    found = single_tasks(name)
    return [task for task in found if not task.name.startswith("mmlu_") or task.name.removeprefix("mmlu_") in SUBJECTS]


def asked(
    loaded: tuple[Any, Any], name: str, data: Path, work: Path, fewshot: int | None = None, limit: int | None = None, **how: int
) -> HarnessTables:
    tasks = tasks_of(name)
    parts = task_parts(tasks, data, limit, fewshot, seed=0)
    made = [ask_part(*loaded, part, fewshot, data, how.get("batch", 8), work) for part in reversed(parts)]
    return put_together(name, tasks, "base", made)


def plain(loaded: tuple[Any, Any], name: str, data: Path, work: Path, fewshot: int | None = None) -> dict[str, dict[str, Any]]:
    """What lm-eval's own model class finds, a whole prompt at a time, by task and doc_id."""
    tasks = tasks_of(name)
    model = HFLM(pretrained=loaded[0], tokenizer=loaded[1], batch_size=1)
    manager = TaskManager(include_path=str(work), include_defaults=False)
    found = simple_evaluate(
        model=model, tasks=[make_task(task, data) for task in tasks], num_fewshot=fewshot, bootstrap_iters=0, task_manager=manager
    )
    return dict(found)


def likelihoods(tables: HarnessTables) -> list[float]:
    return list(tables.choices["log_likelihood"].to_pylist())


@pytest.mark.parametrize(
    ("name", "fewshot"), [("mmlu", 5), ("mmlu", 0), ("truthfulqa_mc1", None), ("truthfulqa_mc2", None), ("arc_easy", None)]
)
def test_every_choice_has_the_likelihood_and_every_task_the_score_of_plain_lm_eval(
    loaded: tuple[Any, Any], data: Path, tmp_path: Path, name: str, fewshot: int | None
) -> None:
    found = asked(loaded, name, data, tmp_path, fewshot)
    expected = plain(loaded, name, data, tmp_path, fewshot)
    samples = [sample for task in tasks_of(name) for sample in sorted(expected["samples"][task.name], key=lambda one: one["doc_id"])]
    assert likelihoods(found) == pytest.approx([one for sample in samples for one, _ in sample["filtered_resps"]], abs=FP32)
    for row in found.means.to_pylist():
        scores = [sample[row["metric"]] for sample in samples]
        assert row["value"] == pytest.approx(sum(scores) / len(scores), abs=1e-6)
        assert (row["n"], row["num_fewshot"]) == (len(samples), fewshot or 0)
    assert found.items["score"].to_pylist()


def test_group_is_one_task_with_a_row_a_question_clustered_by_single_task(loaded: tuple[Any, Any], data: Path, tmp_path: Path) -> None:
    found = asked(loaded, "mmlu", data, tmp_path, 5)
    rows = found.items.to_pylist()
    assert {row["task"] for row in rows} == {"mmlu"}
    assert [row["group"] for row in rows] == [f"mmlu_{subject}" for size, subject in enumerate(SUBJECTS, start=5) for _ in range(size)]
    assert len({row["item"] for row in rows}) == 5 + 6 + 7
    assert rows[5]["item"] == GROUP_STEP
    assert len(found.choices) == 4 * (5 + 6 + 7)


def test_batch_and_parts_shift_no_score(loaded: tuple[Any, Any], data: Path, tmp_path: Path) -> None:
    together, alone = asked(loaded, "mmlu", data, tmp_path, 5, batch=64), asked(loaded, "mmlu", data, tmp_path, 5, batch=1)
    assert likelihoods(together) == pytest.approx(likelihoods(alone), abs=FP32)
    tasks = tasks_of("mmlu")
    single = [
        ask_part(*loaded, TaskPart(part.task, (question,)), 5, data, 8, tmp_path)
        for part in task_parts(tasks, data, None, 5, 0)
        for question in part.questions
    ]
    assert likelihoods(put_together("mmlu", tasks, "base", single)) == pytest.approx(likelihoods(together), abs=FP32)


def test_second_model_gets_its_own_scores_in_the_same_process(loaded: tuple[Any, Any], data: Path, tmp_path: Path) -> None:
    before = likelihoods(asked(loaded, "arc_easy", data, tmp_path))
    torch.manual_seed(5)
    other = load_model(resolve_model(ModelConfig(name=loaded[0].name_or_path)), "float32", "cpu")
    with torch.no_grad():
        for weight in other.parameters():
            weight.mul_(1.1)
    assert likelihoods(asked((other, loaded[1]), "arc_easy", data, tmp_path)) != pytest.approx(before, abs=1e-2)
    assert likelihoods(asked(loaded, "arc_easy", data, tmp_path)) == before


def test_generated_answers_are_scored_from_0_to_1(loaded: tuple[Any, Any], data: Path, tmp_path: Path) -> None:
    found = asked(loaded, "truthfulqa_gen", data, tmp_path)
    metrics = set(found.means["metric"].to_pylist())
    assert {"bleu_max", "rouge1_max", "rouge2_max", "rougeL_max"} <= metrics
    assert not {metric for metric in metrics if metric.endswith("_diff")}
    assert all(0 <= score <= 1 for score in found.items["score"].to_pylist())
    assert not len(found.choices)


def test_no_shot_is_a_question_that_is_asked(data: Path) -> None:
    for task in tasks_of("mmlu"):
        made = make_task(task, data)
        shots = {shot["question"] for shot in made.fewshot_docs()}
        assert not shots & {doc["question"] for doc in made.eval_docs}


def test_task_without_a_split_for_shots_leaves_each_question_out_of_its_own(
    loaded: tuple[Any, Any], data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (task,) = single_tasks("arc_easy")  # of which the folder has the test split alone
    asked: list[str] = []
    score = LikelihoodScorer.score

    def heard(self: LikelihoodScorer, contexts: Any) -> Any:
        asked.extend(loaded[1].decode(context.ids) for context in contexts)
        return score(self, contexts)

    monkeypatch.setattr(LikelihoodScorer, "score", heard)
    (part,) = task_parts([task], data, None, 5, seed=0)
    ask_part(*loaded, part, 5, data, 8, tmp_path)
    assert len(asked) == 7
    assert all(text.count(text[text.rindex("number") :]) == 1 for text in asked)


def test_task_that_scores_no_question_is_refused(data: Path) -> None:
    with pytest.raises(UserError, match=r"evaluate\.tasks: 'wikitext' is of lm-eval's kind loglikelihood_rolling"):
        validate_tasks(EvaluateConfig.model_validate({"tasks": ["wikitext"]}))


def test_limit_draws_from_all_tasks_in_turn_and_the_smaller_draw_is_part_of_the_larger() -> None:
    counts = {HarnessTask(name, ""): 10 for name in "abc"}
    few, many = (drawn_questions(counts, limit, seed=3) for limit in (7, 20))
    assert sorted(map(len, few.values())) == [2, 2, 3]
    assert all(set(questions) <= set(many[task]) for task, questions in few.items())
    assert few != drawn_questions(counts, 7, seed=4)
    assert drawn_questions(counts, None, 0) == drawn_questions(counts, 30, 1) == {task: tuple(range(10)) for task in counts}


def test_unknown_task_is_refused_with_its_neighbours() -> None:
    with pytest.raises(UserError, match=r"evaluate\.tasks: lm-eval [\d.]+ has no task 'mmlo'; did you mean mmlu"):
        validate_tasks(EvaluateConfig.model_validate({"tasks": ["mmlo"]}))


def test_missing_data_are_refused_with_the_file_that_is_expected(data: Path) -> None:
    with pytest.raises(
        UserError, match=r"evaluate\.task_data: .*EleutherAI/logiqa/logiqa/test\.parquet .* is missing, which task 'logiqa' reads"
    ):
        validate_tasks(EvaluateConfig.model_validate({"tasks": ["logiqa"], "task_data": str(data)}))
    validate_tasks(EvaluateConfig.model_validate({"tasks": ["arc_easy", "truthfulqa"], "task_data": str(data)}))


def test_digest_of_data_follows_their_contents_alone(data: Path, tmp_path: Path) -> None:
    (task,) = single_tasks("arc_easy")
    rows = [json.loads(line) for line in (data / "allenai/ai2_arc/ARC-Easy/test.jsonl").read_text().splitlines()]
    for name, changed in (("same", rows), ("other", rows[1:])):
        write(tmp_path / name / "allenai" / "ai2_arc" / "ARC-Easy", "test", changed)
    digests = [data_digest(root, [(data_set(task), task.name)]) for root in (data, tmp_path / "same", tmp_path / "other")]
    assert digests[0] == digests[1] != digests[2]


def test_template_hash_is_that_of_the_task(data: Path, loaded: tuple[Any, Any], tmp_path: Path) -> None:
    hashes = {template_hash(task) for task in tasks_of("mmlu")}
    assert len(hashes) == len(SUBJECTS)
    tables: list[pa.Table] = [asked(loaded, name, data, tmp_path).means for name in ("arc_easy", "truthfulqa_mc1")]
    assert len({table["template_hash"][0].as_py() for table in tables}) == 2
