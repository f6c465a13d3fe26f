"""Two command lines out of one dataclass: what they take, and what they refuse."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from kp.bench.__main__ import main
from kp.bench.arguments import parse_options
from kp.bench.options import (
    VLLM_PYTHON,
    BenchmarksOptions,
    CategoriseOptions,
    Device,
    DType,
    DumpOptions,
    EvaluateOptions,
    Shape,
    TrainOptions,
)
from kp.config.docstrings import field_docstrings
from kp.errors import UserError
from kp.vocabulary import LossTokens


def _parse(*arguments: str) -> CategoriseOptions:
    return parse_options(CategoriseOptions, "bench", arguments)


def test_parse_options_without_arguments_gives_the_defaults() -> None:
    assert _parse() == CategoriseOptions()


def test_parse_options_reads_every_kind_of_field() -> None:
    parsed = _parse(
        "--facts", "12", "--shape", "llama-3.1-8b", "--dtype", "float32", "--threads", "3", "--json", "out.json", "--device", "cuda:1"
    )

    assert parsed == CategoriseOptions(
        facts=12, shape=Shape.LLAMA_3_1_8B, dtype=DType.FLOAT32, threads=3, json=Path("out.json"), device="cuda:1"
    )


def test_parse_options_of_an_unknown_choice_names_the_choices(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        _parse("--dtype", "float16")

    assert "bfloat16" in capsys.readouterr().err


def test_parse_options_reads_numbers_with_a_fraction() -> None:
    parsed = parse_options(TrainOptions, "bench", ["--learning-rate", "5e-4", "--loss", "answer", "--device", "cpu", "--dropout", "0.1"])

    assert parsed == TrainOptions(learning_rate=5e-4, loss=LossTokens.ANSWER, device=Device.CPU, dropout=0.1)


@pytest.mark.parametrize("options", [BenchmarksOptions, CategoriseOptions, DumpOptions, EvaluateOptions, TrainOptions])
def test_options_have_a_docstring_under_every_field(options: type[Any]) -> None:
    assert set(field_docstrings(options)) == {field.name for field in dataclasses.fields(options)}


def test_options_take_the_vllm_interpreter_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VLLM_PYTHON, "/some/python")
    assert _parse().vllm_python == Path("/some/python")
    assert _parse("--vllm-python", "/another").vllm_python == Path("/another")

    monkeypatch.delenv(VLLM_PYTHON)
    assert _parse().vllm_python is None


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("facts", 0, "facts: 0"),
        ("threads", 0, "threads: 0"),
        ("exact", -1, "exact: -1"),
        ("json", Path("a.txt"), r"json: 'a\.txt'"),
        ("continuous_facts", 301, "continuous_facts: 301, expected 0 to 300"),
        ("continuous_facts", -1, "continuous_facts: -1"),
    ],
)
def test_options_out_of_range_are_refused_by_name(field: str, value: object, message: str) -> None:
    with pytest.raises(UserError, match=message):
        CategoriseOptions(**{field: value})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("facts", 0, "facts: 0"),
        ("epochs", 0, "epochs: 0"),
        ("batch_size", 0, "batch_size: 0"),
        ("rank", 0, "rank: 0"),
        ("threads", 0, "threads: 0"),
        ("seed", -1, "seed: -1"),
        ("paraphrases", 11, "paraphrases: 11, expected 0 to 10"),
        ("learning_rate", 0.0, "learning_rate: 0"),
        ("learning_rate", float("nan"), "learning_rate: nan"),
        ("dropout", 1.0, "dropout: 1"),
        ("json", Path("a.md"), r"json: 'a\.md'"),
    ],
)
def test_train_options_out_of_range_are_refused_by_name(field: str, value: object, message: str) -> None:
    with pytest.raises(UserError, match=message):
        TrainOptions(**{field: value})  # type: ignore[arg-type]


def test_main_of_bad_input_says_what_is_wrong_and_exits_with_two(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["categorise", "--rounds", "0"]) == 2
    assert "rounds: 0" in capsys.readouterr().err
    assert main(["train", "--json", "/no/such/folder/train.json"]) == 2
    assert "json: /no/such/folder is no folder" in capsys.readouterr().err
    assert main(["dancing"]) == 2
    assert "usage" in capsys.readouterr().err
