"""What the implementations are asked: the chats of a study, in a study's order.

Chats are ordered by prompt, all questions under the first prompt first, as in a study and in the released script.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kp.bench.options import CategoriseOptions
from kp.errors import UserError
from kp.facts.jsonl import read_jsonl
from kp.metrics.matching import match_all
from kp.prompts import PROMPTS_PER_SET, Messages, builtin_prompts, messages
from kp.vocabulary import Category, ShotSet

FIELD = "questions"  # the option that names their file, in messages


@dataclass(frozen=True)
class Question:
    """A question and its right answers; empty if they are not known."""

    text: str
    answers: tuple[str, ...]


def load_questions(options: CategoriseOptions) -> list[Question]:
    """`options.facts` questions drawn by `options.seed`.

    Raises UserError naming the option or the row if there are too few, or if one cannot be read.
    """
    if options.questions is None:
        return draw_builtin(options.facts, options.seed)
    return _drawn(_from_file(options.questions), options.facts, options.seed, str(options.questions))


def draw_builtin(count: int, seed: int) -> list[Question]:
    """`count` questions about the built-in facts, drawn by `seed`; raises UserError if there are too few."""
    return _drawn(_builtin(), count, seed, "the built-in facts")


def _drawn(found: list[Question], count: int, seed: int, source: str) -> list[Question]:
    if len(found) < count:
        raise UserError(f"{count} are asked for, {source} hold {len(found)}", field="facts")
    return random.Random(seed).sample(found, count)


def chats(questions: Sequence[Question]) -> list[Messages]:
    """Each question under each prompt of S0, prompt by prompt: chat [prompt * len(questions) + question]."""
    return [messages(shots, question.text) for shots in builtin_prompts(ShotSet.S0) for question in questions]


def of_first(answers: Sequence[str], questions: int) -> list[str]:
    """From answers to `chats`, those to the first `questions` questions, in the same order."""
    asked = len(answers) // PROMPTS_PER_SET
    return [answer for start in range(0, len(answers), asked) for answer in answers[start : start + questions]]


def categories(questions: Sequence[Question], answers: Sequence[str]) -> list[Category]:
    """The category of each question by the strict matcher; `answers` are those to `chats(questions)`."""
    right = [match_all(answer, questions[index % len(questions)].answers).strict for index, answer in enumerate(answers)]
    return [Category.of(sum(right[index :: len(questions)]), PROMPTS_PER_SET) for index in range(len(questions))]


def have_answers(questions: Sequence[Question]) -> bool:
    """Whether categories can be assigned."""
    return all(question.answers for question in questions)


def _builtin() -> list[Question]:
    try:
        from kp.facts.builtin import load_builtin
    except ModuleNotFoundError as error:
        raise UserError(f"the built-in facts need the package {error.name}, which is not here; name a .jsonl file", field=FIELD) from error
    facts = load_builtin().select(["question", "answers"]).to_pylist()
    return [Question(fact["question"], tuple(fact["answers"])) for fact in facts]


def _from_file(file: Path) -> list[Question]:
    return [_question(row, f"{file}: question {number}") for number, row in enumerate(read_jsonl(file, FIELD), start=1)]


def _question(row: dict[str, Any], where: str) -> Question:
    text = row.get("question")
    if not isinstance(text, str) or not text.strip():
        raise UserError(f"{where}: 'question' must be a text that is not empty", field=FIELD)
    answers = row.get("answers", [row["answer"]] if "answer" in row else [])
    if not isinstance(answers, list) or not all(isinstance(answer, str) and answer.strip() for answer in answers):
        raise UserError(f"{where}: 'answer' must be a text, or 'answers' a list of texts, none of them empty", field=FIELD)
    return Question(text.strip(), tuple(answers))
