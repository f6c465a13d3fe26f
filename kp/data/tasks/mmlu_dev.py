"""MMLU's development questions, read out of the installed lm-eval package.

lm-eval carries them as the worked examples of its chain-of-thought MMLU tasks, so a machine without a model hub can still be asked real
MMLU questions, and none of them needs to be copied. Of MMLU's 285 it carries 282: one each of college chemistry, formal logic and human
aging is missing there. One more, of college chemistry, comes with five options and is left out, for MMLU has four; and MMLU has one of
college physics twice, which is kept once, or its answer would stand among its own shots. That leaves 280.
"""

import importlib.metadata
import importlib.util
import re
from collections import Counter
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

from kp.data.tasks.drawing import draw_in_turn
from kp.errors import UserError

_CARRIED = 282
_KEPT = 280
_SUBJECTS = 57
_OPTIONS = re.compile(r"\s*\n\(A\) (.*?)\s*\(B\) (.*?)\s*\(C\) (.*?)\s*\(D\) (.*?)\s*(\(E\).*)?\Z", re.DOTALL)
_VERDICT = re.compile(r"answer is \(([A-E])\)\.?\s*\Z")
# The end of one worked solution slipped into the question after it; "actorial" is what a lost backslash left of "\factorial".
_STRAY_SOLUTION = re.compile(r"\A.*actorial\{n\}.*?\n(?=Find )", re.DOTALL)


@dataclass(frozen=True)
class MmluQuestion:
    """A question with four choices; `answer` is the index of the right one."""

    subject: str
    question: str
    choices: tuple[str, ...]
    answer: int


@cache
def load_questions() -> tuple[MmluQuestion, ...]:
    """All questions fit to ask, ordered by subject and then as lm-eval has them; raises UserError where lm-eval carries others."""
    read = [parsed for file in _files() for parsed in _read_file(file)]
    questions = tuple(dict.fromkeys(question for question in read if question is not None))
    found = len(read), len(questions), len({question.subject for question in questions})
    if found != (_CARRIED, _KEPT, _SUBJECTS):
        raise UserError(
            f"lm-eval {importlib.metadata.version('lm-eval')} carries {found[0]} MMLU development questions, {found[1]} "
            f"of them fit to ask, of {found[2]} subjects; expected {_CARRIED}, {_KEPT} and {_SUBJECTS}",
            field="evaluate.mmlu_dev",
        )
    return questions


def askable(shots: int) -> int:
    """How many questions have at least `shots` others of their subject."""
    return sum(count for count in _per_subject().values() if count > shots)


def draw(count: int, shots: int, seed: int) -> list[int]:
    """Ascending indices into `load_questions()` of `count` questions with at least `shots` others of their subject.

    Every subject has its turn, and the draw of a smaller count is part of the draw of a larger one. `count` is at most `askable(shots)`.
    """
    sizes = _per_subject()
    return draw_in_turn([row.subject if sizes[row.subject] > shots else None for row in load_questions()], count, seed)


def dataset(**_: object) -> dict[str, Any]:
    """All questions as lm-eval's split `test`; which of them are asked is for its `samples` to say."""
    from datasets import Dataset

    return {"test": Dataset.from_list([{"row": row, **asdict(question)} for row, question in enumerate(load_questions())])}


def _per_subject() -> Counter[str]:
    return Counter(question.subject for question in load_questions())


def _files() -> list[Path]:
    spec = importlib.util.find_spec("lm_eval")
    if spec is None or spec.origin is None:
        raise UserError("lm-eval is not installed", field="evaluate.mmlu_dev")
    return sorted((Path(spec.origin).parent / "tasks" / "mmlu" / "flan_cot_fewshot").glob("mmlu_*.yaml"))


def _read_file(file: Path) -> list[MmluQuestion | None]:
    import yaml

    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    task = yaml.load(file.read_bytes(), Loader=loader)
    return [_parse(task["dataset_name"], sample["question"], sample["target"]) for sample in task["fewshot_config"]["samples"]]


def _parse(subject: str, text: str, solution: str) -> MmluQuestion | None:
    options = _OPTIONS.search(text)
    verdict = _VERDICT.search(solution)
    if options is None or verdict is None:
        raise UserError(f"lm-eval's MMLU question on {subject} has another form: {text[:60]!r}", field="evaluate.mmlu_dev")
    *choices, fifth = options.groups()
    if fifth:
        return None
    question = _STRAY_SOLUTION.sub("", text[: options.start()].strip())
    return MmluQuestion(subject, question, tuple(choices), "ABCD".index(verdict.group(1)))
