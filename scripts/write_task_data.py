"""Write the data of MMLU, TruthfulQA and ARC as a folder for `evaluate.task_data`, from files as they are passed around without the Hub.

    python scripts/write_task_data.py SOURCE TARGET

SOURCE holds some of these, as .jsonl or .jsonl.gz; what it lacks is left out:

    mmlu_dev, mmlu_test           subject, question, choices (four), answer (the index of the right one)
    truthfulqa_mc                 question, mc1_targets and mc2_targets: 1 or 0 for each choice; the right one of MC1 stands first
    arc_easy, arc_challenge       query ("Question: ..."), choices, gold (the index of the right one)

The files in TARGET have the names and the columns of the data sets on the Hub, and keep the order of the questions.
"""

import argparse
import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from kp.errors import UserError
from kp.facts.jsonl import read_jsonl

ENDINGS = (".jsonl", ".jsonl.gz")
ARC_PREFIX = "Question: "  # which the task itself puts before a question
LETTERS = "ABCDEFGH"

Rows = dict[str, list[dict[str, Any]]]
"""The rows of a file, by its name in TARGET."""


def mmlu(split: str, rows: Iterator[Mapping[str, Any]]) -> Rows:
    """One file a subject."""
    made: Rows = {}
    for row in rows:
        _check(len(row["choices"]) == 4 and row["answer"] in range(4), "expected four choices and answer from 0 to 3", row)
        kept = {name: row[name] for name in ("question", "subject", "choices", "answer")}
        made.setdefault(f"cais/mmlu/{row['subject']}/{split}.jsonl", []).append(kept)
    return made


def truthfulqa(rows: Iterator[Mapping[str, Any]]) -> Rows:
    """Targets as lists of choices and labels."""
    made = [{"question": row["question"], **{name: _targets(row, name) for name in ("mc1_targets", "mc2_targets")}} for row in rows]
    return {"truthfulqa/truthful_qa/multiple_choice/validation.jsonl": made}


def _targets(row: Mapping[str, Any], name: str) -> dict[str, list[Any]]:
    choices, labels = list(row[name]), list(row[name].values())
    _check(set(labels) == {0, 1}, f"expected 1 and 0 in {name}", row)
    # lm-eval takes the first choice of MC1 for the right one.
    _check(name != "mc1_targets" or labels == [1] + [0] * (len(labels) - 1), "expected the one right choice of mc1_targets first", row)
    return {"choices": choices, "labels": labels}


def arc(config: str, rows: Iterator[Mapping[str, Any]]) -> Rows:
    """Choices with letters, and questions without the words that the task puts before them."""
    made = []
    for number, row in enumerate(rows):
        _check(
            row["gold"] in range(len(row["choices"])) and len(row["choices"]) <= len(LETTERS), "expected gold, the index of a choice", row
        )
        letters = list(LETTERS[: len(row["choices"])])
        asked = {"id": f"{config}-{number}", "question": row["query"].removeprefix(ARC_PREFIX)}
        made.append(asked | {"choices": {"text": row["choices"], "label": letters}, "answerKey": letters[row["gold"]]})
    return {f"allenai/ai2_arc/{config}/test.jsonl": made}


SOURCES: dict[str, Callable[[Iterator[Mapping[str, Any]]], Rows]] = {
    "mmlu_dev": lambda rows: mmlu("dev", rows),
    "mmlu_test": lambda rows: mmlu("test", rows),
    "truthfulqa_mc": truthfulqa,
    "arc_easy": lambda rows: arc("ARC-Easy", rows),
    "arc_challenge": lambda rows: arc("ARC-Challenge", rows),
}


def _check(right: bool, expected: str, row: Mapping[str, Any]) -> None:
    if not right:
        raise UserError(f"{expected}: {json.dumps(row)[:200]}")


def write_task_data(source: Path, target: Path) -> dict[str, int]:
    """Write everything that `source` has; returns the questions of each of its files. Raises UserError naming the file and the row."""
    found = {name: next((file for ending in ENDINGS if (file := source / f"{name}{ending}").is_file()), None) for name in SOURCES}
    if not any(found.values()):
        raise UserError(f"{source}: holds none of {', '.join(SOURCES)}, as {' or '.join(ENDINGS)}", field="SOURCE")
    counts = {}
    for name, file in found.items():
        if file is not None:
            made = _converted(name, file)
            counts[name] = sum(map(len, made.values()))
            for path, rows in made.items():
                _write(target / path, rows)
    return counts


def _converted(name: str, file: Path) -> Rows:
    try:
        return SOURCES[name](read_jsonl(file, "SOURCE"))
    except (KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{file}: a row lacks a column, or has another kind of value in it: {error}", field="SOURCE") from error
    except UserError as error:
        raise UserError(f"{file}: {error.message}", field="SOURCE") from error


def _write(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def main() -> int:
    """Write the folder, print a line for each file of the source."""
    parser = argparse.ArgumentParser(description="Write a folder for evaluate.task_data.")
    parser.add_argument("source", type=Path, help="folder with files as the docstring of this script lists them")
    parser.add_argument("target", type=Path, help="folder to write; files that are there are replaced")
    options = parser.parse_args()
    try:
        for name, count in write_task_data(options.source, options.target).items():
            print(f"{name}: {count:,} questions")
    except UserError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
