"""The whole benchmark of evaluating adapters, on a tiny model."""

import json
from pathlib import Path
from typing import Any

import pytest

from kp.bench.evaluate import run_evaluate
from kp.bench.evaluate_outcome import full_tokens
from kp.bench.evaluate_table import text
from kp.bench.options import DType, EvaluateOptions
from kp.errors import UserError
from kp.generation.decoding import Work
from tests.conftest import run_kp
from tests.tiny_model import save_tiny_model

LAYERS, FACTS, ADAPTERS, ROUNDS = 16, 6, 2, 1
FIRST = {"all": 0, "upper:15": 1, "upper:8": 8}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random model with as many layers as the upper ones that the benchmark adapts, and one more."""
    return save_tiny_model(tmp_path_factory.mktemp("model"), LAYERS)


def options(folder: Path, **others: Any) -> EvaluateOptions:
    settings: dict[str, Any] = {"model": str(folder), "facts": FACTS, "adapters": ADAPTERS, "rounds": ROUNDS, "threads": 2, "processes": 2}
    settings |= {"max_new_tokens": 8, "dtype": DType.FLOAT32, "device": "cpu", "released_prompts": 8}
    return EvaluateOptions(**settings | others)


@pytest.fixture(scope="module")
def result(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    target = tmp_path_factory.mktemp("result") / "result.json"
    assert run_evaluate(options(folder, json=target)) == 0
    found: dict[str, Any] = json.loads(target.read_text(encoding="utf-8"))
    assert "upper:8" in target.with_suffix(".md").read_text(encoding="utf-8")
    return found


def test_benchmark_gives_the_same_float32_answers_in_both_ways(result: dict[str, Any]) -> None:
    assert {kind: line["equal_answers"] for kind, line in result["lines"].items()} == dict.fromkeys(FIRST, 1.0)


def test_benchmark_asks_every_adapter_every_prompt_in_each_round(result: dict[str, Any]) -> None:
    assert {kind: line["first_layer"] for kind, line in result["lines"].items()} == FIRST
    for line in result["lines"].values():
        for way in (line["kp"], line["peer"]):
            assert (way["adapters"], way["prompts"]) == (ADAPTERS * ROUNDS, ADAPTERS * ROUNDS * FACTS * 10)
            assert len(way["rounds"]) == ROUNDS
            assert way["seconds"] == pytest.approx(sum(way["rounds"]))


def test_benchmark_ratios_follow_from_seconds(result: dict[str, Any]) -> None:
    lines = result["lines"]
    for line in lines.values():
        assert line["ratio"]["all"] == pytest.approx(line["peer"]["seconds"] / line["kp"]["seconds"])
        assert line["answering_ratio"] == pytest.approx(line["kp"]["prompts_per_s"] / line["peer"]["prompts_per_s"])
        assert line["of_all_layers"] == pytest.approx(line["further_adapter_seconds"] / lines["all"]["further_adapter_seconds"])
    assert result["released"]["kp_is_faster"] == pytest.approx(lines["all"]["kp"]["prompts_per_s"] / result["released"]["prompts_per_s"])


def test_benchmark_keeps_lower_layers_only_for_adapters_that_leave_them_alone(result: dict[str, Any]) -> None:
    kept = {kind: line["kept_bytes"] for kind, line in result["lines"].items()}
    assert kept["all"] == 0
    assert kept["upper:15"] > 0
    assert kept["upper:8"] > 0


def test_benchmark_table_fits_a_terminal(result: dict[str, Any]) -> None:
    printed = text(result | {"model": result["model"] | {"name": "m"}, "machine": result["machine"] | {"processor": "p"}})
    assert max(map(len, printed.splitlines())) <= 80


def test_full_tokens_count_a_token_by_the_layers_that_it_passes() -> None:
    work = Work(prefix_tokens=10, prompt_tokens=60, answer_tokens=30, lower_tokens=40)
    assert full_tokens(work, 0.0) == 100
    assert full_tokens(work, 0.75) == 25 + 30


def test_benchmark_of_a_model_with_too_few_layers_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"model: 'upper:15' of a model of 2 layers"):
        run_evaluate(options(save_tiny_model(tmp_path)))


def test_kp_bench_evaluate_takes_the_same_options() -> None:
    done = run_kp("bench", "evaluate", "--adapters", "0")
    assert (done.returncode, done.stdout) == (2, "")
    assert "adapters: 0, expected 1 or more" in done.stderr
