"""`kp bench benchmarks`: its questions, what it makes of measurements, and how it says it."""

import math
from pathlib import Path
from typing import Any

import pytest

from kp.bench.options import BenchmarksOptions, DType
from kp.bench.scoring import portions_of_subjects, spread
from kp.bench.scoring_implementations import ScoringTurn
from kp.bench.scoring_outcome import TOLERANCE, agreement_of_likelihoods
from kp.bench.scoring_questions import ScoredQuestion, load_asked_questions
from kp.bench.scoring_table import markdown, text
from kp.errors import UserError
from kp.generation.decoding import Work
from tests.made_up_mmlu import save_mmlu


@pytest.mark.parametrize("compress", [True, False])
def test_asked_questions_of_a_folder_stand_behind_the_development_questions_of_their_subject(tmp_path: Path, compress: bool) -> None:
    asked = load_asked_questions(BenchmarksOptions(mmlu=save_mmlu(tmp_path, compress), per_subject=2))

    assert asked.source == "MMLU"
    assert [question.subject for question in asked.questions] == ["astronomy", "astronomy", "moral_disputes", "moral_disputes"]
    last = asked.questions[-1]
    assert (last.answer, [request.args[1] for request in last.requests]) == (1, [" A", " B", " C", " D"])
    shots = "".join(
        f"mmlu_dev {number}\u2028 of moral_disputes?\nA. a\nB. b\nC. c\nD. d\nAnswer: {'ABCD'[number % 4]}\n\n" for number in range(5)
    )
    opening = "The following are multiple choice questions (with answers) about moral disputes.\n\n"
    assert last.prompt == f"{opening}{shots}mmlu_test 1\u2028 of moral_disputes?\nA. a\nB. b\nC. c\nD. d\nAnswer:"


def test_asked_questions_without_a_folder_are_the_built_in_ones_and_say_so() -> None:
    asked = load_asked_questions(BenchmarksOptions(per_subject=1, shots=3))

    assert asked.source == "kp_mmlu_dev"
    assert asked.note.startswith("No --mmlu")
    assert len(asked.questions) == len({question.subject for question in asked.questions}) > 50
    assert all(question.prompt.count("\nAnswer:") == 4 for question in asked.questions)


@pytest.mark.parametrize("folder", ["", "no such"])
def test_asked_questions_of_a_folder_without_mmlu_are_refused(tmp_path: Path, folder: str) -> None:
    with pytest.raises(UserError, match=r"mmlu: '.*' is no folder with mmlu_dev\.jsonl or mmlu_dev\.jsonl\.gz"):
        load_asked_questions(BenchmarksOptions(mmlu=tmp_path / folder))


@pytest.mark.parametrize(
    "row", ["{", "[]", '{"subject": "a"}', '{"subject": "a", "question": "q", "choices": ["1", "2", "3"], "answer": 0}']
)
def test_asked_questions_of_a_bad_line_are_refused(tmp_path: Path, row: str) -> None:
    (save_mmlu(tmp_path, compress=False) / "mmlu_test.jsonl").write_text(row + "\n")
    with pytest.raises(UserError, match=r"^mmlu: .*mmlu_test\.jsonl"):
        load_asked_questions(BenchmarksOptions(mmlu=tmp_path))


def test_asked_questions_with_more_shots_than_there_are_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="shots: 4 asked, astronomy, moral_disputes have fewer development questions"):
        load_asked_questions(BenchmarksOptions(mmlu=save_mmlu(tmp_path, shots=3), shots=4))


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("per_subject", 0, "per_subject: 0"),
        ("shots", 5, "shots: 5, every question of kp_mmlu_dev has 0 to 4"),
        ("shots", -1, "shots: -1"),
        ("hf_questions", 2, "hf_questions: 2, expected one or more for each of 3 rounds"),
        ("hf_batch_size", 0, "hf_batch_size: 0"),
        ("json", Path("a.md"), r"json: 'a\.md'"),
    ],
)
def test_benchmarks_options_out_of_range_are_refused_by_name(field: str, value: object, message: str) -> None:
    with pytest.raises(UserError, match=message):
        BenchmarksOptions(**{field: value})  # type: ignore[arg-type]


def _question(subject: str, number: int = 0) -> ScoredQuestion:
    class Request:
        args = (f"{subject} {number}", " A")

    return ScoredQuestion(subject, 1, (Request(), Request()))


def test_portions_have_whole_subjects() -> None:
    questions = [_question(subject, number) for subject in "abcde" for number in range(2)]
    portions = portions_of_subjects(questions, 2)
    assert [[question.prompt for question in portion] for portion in portions] == [
        ["a 0", "a 1", "c 0", "c 1", "e 0", "e 1"],
        ["b 0", "b 1", "d 0", "d 1"],
    ]


def test_spread_takes_evenly() -> None:
    assert spread("abcdef", 3) == ["a", "c", "e"]
    assert spread("ab", 3) == ["a", "b"]


def _turn(likelihoods: list[tuple[float, bool]], subject: str = "a") -> ScoringTurn:
    return ScoringTurn([_question(subject)], [likelihoods], 2.0, Work(prompt_tokens=10))


@pytest.mark.parametrize(("theirs", "largest", "equal"), [(-1.00005, 5e-5, True), (-1.1, 0.1, False), (math.nan, math.inf, False)])
def test_agreement_holds_the_largest_difference_to_the_tolerance(theirs: float, largest: float, equal: bool) -> None:
    kp = [_turn([(-5.0, False)] * 2, "b"), _turn([(-2.0, False), (-1.0, True)])]
    found = agreement_of_likelihoods(kp, [_turn([(-2.0, False), (theirs, True)])], TOLERANCE[DType.FLOAT32])
    assert found["largest_difference"] == pytest.approx(largest)
    assert (found["questions"], found["choices"], found["equal"]) == (1, 2, equal)


def test_agreement_counts_choices_and_greedy_tokens() -> None:
    kp, hf = _turn([(-2.0, False), (-1.0, True)]), _turn([(-1.0, False), (-2.0, False)])
    found = agreement_of_likelihoods([kp], [hf], TOLERANCE[DType.FLOAT32])
    assert (found["same_greedy"], found["same_choice"]) == (0.5, 0.0)


RESULT: dict[str, Any] = {
    "bench": "benchmarks",
    "model": {"name": "m", "parameters": 2_000_000, "dtype": "float32"},
    "machine": {"device": "cpu", "processor": "P", "cores": 2, "threads": 1, "memory_gib": 8, "python": "3.11"},
    "versions": {"torch": "2", "transformers": "5", "lm_eval": "0.4"},
    "asked": {"source": "MMLU", "note": "a note", "questions": 570, "subjects": 57, "shots": 5, "mean_prompt_tokens": 629.4},
    "implementations": {
        name: {
            "way": "a way",
            "questions": 10,
            "seconds": 5.0,
            "questions_per_s": rate,
            "accuracy": 0.25,
            "rounds": [{"questions": 10, "seconds": 5.0}],
            "tokens_read": {"per_question": 146.3},
        }
        for name, rate in (("kp", 2.0), ("hf", 0.5))
    },
    "ratios": {"hf": {"all": 4.0, "rounds": [4.0]}},
    "agreement": {
        "choices": 40,
        "largest_difference": 2e-5,
        "median_difference": 1e-5,
        "tolerance": 1e-4,
        "equal": True,
        "same_greedy": 1.0,
        "same_choice": 1.0,
    },
    "references": {"prefill_tokens_per_s": 1000.0},
    "kp": {"tokens_per_s": 800.0},
}


def test_text_has_rates_ratio_tokens_and_share_within_80_columns() -> None:
    lines = text(RESULT).splitlines()
    assert lines[0] == "kp bench benchmarks"
    assert any(line.split() == ["kp", "10", "5.0", "2.00", "-", "146.3", "25.0%"] for line in lines)
    assert any(line.split() == ["hf", "10", "5.0", "0.50", "4.00", "times", "146.3", "25.0%"] for line in lines)
    assert any(line.split()[-3:] == ["800", "1,000", "80.0%"] for line in lines)
    assert max(len(line) for line in lines if "  " in line) <= 80


def test_text_of_different_log_likelihoods_shouts() -> None:
    worse = RESULT | {"agreement": RESULT["agreement"] | {"equal": False, "largest_difference": 0.3}}
    assert "THE LOG-LIKELIHOODS DIFFER: over 40 choices the largest difference is\n0.3 nats" in text(worse)


def test_markdown_has_a_title_and_the_same_tables() -> None:
    made = markdown(RESULT)
    assert made.startswith("# kp bench benchmarks\n")
    assert "| hf | 10 | 5.0 | 0.50 | 4.00 times | 146.3 | 25.0% |" in made
