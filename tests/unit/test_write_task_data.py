"""scripts/write_task_data.py: files of MMLU, TruthfulQA and ARC become the folder from which lm-eval's tasks are asked."""

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from kp.errors import UserError
from tests.loaded_script import load_script
from tests.made_up_mmlu import SUBJECTS, save_mmlu

script = load_script("write_task_data")

TRUTH = {
    "question": "What does a bell do?",
    "mc1_targets": {"It rings.": 1, "It flies.": 0},
    "mc2_targets": {"It rings.": 1, "It makes a sound.": 1, "It flies.": 0},
}
ARC = {"query": "Question: Which falls?", "choices": ["a stone", "a cloud", "a star"], "gold": 1}


def save(folder: Path, name: str, *rows: dict[str, Any]) -> Path:
    text = "".join(json.dumps(row) + "\n" for row in rows)
    (folder / f"{name}.jsonl.gz").write_bytes(gzip.compress(text.encode()))
    return folder


def written(target: Path, path: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (target / path).read_text(encoding="utf-8").split("\n") if line]


@pytest.mark.parametrize("compress", [True, False])
def test_mmlu_is_a_file_a_subject_and_split_in_the_order_of_the_source(tmp_path: Path, compress: bool) -> None:
    assert script.write_task_data(save_mmlu(tmp_path, compress), tmp_path / "data") == {"mmlu_dev": 10, "mmlu_test": 6}
    for subject in SUBJECTS:
        shots = written(tmp_path / "data", f"cais/mmlu/{subject}/dev.jsonl")
        assert [row["question"] for row in shots] == [f"mmlu_dev {number}\u2028 of {subject}?" for number in range(5)]
        assert [row["answer"] for row in written(tmp_path / "data", f"cais/mmlu/{subject}/test.jsonl")] == [0, 1, 2]
    assert len(list((tmp_path / "data").rglob("*.jsonl"))) == 4


def test_targets_of_truthfulqa_become_choices_with_labels(tmp_path: Path) -> None:
    script.write_task_data(save(tmp_path, "truthfulqa_mc", TRUTH), tmp_path / "data")
    (row,) = written(tmp_path / "data", "truthfulqa/truthful_qa/multiple_choice/validation.jsonl")
    assert row["mc1_targets"] == {"choices": ["It rings.", "It flies."], "labels": [1, 0]}
    assert row["mc2_targets"] == {"choices": ["It rings.", "It makes a sound.", "It flies."], "labels": [1, 1, 0]}


def test_arc_has_letters_and_no_words_that_the_task_adds(tmp_path: Path) -> None:
    script.write_task_data(save(tmp_path, "arc_challenge", ARC), tmp_path / "data")
    (row,) = written(tmp_path / "data", "allenai/ai2_arc/ARC-Challenge/test.jsonl")
    assert (row["question"], row["answerKey"], row["choices"]["label"]) == ("Which falls?", "B", ["A", "B", "C"])


@pytest.mark.parametrize(
    ("name", "row", "said"),
    [
        ("truthfulqa_mc", TRUTH | {"mc1_targets": {"It flies.": 0, "It rings.": 1}}, "expected the one right choice of mc1_targets first"),
        ("truthfulqa_mc", TRUTH | {"mc2_targets": {"It flies.": 0}}, "expected 1 and 0 in mc2_targets"),
        ("arc_easy", ARC | {"gold": 3}, "expected gold, the index of a choice"),
        ("arc_easy", {"query": "Which?"}, "a row lacks a column, or has another kind of value in it: 'gold'"),
        (
            "mmlu_dev",
            {"subject": "art", "question": "?", "choices": ["a", "b"], "answer": 0},
            "expected four choices and answer from 0 to 3",
        ),
    ],
)
def test_row_of_another_form_is_refused_with_its_file(tmp_path: Path, name: str, row: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError) as refused:
        script.write_task_data(save(tmp_path, name, row), tmp_path / "data")
    assert str(refused.value).startswith(f"SOURCE: {tmp_path / name}.jsonl.gz: {said}")
    assert not (tmp_path / "data").exists()


def test_folder_without_any_of_the_files_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"SOURCE: .*: holds none of mmlu_dev, mmlu_test, "):
        script.write_task_data(tmp_path, tmp_path / "data")
