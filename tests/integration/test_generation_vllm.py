"""The vLLM engine for real, in its own environment, held against plain one-at-a-time generation of the embedded model in float32.

One process asks vLLM everything, since loading it takes longer than all its answers. `make vllm-env` makes the environment.
"""

import dataclasses
import json
import os
import subprocess
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from transformers import PreTrainedTokenizerBase

from kp.config.study import ModelConfig
from kp.facts.tables import read_source
from kp.generation.hf import HFGenerator
from kp.generation.protocol import FinishReason
from kp.metrics.agreement import agreement
from kp.models.chat import Chat
from kp.models.loading import load_model, load_tokenizer, resolve_model
from kp.models.names import ResolvedModel
from kp.prompts import builtin_prompts, messages
from kp.vocabulary import ShotSet
from tests.conftest import REPOSITORY

FACTS, PROMPTS, NEW_TOKENS = 12, 5, 12
MODULES = ["gate_proj", "up_proj", "down_proj"]
WORKER = Path(__file__).with_name("vllm_session.py")
PYTHON = Path(os.environ.get("KP_VLLM_PYTHON") or REPOSITORY / ".venv-vllm" / "bin" / "python")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not PYTHON.exists(), reason="no environment with vLLM: `make vllm-env`, or name its interpreter in KP_VLLM_PYTHON"),
]

Messages = list[dict[str, str]]

TALK: list[Messages] = [
    [{"role": "user", "content": text}] for text in ("Tell me a poem", "Write a list of fruits.", "Write a letter to my aunt.")
]
"""Chats whose answers go beyond their first line."""


@pytest.fixture(scope="module")
def resolved() -> ResolvedModel:
    return resolve_model(ModelConfig())


@pytest.fixture(scope="module")
def tokenizer(resolved: ResolvedModel) -> PreTrainedTokenizerBase:
    return load_tokenizer(resolved)


@pytest.fixture(scope="module")
def prompts() -> list[Messages]:
    """The study's own chats: built-in facts of all relations, each under the same prompts of S0."""
    questions = read_source("builtin").facts["question"].to_pylist()
    asked = questions[:: len(questions) // FACTS][:FACTS]
    return [messages(shots, question) for shots in builtin_prompts(ShotSet.S0)[:PROMPTS] for question in asked]


@pytest.fixture(scope="module")
def adapters(resolved: ResolvedModel, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Two adapters of different ranks, and one whose rank is above what the engine is made for."""
    return {name: _save_adapter(resolved, tmp_path_factory.mktemp(name), rank) for name, rank in {"four": 4, "nine": 9, "tall": 40}.items()}


@pytest.fixture(scope="module")
def answers(resolved: ResolvedModel, prompts: list[Messages], adapters: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Everything that vLLM is asked, in this order, by one engine."""
    few = prompts[::5]
    sampled = {"adapter": None, "count": 4}
    return _ask(
        tmp_path_factory.mktemp("vllm"),
        resolved,
        {
            "base": {"adapter": None, "prompts": prompts},
            "talk": {"adapter": None, "prompts": TALK},
            "four": {"adapter": adapters["four"], "prompts": few},
            "nine": {"adapter": adapters["nine"], "prompts": few},
            "four again": {"adapter": adapters["four"], "prompts": few},
            "base again": {"adapter": None, "prompts": prompts},
            "base anew": {"adapter": None, "prompts": prompts, "prefixes": "forgotten"},
            "tall": {"adapter": adapters["tall"], "prompts": few},
            "none": {"adapter": str(Path(adapters["four"]).parent), "prompts": few},
            "long": {"adapter": None, "prompts": [[{"role": "user", "content": "word " * 9000}]]},
            "nothing": {"adapter": None, "prompts": []},
            "sampled": {**sampled, "prompts": few[:3], "seeds": [1, 2, 3]},
            "sampled alone": {**sampled, "prompts": few[1:2], "seeds": [2]},
            "sampled anew": {**sampled, "prompts": few[:3], "seeds": [4, 5, 6]},
        },
    )


def _save_adapter(resolved: ResolvedModel, folder: Path, rank: int) -> str:
    torch.manual_seed(rank)
    config = peft.LoraConfig(r=rank, lora_alpha=2.5, target_modules=MODULES, init_lora_weights=False)
    peft.get_peft_model(load_model(resolved, "float32", "cpu"), config).save_pretrained(str(folder))
    return str(folder)


def _ask(work: Path, resolved: ResolvedModel, requests: dict[str, Any], **others: Any) -> dict[str, Any]:
    engine = {"model_path": resolved.path, "dtype": "float32", "max_new_tokens": NEW_TOKENS, "max_lora_rank": 9}
    (work / "requests.json").write_text(json.dumps({"engine": engine, "requests": requests, **others}), encoding="utf-8")
    command = [str(PYTHON), str(WORKER), str(work / "requests.json"), str(work / "answers.json")]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    done = subprocess.run(command, capture_output=True, text=True, timeout=540, check=False, env=environment)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    found: dict[str, Any] = json.loads((work / "answers.json").read_text(encoding="utf-8"))
    return found


def _plain(model: torch.nn.Module, tokenizer: PreTrainedTokenizerBase, prompts: list[Messages]) -> list[str]:
    """First lines of `model.generate` on one unpadded prompt at a time."""
    texts = []
    for prompt in prompts:
        ids = torch.tensor(Chat(tokenizer).prompt_ids([prompt]))
        with torch.no_grad():
            made = model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=NEW_TOKENS, do_sample=False)  # type: ignore[operator]
        texts.append(tokenizer.decode(made[0, ids.shape[1] :], skip_special_tokens=True).partition("\n")[0])
    return texts


def _texts(made: list[dict[str, Any]]) -> list[str]:
    return [answer["text"] for answer in made]


def test_vllm_base_answers_equal_plain_one_at_a_time_generation(
    answers: Any, resolved: ResolvedModel, tokenizer: PreTrainedTokenizerBase, prompts: list[Messages]
) -> None:
    plain = _plain(load_model(resolved, "float32", "cpu"), tokenizer, prompts)

    assert _texts(answers["base"]) == plain
    assert len(set(plain)) > FACTS  # the model does tell the questions apart


def test_vllm_whose_memory_is_taken_at_its_first_start_answers_the_same_after_its_second(
    answers: Any, resolved: ResolvedModel, prompts: list[Messages], tmp_path: Path
) -> None:
    few = prompts[::5]

    found = _ask(tmp_path, resolved, {"base": {"adapter": None, "prompts": few}}, first_start="fails")

    assert found["base"] == answers["base"][::5]


def test_vllm_answers_end_where_and_as_those_of_the_hf_engine(
    answers: Any, resolved: ResolvedModel, tokenizer: PreTrainedTokenizerBase, prompts: list[Messages]
) -> None:
    model = load_model(resolved, "float32", "cpu")
    made = HFGenerator(model, tokenizer, max_new_tokens=NEW_TOKENS).generate([*prompts, *TALK])

    answered = [*answers["base"], *answers["talk"]]
    assert answered == [dataclasses.asdict(one) for one in made]
    assert {one["finish_reason"] for one in answered} == set(FinishReason)


@pytest.mark.parametrize("name", ["four", "nine"])
def test_vllm_with_an_adapter_answers_as_the_adapter_in_peft(
    name: str, answers: Any, resolved: ResolvedModel, tokenizer: PreTrainedTokenizerBase, prompts: list[Messages], adapters: dict[str, str]
) -> None:
    adapted = peft.PeftModel.from_pretrained(load_model(resolved, "float32", "cpu"), adapters[name]).eval()

    assert _texts(answers[name]) == _plain(adapted, tokenizer, prompts[::5])


def test_vllm_swapping_adapters_serves_no_answer_of_another(answers: Any) -> None:
    few = answers["base"][::5]
    assert agreement(_texts(answers["four"]), _texts(few)).share < 1
    assert agreement(_texts(answers["four"]), _texts(answers["nine"])).share < 1
    assert answers["four again"] == answers["four"]
    assert answers["base again"] == answers["base"]


def test_vllm_with_its_prefixes_forgotten_answers_the_same(answers: Any) -> None:
    assert answers["base anew"] == answers["base"]


def test_vllm_adapter_that_it_does_not_support_is_rejected_by_name(answers: Any, adapters: dict[str, str]) -> None:
    assert "has rank 40, the engine was made for ranks up to 9" in answers["tall"]["refused"]
    assert "has no adapter_config.json" in answers["none"]["refused"]


def test_vllm_prompt_beyond_the_positions_is_refused(answers: Any) -> None:
    assert "exceed the 8192 positions of the model" in answers["long"]["refused"]


def test_vllm_no_prompts_give_no_answers(answers: Any) -> None:
    assert answers["nothing"] == []


def test_vllm_samples_depend_on_their_prompt_and_seed_alone(answers: Any) -> None:
    assert [len(of_prompt) for of_prompt in answers["sampled"]] == [4, 4, 4]
    assert answers["sampled alone"] == answers["sampled"][1:2]
    assert answers["sampled anew"] != answers["sampled"]
