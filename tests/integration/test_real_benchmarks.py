"""MMLU and TruthfulQA, the real ones, with the embedded model in float32: every number is that of plain lm-eval on the same files.

lm-eval loads the model and its tasks by itself here, so that nothing of kp's way stands on both sides. It reads every prompt whole, which
takes most of the time: on two idle cores about half an hour. `KP_REAL_QUESTIONS` asks fewer questions, a subject and of TruthfulQA.
"""

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import lm_eval.tasks
import pytest
from lm_eval import simple_evaluate
from lm_eval.models.huggingface import HFLM
from lm_eval.tasks import TaskManager

from kp.benchmarks.harness import GROUP_STEP, HarnessTables, TaskPart, ask_part, drawn_questions, put_together, task_parts
from kp.benchmarks.harness_tasks import HarnessTask, data_set, single_tasks
from kp.benchmarks.task_data import data_files
from kp.config.study import ModelConfig
from kp.models.loading import load_model, load_tokenizer, resolve_model
from kp.models.names import EMBEDDED, ResolvedModel
from tests.loaded_script import load_script
from tests.real_data import FOLDER, needs_real

LETTER = 1e-4  # nats, of an answer of one token
# Of an answer of several tokens, whose rounding adds up: of a question that was looked at, lm-eval's sums are up to 1.1e-4 nats from those
# in float64, and kp's 0.3e-4.
SENTENCE = 5e-4
SCORE = 1e-4
SUBJECTS, TRUTHS = 57, 817
PER_SUBJECT, COMPARED = (int(os.environ.get("KP_REAL_QUESTIONS", count)) for count in (10, 100))
SEED = 0

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3 * 3600)]

Questions = Mapping[HarnessTask, Sequence[int]]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with the data of tasks."""
    target = tmp_path_factory.mktemp("task_data")
    load_script("write_task_data").write_task_data(FOLDER, target)
    return target


@pytest.fixture(scope="module")
def base() -> ResolvedModel:
    return resolve_model(ModelConfig(name=EMBEDDED))


def asked(base: ResolvedModel, parts: Sequence[TaskPart], name: str, fewshot: int | None, data: Path, work: Path) -> HarnessTables:
    """What kp finds."""
    model, tokenizer = load_model(base, "float32", "cpu"), load_tokenizer(base)
    made = [ask_part(model, tokenizer, part, fewshot, data, 64, work) for part in parts]
    return put_together(name, single_tasks(name), "base", made)


def plain(base: ResolvedModel, questions: Questions, fewshot: int | None, data: Path, work: Path) -> dict[tuple[str, int], dict[str, Any]]:
    """What lm-eval finds, by task and question: samples of its own tasks with their data at another place, and of its own model class."""
    found = simple_evaluate(
        model=HFLM(pretrained=base.path, dtype="float32", device="cpu", batch_size=1),
        tasks=[str(_with_data(task, data, work)) for task in questions],
        num_fewshot=fewshot,
        samples={task.name: list(numbers) for task, numbers in questions.items()},
        bootstrap_iters=0,
        task_manager=TaskManager(include_defaults=False),
    )
    return {(task, sample["doc_id"]): sample for task, samples in found["samples"].items() for sample in samples}


def _with_data(task: HarnessTask, data: Path, work: Path) -> Path:
    """A task file for lm-eval that is its own but for the place of the data."""
    files = {file.name.split(".")[0]: str(file) for file in data_files(data, data_set(task), task.name)}
    place = {"dataset_path": "json", "dataset_name": None, "dataset_kwargs": {"data_files": files}}
    file = work / f"{task.name}.yaml"
    file.write_text(
        json.dumps({"include": str(Path(lm_eval.tasks.__file__).parent / task.file), **place}), encoding="utf-8"
    )  # JSON is YAML
    return file


def compare(found: HarnessTables, name: str, samples: Mapping[tuple[str, int], dict[str, Any]], nats: float) -> float:
    """Check every choice and score of these questions; returns the largest difference of a log-likelihood in nats."""
    places = {task.name: place for place, task in enumerate(single_tasks(name))}
    numbers = {key: GROUP_STEP * places[key[0]] + key[1] for key in samples}
    likelihoods: dict[int, list[float]] = {}
    for row in found.choices.to_pylist():
        likelihoods.setdefault(row["item"], []).append(row["log_likelihood"])
    scores = {(row["item"], row["metric"]): row["score"] for row in found.items.to_pylist()}
    differences = []
    for key, sample in samples.items():
        expected = [likelihood for likelihood, _ in sample["filtered_resps"]]
        assert likelihoods[numbers[key]] == pytest.approx(expected, abs=nats), key
        differences += [abs(one - other) for one, other in zip(likelihoods[numbers[key]], expected, strict=True)]
        for metric in sample["metrics"]:
            assert scores[numbers[key], metric] == pytest.approx(sample[metric], abs=SCORE), key
    return max(differences)


def told(found: HarnessTables) -> str:
    return ", ".join(
        f"{row['task']} {row['metric']} {row['value']:.4f} +- {row['standard_error']:.4f} (n {row['n']})" for row in found.means.to_pylist()
    )


@needs_real("mmlu_dev.jsonl.gz", "mmlu_test.jsonl.gz")
def test_mmlu_of_570_questions_has_the_likelihoods_and_accuracy_of_plain_lm_eval(base: ResolvedModel, data: Path, tmp_path: Path) -> None:
    tasks = single_tasks("mmlu")
    parts = task_parts(tasks, data, PER_SUBJECT * SUBJECTS, 5, SEED)
    questions = {task: [one for part in parts if part.task == task for one in part.questions] for task in tasks}
    assert {len(numbers) for numbers in questions.values()} == {PER_SUBJECT}
    found = asked(base, parts, "mmlu", 5, data, tmp_path)
    samples = plain(base, questions, 5, data, tmp_path)
    assert len(samples) == PER_SUBJECT * SUBJECTS
    largest = compare(found, "mmlu", samples, LETTER)
    (mean,) = (row for row in found.means.to_pylist() if row["metric"] == "acc")
    assert mean["value"] == sum(sample["acc"] for sample in samples.values()) / len(samples)
    assert (mean["n"], mean["num_fewshot"], mean["task_version"]) == (len(samples), 5, "1.0")
    print(f"{told(found)}; largest difference {largest:.1e} nats")


@needs_real("truthfulqa_mc.jsonl.gz")
@pytest.mark.parametrize("name", ["truthfulqa_mc1", "truthfulqa_mc2"])
def test_truthfulqa_of_817_questions_has_the_likelihoods_and_scores_of_plain_lm_eval_on_100(
    base: ResolvedModel, data: Path, tmp_path: Path, name: str
) -> None:
    tasks = single_tasks(name)
    found = asked(base, task_parts(tasks, data, None, None, SEED), name, None, data, tmp_path)
    assert {row["n"] for row in found.means.to_pylist()} == {TRUTHS}
    samples = plain(base, drawn_questions(dict.fromkeys(tasks, TRUTHS), COMPARED, SEED), None, data, tmp_path)
    assert len(samples) == COMPARED
    print(f"{told(found)}; largest difference on {COMPARED} {compare(found, name, samples, SENTENCE):.1e} nats")
