"""The multiple-choice questions of `kp bench benchmarks`, as lm-eval asks them.

Both implementations are handed the same requests of lm-eval: the prompt with its shots and, for each of the four letters, that letter.
MMLU's own questions are not part of kp; without them the task kp_mmlu_dev is asked, whose shots differ from question to question.
"""

import gzip
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kp.bench.options import BenchmarksOptions
from kp.benchmarks.lm_eval_tasks import load_task
from kp.data.tasks import mmlu_dev
from kp.errors import UserError

_FIELDS = {"subject": str, "question": str, "choices": list, "answer": int}
_NAMED = 3  # subjects that a message names


@dataclass(frozen=True)
class ScoredQuestion:
    """A question: its subject, the index of its right choice, and lm-eval's requests, one for each choice."""

    subject: str
    answer: int
    requests: tuple[Any, ...]  # lm_eval.api.instance.Instance

    @property
    def prompt(self) -> str:
        """Shots and question."""
        return str(self.requests[0].args[0])


@dataclass(frozen=True)
class AskedQuestions:
    """What is asked: where the questions are from, what a reader must know of it, and the questions, subjects together."""

    source: str
    note: str
    questions: list[ScoredQuestion]


def load_asked_questions(options: BenchmarksOptions) -> AskedQuestions:
    """The first `per_subject` questions of every subject; raises UserError if the folder does not hold MMLU."""
    shots, changes = options.n_shots, {"num_fewshot": options.n_shots}
    if options.mmlu is None:
        note = "No --mmlu: MMLU's development questions, whose shots are others of their subject and differ from question to question"
        task, rows = load_task("kp_mmlu_dev", changes), mmlu_dev.load_questions()
        askable = mmlu_dev.draw(mmlu_dev.askable(shots), shots, 0)
        asked = _first_of_each([rows[index].subject for index in askable], options.per_subject)
        return AskedQuestions("kp_mmlu_dev", note, _questions(task, [askable[place] for place in asked]))
    examples, tests = _read(options.mmlu, "mmlu_dev"), _read(options.mmlu, "mmlu_test")
    _validate_shots(examples, tests, shots)
    chosen = [tests[place] for place in _first_of_each([row["subject"] for row in tests], options.per_subject)]

    def dataset(**_: object) -> dict[str, Any]:
        from datasets import Dataset

        # The task's shots are the first others of the subject, so in front of the questions they are development questions.
        return {"test": Dataset.from_list([{"row": number, **row} for number, row in enumerate([*examples, *chosen])])}

    note = "MMLU's test questions behind development questions of their subject"
    task = load_task("kp_mmlu_dev", changes | {"custom_dataset": dataset})
    return AskedQuestions("MMLU", note, _questions(task, range(len(examples), len(examples) + len(chosen))))


def _first_of_each(subjects: Sequence[str], count: int) -> list[int]:
    """The places of the first `count` of every subject, subjects together."""
    places: dict[str, list[int]] = {}
    for place, subject in enumerate(subjects):
        if len(taken := places.setdefault(subject, [])) < count:
            taken.append(place)
    return [place for taken in places.values() for place in taken]


def _questions(task: Any, indices: Sequence[int]) -> list[ScoredQuestion]:
    task.build_all_requests(samples=list(indices))
    by_row: dict[int, list[Any]] = {}
    for request in task.instances:
        by_row.setdefault(request.doc["row"], []).append(request)
    docs = [task.eval_docs[index] for index in indices]
    return [ScoredQuestion(doc["subject"], doc["answer"], tuple(by_row[doc["row"]])) for doc in docs]


def _read(folder: Path, name: str) -> list[dict[str, Any]]:
    file = next((found for ending in ("jsonl", "jsonl.gz") if (found := folder / f"{name}.{ending}").is_file()), None)
    if file is None:
        raise UserError(f"'{folder}' is no folder with {name}.jsonl or {name}.jsonl.gz", field="mmlu")
    data = file.read_bytes()
    try:
        text = (gzip.decompress(data) if file.suffix == ".gz" else data).decode("utf-8")
        rows = [json.loads(line) for line in text.split("\n") if line]  # other line separators occur in questions
    except (OSError, EOFError, ValueError) as error:
        raise UserError(f"{file} cannot be read: {error}", field="mmlu") from None
    for number, row in enumerate(rows, start=1):
        if not _is_question(row):
            raise UserError(f"{file}, line {number}: expected subject, question, four choices and answer (0 to 3)", field="mmlu")
    return [{name: row[name] for name in _FIELDS} for row in rows]


def _is_question(row: Any) -> bool:
    right = isinstance(row, dict) and all(isinstance(row.get(name), kind) for name, kind in _FIELDS.items())
    return right and len(row["choices"]) == 4 and 0 <= row["answer"] < 4


def _validate_shots(shots: Sequence[dict[str, Any]], asked: Sequence[dict[str, Any]], wanted: int) -> None:
    counts = Counter(row["subject"] for row in shots)
    short = sorted({row["subject"] for row in asked if counts[row["subject"]] < wanted})
    if short:
        raise UserError(f"{wanted} asked, {', '.join(short[:_NAMED])} have fewer development questions", field="shots")
