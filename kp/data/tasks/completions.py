"""Everyday sentences to be completed: common sense and plain grammar, easy enough that a small model is far above chance.

So a small model has something to lose here, where it only guesses on questions of school subjects.
"""

import json
from functools import cache
from importlib import resources
from typing import Any

from kp.data.tasks.drawing import draw_in_turn
from kp.errors import UserError


@cache
def load_sentences() -> tuple[dict[str, Any], ...]:
    """Rows of `topic`, `start`, `endings` (three) and `right` (the place of the sensible one); raises UserError naming a bad row."""
    text = resources.files("kp").joinpath("data", "completions.jsonl").read_text(encoding="utf-8")
    rows = tuple(json.loads(line) for line in text.splitlines())
    for number, row in enumerate(rows, start=1):
        if len(set(row["endings"])) != 3 or row["right"] not in range(3):
            raise UserError(f"completions.jsonl: row {number}: expected three different endings, one of them right")
    return rows


def draw(count: int, seed: int) -> list[int]:
    """Ascending indices into `load_sentences()` of `count` sentences, over the topics in turn."""
    return draw_in_turn([row["topic"] for row in load_sentences()], count, seed)


def dataset(**_: object) -> dict[str, Any]:
    """All sentences as lm-eval's split `test`."""
    from datasets import Dataset

    return {"test": Dataset.from_list(list(load_sentences()))}
