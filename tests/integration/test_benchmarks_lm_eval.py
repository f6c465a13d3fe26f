"""Benchmarks run through the real lm-eval on tiny random models in float32."""

import json
import random
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import torch
from lm_eval import simple_evaluate
from lm_eval.models.huggingface import HFLM
from lm_eval.tasks import TaskManager
from peft import LoraConfig, get_peft_model
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedTokenizerFast

import kp.data.tasks
from kp.benchmarks.lm_eval_tasks import ScoredBenchmarks, run_shard, scored
from kp.benchmarks.registry import BenchmarkPlan
from kp.benchmarks.shared_context import Request, SharedContextLM, group_requests
from kp.config.study import EvaluateConfig
from kp.data.tasks import misconceptions, mmlu_dev
from kp.errors import UserError
from kp.metrics.benchmark_effects import benchmark_effects
from kp.schema import BENCHMARK_ITEMS, BENCHMARKS, frame
from tests.benchmarked import run_benchmarks
from tests.model_zoo import ARCHITECTURES, FAMILIES, zoo_model, zoo_tokenizer


def plan(mmlu_dev: int, mmlu_fewshot: int, misconceptions: int, completions: int = 0) -> BenchmarkPlan:
    asked = {"mmlu_dev": mmlu_dev, "misconceptions": misconceptions, "completions": completions}
    return BenchmarkPlan(EvaluateConfig(mmlu_fewshot=mmlu_fewshot, **asked), seed=0)


PLAN = plan(5, 2, 6, completions=4)
ASKED = ("kp_completions", "kp_mmlu_dev", "kp_misconceptions")
FP32 = 1e-4  # nats
BF16 = 0.3  # HFLM rounds a log-likelihood itself to bfloat16
TASKS = str(Path(kp.data.tasks.__file__).parent)


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    """Bytes as tokens: every text has many, and no file is needed."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {"<end>": 0} | {letter: number for number, letter in enumerate(alphabet, start=1)}
    built = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    built.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    built.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=built, eos_token="<end>", pad_token="<end>")


def tiny_model(model_type: str) -> Any:
    torch.manual_seed(0)
    config = AutoConfig.for_model(
        model_type,
        vocab_size=257,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=8,
        max_position_embeddings=8192,
        initializer_range=0.3,
        tie_word_embeddings=True,
    )
    return AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()


@pytest.fixture(scope="module")
def model() -> Any:
    return tiny_model("llama")


@pytest.fixture(scope="module")
def run(model: Any, tokenizer: Any, tmp_path_factory: pytest.TempPathFactory) -> tuple[ScoredBenchmarks, Path]:
    work = tmp_path_factory.mktemp("benchmarks")
    return run_benchmarks(model, tokenizer, PLAN, "base", 8, work), work


def samples(work: Path, task: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (work / f"{task}.jsonl").read_text().splitlines()]


def test_run_benchmarks_gives_one_row_a_metric_with_truthful_shots(run: tuple[ScoredBenchmarks, Path]) -> None:
    table = run[0].means
    assert table.schema == BENCHMARKS
    rows = {(row["task"], row["metric"]): row for row in table.to_pylist()}
    assert {key: (row["num_fewshot"], row["n"], row["task_version"]) for key, row in rows.items()} == {
        ("kp_completions", "acc"): (0, 4, "1.0"),
        ("kp_mmlu_dev", "acc"): (2, 5, "1.0"),
        ("kp_misconceptions", "mc1"): (0, 6, "1.0"),
        ("kp_misconceptions", "mc2"): (0, 6, "1.0"),
    }
    assert [rows[task, "acc"]["chance"] for task in ASKED[:2]] == pytest.approx([1 / 3, 1 / 4])
    assert all(0 <= row["value"] <= 1 and row["standard_error"] >= 0 and row["trial_id"] == "base" for row in rows.values())


def test_run_benchmarks_items_are_the_questions_with_their_subjects_and_average_to_the_scores(run: tuple[ScoredBenchmarks, Path]) -> None:
    means, items = frame(run[0].means), frame(run[0].items)
    assert run[0].items.schema == BENCHMARK_ITEMS
    drawn, questions = mmlu_dev.draw(5, shots=2, seed=0), mmlu_dev.load_questions()
    assert items.filter(task="kp_mmlu_dev").select("item", "group").rows() == [(index, questions[index].subject) for index in drawn]
    assert items.filter(metric="mc2").select("item", "group").rows() == [(index, str(index)) for index in range(6)]
    found = items.group_by("task", "metric", maintain_order=True).agg(pl.col("score").mean(), pl.len())
    assert found["score"].to_list() == pytest.approx(means["value"].to_list())
    assert found["len"].to_list() == means["n"].to_list()


def test_run_benchmarks_twice_gives_equal_tables(run: tuple[ScoredBenchmarks, Path], model: Any, tokenizer: Any, tmp_path: Path) -> None:
    again = run_benchmarks(model, tokenizer, PLAN, "base", 8, tmp_path)
    assert again.means.equals(run[0].means)
    assert again.items.equals(run[0].items)


def test_run_shard_by_shard_gives_the_tables_of_all_questions_at_once(
    run: tuple[ScoredBenchmarks, Path], model: Any, tokenizer: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kp.benchmarks.registry.SHARD_QUESTIONS", 2)
    shards = PLAN.shards()
    assert len(shards) == 2 + 3 + 3
    made = [run_shard(model, tokenizer, PLAN.settings, shard, "base", 8, tmp_path) for shard in reversed(shards)]
    found = scored(PLAN, made)
    for table, whole in ((found.means, run[0].means), (found.items, run[0].items)):
        floats = [field.name for field in table.schema if field.type == "double"]
        assert table.drop_columns(floats).equals(whole.drop_columns(floats))
        for name in floats:  # other questions in a batch, so mc2 may differ by rounding
            assert table[name].to_pylist() == pytest.approx(whole[name].to_pylist(), abs=1e-5)


def test_run_benchmarks_one_row_a_batch_gives_the_same_scores(
    run: tuple[ScoredBenchmarks, Path], model: Any, tokenizer: Any, tmp_path: Path
) -> None:
    alone = run_benchmarks(model, tokenizer, PLAN, "base", 1, tmp_path).means
    assert alone["value"].to_pylist() == pytest.approx(run[0].means["value"].to_pylist(), abs=1e-5)


def test_run_benchmarks_prints_nothing(model: Any, tokenizer: Any, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    run_benchmarks(model, tokenizer, plan(2, 1, 0), "base", 8, tmp_path)
    assert capfd.readouterr() == ("", "")


def log_likelihood(model: Any, tokenizer: Any, context: str, continuation: str) -> float:
    start = len(tokenizer(context)["input_ids"])
    ids = torch.tensor(tokenizer(context + continuation)["input_ids"])
    with torch.no_grad():
        steps = torch.log_softmax(model(ids[None]).logits[0].float(), dim=-1)
    return sum(float(steps[position - 1, ids[position]]) for position in range(start, len(ids)))


def test_misconception_scores_equal_likelihoods_taken_by_hand(run: tuple[ScoredBenchmarks, Path], model: Any, tokenizer: Any) -> None:
    for sample in samples(run[1], "kp_misconceptions")[:3]:
        question = misconceptions.load_questions()[sample["question"]]
        statements = question["mc2_targets"]["choices"]
        by_hand = {text: log_likelihood(model, tokenizer, f"Q: {question['question']}\nA:", f" {text}") for text in statements}
        assert sample["log_likelihoods"] == pytest.approx(list(by_hand.values()), abs=1e-3)
        best, *wrong = question["mc1_targets"]["choices"]
        assert sample["mc1"] == float(by_hand[best] > max(by_hand[text] for text in wrong))


def test_mmlu_prompt_holds_two_others_of_the_subject_and_ends_with_the_question(run: tuple[ScoredBenchmarks, Path]) -> None:
    asked = [sample["question"] for sample in samples(run[1], "kp_mmlu_dev")]
    assert asked == mmlu_dev.draw(5, shots=2, seed=0)
    task = TaskManager(include_path=TASKS, include_defaults=False).load(["kp_mmlu_dev"])["tasks"]["kp_mmlu_dev"]
    questions = mmlu_dev.load_questions()
    for index in asked:
        prompt = task.fewshot_context(task.task_docs[index], 2)
        question = questions[index]
        others = [other for other in questions if other.subject == question.subject and other is not question]
        assert prompt.count("\nAnswer:") == 3
        assert sum(other.question in prompt for other in others) == 2
        assert prompt.count(question.question) == 1
        options = "".join(f"{letter}. {choice}\n" for letter, choice in zip("ABCD", question.choices, strict=True))
        assert prompt.endswith(f"{question.question}\n{options}Answer:")
        assert prompt.startswith("The following are multiple choice questions (with answers) about " + question.subject.replace("_", " "))


@pytest.mark.parametrize("model_type", ["llama", "mistral", "qwen2", "gemma2"])
def test_shared_context_likelihoods_equal_those_of_plain_hflm(model_type: str, tokenizer: Any, tmp_path: Path) -> None:
    model = tiny_model(model_type)
    run_benchmarks(model, tokenizer, PLAN, "base", 8, tmp_path)
    plain = simple_evaluate(
        model=HFLM(pretrained=model, tokenizer=tokenizer, batch_size=4),
        tasks=list(ASKED),
        num_fewshot=2,
        samples={task: [sample["question"] for sample in samples(tmp_path, task)] for task in ASKED},
        bootstrap_iters=0,
        task_manager=TaskManager(include_path=TASKS, include_defaults=False),
    )["samples"]
    for task in ASKED:
        expected = [[likelihood for likelihood, _ in sample["filtered_resps"]] for sample in plain[task]]
        found = [sample["log_likelihoods"] for sample in samples(tmp_path, task)]
        assert len(found) == len(expected)
        for one, other in zip(found, expected, strict=True):
            assert one == pytest.approx(other, abs=FP32)


def requests(subjects: int = 2, vocabulary: int = 250) -> list[Request]:
    """Questions behind shots, with letters and longer answers; the answers of a question have different lengths."""
    draw = random.Random(2)

    def tokens(count: int) -> list[int]:
        return [draw.randrange(3, vocabulary) for _ in range(count)]

    asked: list[Request] = []
    for subject in range(subjects):
        shots = tokens(50 + 30 * subject)
        for question in range(4):
            context = shots + tokens(6 + 4 * question)
            asked += [(None, context, tokens(length)) for length in (1, 1, 1, 4, 9)]
    draw.shuffle(asked)
    return asked


def assert_as_hflm(
    model: Any, tokenizer: Any, asked: list[Request], tolerance: float = FP32, max_length: int | None = None
) -> SharedContextLM:
    ours = SharedContextLM(model, tokenizer, 8)
    ours._max_length = max_length
    plain = HFLM(pretrained=model, tokenizer=tokenizer, batch_size=4, max_length=max_length)
    found, expected = (lm._loglikelihood_tokens(asked, disable_tqdm=True) for lm in (ours, plain))
    assert [log for log, _ in found] == pytest.approx([log for log, _ in expected], abs=tolerance)
    if tolerance == FP32:
        assert [greedy for _, greedy in found] == [greedy for _, greedy in expected]
    return ours


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_likelihoods_of_every_architecture_equal_those_of_hflm(architecture: str) -> None:
    zoo = zoo_tokenizer(FAMILIES["chatml"])
    lm = assert_as_hflm(zoo_model(architecture, zoo), zoo, requests())
    assert (lm.work is None) == (architecture in {"falcon", "mixtral", "gpt_oss"}), "those are scored by HFLM itself"


def test_likelihoods_of_alibi_equal_those_of_hflm(tokenizer: Any, caplog: pytest.LogCaptureFixture) -> None:
    torch.manual_seed(0)
    config = AutoConfig.for_model("falcon", vocab_size=257, hidden_size=32, num_hidden_layers=1, num_attention_heads=4, alibi=True)
    lm = assert_as_hflm(AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval(), tokenizer, requests())
    assert lm.work is None
    assert "lm-eval's own model scores its benchmarks, because its attention cannot be replaced" in caplog.text


def test_likelihoods_of_contexts_that_are_too_long_equal_those_of_hflm(model: Any, tokenizer: Any) -> None:
    asked = requests()
    assert max(len(context) for _, context, _ in asked) > 60 > min(len(context) for _, context, _ in asked)
    assert_as_hflm(model, tokenizer, asked, max_length=60)


def test_likelihoods_of_model_with_few_positions_equal_those_of_hflm(tokenizer: Any) -> None:
    torch.manual_seed(0)
    config = AutoConfig.for_model("gpt2", vocab_size=257, n_embd=32, n_layer=2, n_head=2, n_positions=64, initializer_range=0.3)
    lm = assert_as_hflm(AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval(), tokenizer, requests())
    assert lm.work is not None


def test_likelihoods_in_bfloat16_equal_those_of_hflm_within_a_tolerance(tokenizer: Any) -> None:
    torch.manual_seed(0)
    config = tiny_model("llama").config
    config.initializer_range = 0.05
    assert_as_hflm(AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16).eval(), tokenizer, requests(), BF16)


def test_group_requests_of_an_empty_or_too_long_continuation_is_refused() -> None:
    with pytest.raises(UserError, match="a continuation of 0 tokens, expected 1 to 8"):
        group_requests([(None, [1, 2], [])], 8)
    with pytest.raises(UserError, match="a continuation of 9 tokens, expected 1 to 8"):
        group_requests([(None, [1, 2], [3] * 9)], 8)


def test_likelihoods_of_parts_equal_those_of_the_whole(model: Any, tokenizer: Any) -> None:
    asked = requests()
    whole = SharedContextLM(model, tokenizer, 8)._loglikelihood_tokens(asked, disable_tqdm=True)
    for part in range(2):
        found = SharedContextLM(model, tokenizer, 8)._loglikelihood_tokens(asked[part::2], disable_tqdm=True)
        assert [log for log, _ in found] == pytest.approx([log for log, _ in whole[part::2]], abs=FP32)
        assert [greedy for _, greedy in found] == [greedy for _, greedy in whole[part::2]]


def test_run_benchmarks_on_a_model_of_another_type_runs_as_hflm(tokenizer: Any, tmp_path: Path) -> None:
    config = AutoConfig.for_model("bloom", vocab_size=257, hidden_size=32, n_layer=1, n_head=2)
    other = AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()
    table = run_benchmarks(other, tokenizer, plan(2, 1, 2), "base", 8, tmp_path).means
    assert table["n"].to_pylist() == [2, 2, 2]


def test_run_benchmarks_adapter_changes_the_scores_of_its_base(run: tuple[ScoredBenchmarks, Path], tokenizer: Any, tmp_path: Path) -> None:
    torch.manual_seed(1)
    adapted = get_peft_model(tiny_model("llama"), LoraConfig(r=4, target_modules=["up_proj"], init_lora_weights=False)).eval()
    found = run_benchmarks(adapted, tokenizer, PLAN, "t1", 8, tmp_path)
    mc2 = [one.means["value"].to_pylist()[-1] for one in (found, run[0])]
    assert mc2[0] != pytest.approx(mc2[1], abs=1e-6)
    assert found.means["template_hash"].to_pylist() == run[0].means["template_hash"].to_pylist()
    effects = benchmark_effects(pl.concat([frame(run[0].items), frame(found.items)]))
    assert effects.filter(metric="mc2")["value"].to_list() == pytest.approx([mc2[0] - mc2[1]])
