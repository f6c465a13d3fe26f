"""The whole benchmark on a tiny model, and the promise that it runs where torch and transformers are all there is."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from kp.bench.categorise import run_categorise
from kp.bench.options import VLLM_PYTHON, CategoriseOptions, DType
from kp.bench.table import text
from kp.errors import UserError
from kp.prompts import PROMPTS_PER_SET
from tests.conftest import REPOSITORY, run_kp
from tests.tiny_model import save_tiny_model

FACTS = 30
ROUNDS = 2
NOT_ON_A_BARE_BOX = ("ray", "peft", "polars", "pyarrow", "pydantic", "tyro", "rich")
# None in sys.modules makes an import fail as that of a package that is not installed.
BARE_BOX = f"import runpy, sys; sys.modules.update(dict.fromkeys({NOT_ON_A_BARE_BOX!r})); "


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model, and questions whose answers it sometimes gives."""
    folder = save_tiny_model(tmp_path_factory.mktemp("model"))
    rows = [{"question": f"What is {'x' * (number % 7)} {number}?", "answers": [str(number), "e"]} for number in range(FACTS)]
    (folder / "questions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def _options(folder: Path, **others: Any) -> CategoriseOptions:
    settings: dict[str, Any] = {"dtype": DType.FLOAT32, "facts": FACTS, "rounds": ROUNDS, "threads": 1, "device": "cpu"}
    settings |= {"max_new_tokens": 8, "vllm_python": None, "model": str(folder), "questions": folder / "questions.jsonl"}
    return CategoriseOptions(**settings | others)


def _run(folder: Path, target: Path, **others: Any) -> dict[str, Any]:
    assert run_categorise(_options(folder, json=target, **others)) == 0
    result: dict[str, Any] = json.loads(target.read_text())
    return result


@pytest.fixture(scope="module")
def result(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return _run(folder, tmp_path_factory.mktemp("result") / "result.json")


def test_benchmark_result_names_what_was_measured_and_where(result: dict[str, Any], folder: Path) -> None:
    assert (result["model"]["name"], result["model"]["dtype"]) == (str(folder), "float32")
    assert result["machine"]["threads"] == 1
    assert result["machine"]["cores"] == os.cpu_count()
    assert set(result["versions"]) == {"kp", "torch", "transformers"}
    assert result["asked"]["prompts"] == FACTS * PROMPTS_PER_SET
    assert "KP_VLLM_PYTHON" in result["implementations"]["vllm"]["left_out"]


def test_benchmark_rates_and_ratios_follow_from_counts_and_seconds(result: dict[str, Any]) -> None:
    kp, released = result["implementations"]["kp"], result["implementations"]["released"]

    assert [turn["prompts"] for turn in kp["rounds"]] == [FACTS * PROMPTS_PER_SET] * ROUNDS
    assert [turn["prompts"] for turn in released["rounds"]] == [128, 172]  # batches of 128, 128 and 44, each asked once
    for implementation in (kp, released):
        assert implementation["prompts"] == sum(turn["prompts"] for turn in implementation["rounds"])
        assert implementation["seconds"] == pytest.approx(sum(turn["seconds"] for turn in implementation["rounds"]))
        assert implementation["prompts_per_s"] == pytest.approx(implementation["prompts"] / implementation["seconds"])
    assert result["ratios"]["released"]["all"] == pytest.approx(kp["prompts_per_s"] / released["prompts_per_s"])
    assert len(result["ratios"]["released"]["rounds"]) == ROUNDS


def test_benchmark_counts_the_tokens_that_each_way_reads(result: dict[str, Any]) -> None:
    kp, released = (result["implementations"][name]["tokens_read"] for name in ("kp", "released"))
    whole = result["asked"]["mean_prompt_tokens"]

    assert kp["total"] == kp["prefix_tokens"] + kp["prompt_tokens"] + kp["answer_tokens"]
    assert kp["prefix_tokens"] > 0
    assert kp["prefix_tokens"] % ROUNDS == 0  # the shared prompts are computed anew in every round
    assert kp["per_prompt"] < whole / 2
    assert released["per_prompt"] >= whole


def test_benchmark_in_float32_gives_equal_answers_and_categories(result: dict[str, Any]) -> None:
    agreement = result["agreement"]["kp/released"]

    assert agreement == {"answers": FACTS * PROMPTS_PER_SET, "equal_answers": 1.0, "facts": FACTS, "equal_categories": 1.0}


def test_benchmark_of_continuous_batching_gives_equal_answers_in_every_round(folder: Path, tmp_path: Path) -> None:
    result = _run(folder, tmp_path / "result.json", facts=6, released_facts=2, continuous_facts=4)
    entry = result["implementations"]["continuous"]

    assert [turn["prompts"] for turn in entry["rounds"]] == [4 * PROMPTS_PER_SET] * ROUNDS
    assert result["agreement"]["kp/continuous"]["equal_answers"] == 1.0
    assert result["agreement"]["kp/continuous"]["answers"] == 4 * PROMPTS_PER_SET
    assert result["ratios"]["continuous"]["all"] > 0


def test_benchmark_shares_follow_from_their_references(result: dict[str, Any]) -> None:
    kp, references = result["kp"], result["references"]
    entry = result["implementations"]["kp"]

    assert kp["tokens_per_s"] == pytest.approx(entry["tokens_read"]["total"] / entry["seconds"])
    assert kp["share_of_prefill"] == pytest.approx(kp["tokens_per_s"] / references["prefill_tokens_per_s"])
    assert len(references["prefill_measured"]) == 2 * ROUNDS
    for name, rate in references["matmul_flops"].items():
        assert 0 < kp["share_of_matmul"][name] == pytest.approx(kp["flops"] / rate)


def test_benchmark_writes_a_markdown_table_beside_its_json_and_prints_within_80_columns(folder: Path, tmp_path: Path) -> None:
    result = _run(folder, tmp_path / "result.json", facts=2, rounds=1, released_facts=1)
    written = (tmp_path / "result.md").read_text()

    assert f"{result['implementations']['kp']['prompts_per_s']:.1f}" in written
    assert "kp/released" in written
    tables = text(result | {"model": result["model"] | {"name": "m"}}).splitlines()
    assert max(len(line) for line in tables if not line.startswith("vllm was left out")) <= 80


def test_exactness_holds_float32_answers_to_plain_generation_and_counts_what_bfloat16_changes(folder: Path, tmp_path: Path) -> None:
    result = _run(folder, tmp_path / "exact.json", exact=40, dtype=DType.BFLOAT16)

    assert (result["model"]["dtype"], result["float32"]["prompts"]) == ("float32", 40)
    assert (result["float32"]["equal"], result["float32"]["differences"]) == (40, [])
    assert result["bfloat16"]["answers"] == FACTS * PROMPTS_PER_SET
    assert sum(result["bfloat16"]["category_changes"].values()) == result["bfloat16"]["facts"] == FACTS


def test_exactness_of_a_model_that_answers_otherwise_counts_and_shows_the_differences(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kp.bench.exactness.plain_answer", lambda *_: "never said")

    result = _run(folder, tmp_path / "exact.json", exact=30, facts=3)

    assert (result["float32"]["equal"], result["float32"]["equal_answers"]) == (0, 0.0)
    assert len(result["float32"]["differences"]) == 20
    assert result["float32"]["differences"][0]["plain"] == "never said"


def test_exactness_of_more_prompts_than_there_are_is_refused(folder: Path) -> None:
    with pytest.raises(UserError, match="exact: 31 prompts, 3 facts make 30"):
        run_categorise(_options(folder, exact=31, facts=3))


def test_benchmark_with_an_interpreter_that_lacks_vllm_says_so(folder: Path) -> None:
    with pytest.raises(UserError, match="has no package vllm"):
        run_categorise(_options(folder, vllm_python=Path(sys.executable), facts=2, rounds=1))
    with pytest.raises(UserError, match="vllm_python: '/no/python' cannot be run"):
        run_categorise(_options(folder, vllm_python=Path("/no/python"), facts=2, rounds=1))


@pytest.mark.slow
@pytest.mark.skipif(VLLM_PYTHON not in os.environ, reason=f"${VLLM_PYTHON} names no interpreter with vLLM")
def test_benchmark_against_vllm_in_float32_gives_equal_answers(tmp_path: Path) -> None:
    options = CategoriseOptions(
        facts=4, rounds=1, dtype=DType.FLOAT32, released_facts=2, device="cpu", max_new_tokens=16, json=tmp_path / "result.json"
    )

    run_categorise(options)

    result = json.loads(options.json.read_text())  # type: ignore[union-attr]
    assert result["agreement"]["kp/vllm"]["equal_answers"] == 1.0
    assert result["agreement"]["kp/vllm"]["answers"] == 40
    assert result["ratios"]["vllm"]["all"] > 0
    assert "block_size 32" in result["implementations"]["vllm"]["way"]


def _on_a_bare_box(program: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", BARE_BOX + program], capture_output=True, text=True, check=False, cwd=REPOSITORY)


def test_bench_on_a_bare_box_runs_without_the_packages_of_a_study(folder: Path) -> None:
    command = f"categorise --facts 2 --rounds 1 --threads 1 --device cpu --model {folder} --questions {folder}/questions.jsonl"

    done = _on_a_bare_box(f"sys.argv = 'bench {command}'.split(); runpy.run_module('kp.bench', run_name='__main__')")

    assert done.returncode == 0, done.stderr
    assert "kp/released" in done.stdout


def test_bench_on_a_bare_box_without_questions_says_that_built_in_facts_need_a_reader(folder: Path) -> None:
    done = _on_a_bare_box(f"sys.argv = 'bench categorise --model {folder}'.split(); runpy.run_module('kp.bench', run_name='__main__')")

    assert done.returncode == 2
    assert "questions: the built-in facts need the package pyarrow" in done.stderr


def test_bench_worker_of_vllm_imports_without_the_packages_of_a_study() -> None:
    done = _on_a_bare_box("import kp.bench.vllm_worker, kp.generation.vllm")

    assert done.returncode == 0, done.stderr


def test_kp_bench_categorise_takes_the_same_options(folder: Path) -> None:
    done = run_kp("bench", "categorise", "--facts", "31", "--model", folder, "--questions", folder / "questions.jsonl")

    assert (done.returncode, done.stdout) == (2, "")
    assert f"facts: 31 are asked for, {folder}/questions.jsonl hold 30" in done.stderr


def test_benchmark_with_kp_in_two_processes_gives_the_answers_of_one(folder: Path, tmp_path: Path) -> None:
    result = _run(folder, tmp_path / "result.json", facts=7, rounds=1, threads=2, processes=2)
    kp, references = result["implementations"]["kp"], result["references"]

    assert kp["way"].endswith("2 processes of 1 thread")
    assert result["agreement"]["kp/released"] == {"answers": 70, "equal_answers": 1.0, "facts": 7, "equal_categories": 1.0}
    assert kp["tokens_read"]["logits"] > 70
    assert len(references["prefill_measured_in_pool"]) == 2
    measured = [sorted(references[name]) for name in ("prefill_measured", "prefill_measured_in_pool")]
    assert references["prefill_tokens_per_s"] == max(sum(rates) / 2 for rates in measured)
