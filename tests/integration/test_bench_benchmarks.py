"""`kp bench benchmarks` on a tiny model, with lm-eval's real model class as the other implementation."""

import json
from pathlib import Path
from typing import Any

import pytest

from kp.bench.options import BenchmarksOptions, DType
from kp.bench.scoring import run_scoring
from kp.errors import UserError
from tests.conftest import run_kp
from tests.made_up_mmlu import save_mmlu
from tests.model_zoo import save_zoo_model
from tests.tiny_model import save_tiny_model


def options(folder: Path, **others: Any) -> BenchmarksOptions:
    settings: dict[str, Any] = {"mmlu": folder, "model": str(folder), "threads": 1, "device": "cpu", "hf_questions": 4, "rounds": 2}
    return BenchmarksOptions(**settings | {"json": folder / "result.json"} | others)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_mmlu(save_tiny_model(tmp_path_factory.mktemp("model")))


@pytest.fixture(scope="module")
def result(folder: Path) -> dict[str, Any]:
    assert run_scoring(options(folder)) == 0
    found: dict[str, Any] = json.loads((folder / "result.json").read_text())
    return found


def test_benchmark_rates_and_ratios_follow_from_counts_and_seconds(result: dict[str, Any]) -> None:
    kp, hf = result["implementations"]["kp"], result["implementations"]["hf"]
    assert ([turn["questions"] for turn in kp["rounds"]], [turn["questions"] for turn in hf["rounds"]]) == ([3, 3], [2, 2])
    for entry in (kp, hf):
        assert entry["questions_per_s"] == pytest.approx(entry["questions"] / sum(turn["seconds"] for turn in entry["rounds"]))
    assert result["ratios"]["hf"]["all"] == pytest.approx(kp["questions_per_s"] / hf["questions_per_s"])
    assert result["kp"]["share_of_prefill"] == pytest.approx(result["kp"]["tokens_per_s"] / result["references"]["prefill_tokens_per_s"])


def test_benchmark_log_likelihoods_equal_those_of_hflm(result: dict[str, Any]) -> None:
    found = result["agreement"]
    assert (found["questions"], found["choices"], found["equal"]) == (4, 16, True)
    assert found["largest_difference"] <= found["tolerance"] == 1e-4
    assert (found["same_greedy"], found["same_choice"]) == (1.0, 1.0)


def test_benchmark_counts_the_tokens_that_each_way_reads(result: dict[str, Any]) -> None:
    kp, hf = (result["implementations"][name]["tokens_read"] for name in ("kp", "hf"))
    assert hf["per_question"] == pytest.approx(result["asked"]["mean_prompt_tokens"], rel=0.05)
    assert kp["per_question"] < 0.7 * hf["per_question"]
    assert kp["prefix_tokens"] > 0


def test_benchmark_result_holds_no_text_of_a_question(result: dict[str, Any], folder: Path) -> None:
    assert "mmlu_test" not in (folder / "result.json").read_text()
    assert "mmlu_test" not in (folder / "result.md").read_text()
    assert result["asked"]["source"] in (folder / "result.md").read_text()


def test_benchmark_in_bfloat16_agrees_within_its_tolerance(folder: Path, tmp_path: Path) -> None:
    assert run_scoring(options(folder, dtype=DType.BFLOAT16, json=tmp_path / "bf16.json")) in (0, 1)
    assert json.loads((tmp_path / "bf16.json").read_text())["agreement"]["tolerance"] == 0.5


def test_benchmark_of_a_model_that_kp_scores_with_lm_evals_own_is_refused(tmp_path: Path) -> None:
    folder = save_mmlu(save_zoo_model(tmp_path, "falcon"))
    with pytest.raises(UserError, match="model: kp scores a falcon with lm-eval's own model"):
        run_scoring(options(folder))


def test_kp_bench_benchmarks_takes_the_same_options(folder: Path) -> None:
    done = run_kp("bench", "benchmarks", "--mmlu", folder, "--model", folder, "--rounds", "7")
    assert (done.returncode, done.stdout) == (2, "")
    assert "rounds: 7, MMLU has 6 questions" in done.stderr
