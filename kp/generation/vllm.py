"""Answers from vLLM, for GPU clusters: the same chats, tokens and endings as the `hf` engine, computed differently.

vLLM pins versions of torch and transformers that conflict with kp's environment, so this module runs in its own environment and imports
only what exists there: vllm, torch, transformers, and the light modules of kp. It passes token ids to vLLM and gets token ids back; chat
templates, special tokens, endings and text are decided by the modules that the `hf` engine also uses.

Shared prompts are left to vLLM's prefix caching. Its cache distinguishes adapters by name, so an adapter's name is the digest of its
content.
"""

import os
import random
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kp.errors import UserError
from kp.generation.adapters import read_adapter
from kp.generation.endings import Endings, end_tokens, newline_tokens
from kp.generation.prompt_reader import PromptReader
from kp.generation.protocol import Generation, OnAnswered, Prompt, ReadPrompt, ignore_answers
from kp.generation.vllm_start import started
from kp.models.chat import Chat

if TYPE_CHECKING:
    from transformers import GenerationConfig, PreTrainedTokenizerBase

PROCESS_SETTINGS = {
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",  # the engine runs in this process, so its memory is freed when this process ends
    "VLLM_NO_USAGE_STATS": "1",
    "VLLM_LOGGING_LEVEL": "WARNING",
}
"""Environment variables that vLLM reads when it is imported; values set by the user are kept."""

LORA_RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)
"""The values that vLLM accepts for max_lora_rank."""

_CPU_SETTINGS: dict[str, Any] = {
    "enforce_eager": True,  # compiling takes longer than the answers of a study on CPU
    "block_size": 32,  # the fastest for its attention; the default of 128 is longer than most shared prompts, so nothing would be shared
    "kv_cache_memory_bytes": 2 << 30,  # otherwise most of the machine's memory
}


class VLLMGenerator:
    """Answers from the model in the folder `model_path`, on `device` ("cpu" or "cuda"), with weights in `dtype` ("bfloat16", "float32").

    `batch_size` is the most rows that are decoded together. `max_lora_rank` is the largest rank of the adapters to be activated; without it
    the engine supports no adapters. `memory_share` is the share of the GPU's memory that this engine takes. Raises UserError if this
    environment's vLLM is not built for the device, or if that memory is not free.
    """

    def __init__(
        self,
        model_path: str,
        tokenizer: "PreTrainedTokenizerBase",
        dtype: str = "bfloat16",
        device: str = "cpu",
        max_new_tokens: int = 32,
        stop_at_newline: bool = True,
        batch_size: int = 256,
        max_lora_rank: int | None = None,
        memory_share: float = 0.9,
    ) -> None:
        self.tokenizer = tokenizer
        self.on_answered: OnAnswered = ignore_answers
        self._max_new_tokens = max_new_tokens
        self._max_lora_rank = max_lora_rank
        chat = Chat(tokenizer)
        newline = newline_tokens(tokenizer) if stop_at_newline else frozenset()
        self._endings = Endings(end_tokens(_generation_config(model_path), chat), newline)
        self._adapter_numbers: dict[str, int] = {}  # by digest; vLLM needs a number in addition to the name, never used twice
        self._adapter: Any = None
        self._llm: Any = _engine(model_path, dtype, device, batch_size, max_lora_rank, memory_share)
        self._reader = PromptReader(chat, max_new_tokens, self._llm.llm_engine.model_config.max_model_len)

    def read(self, prompts: Sequence[Prompt]) -> list[ReadPrompt]:
        """The prompts rendered and tokenised; raises UserError if a prompt and its answer exceed the model's positions."""
        return self._reader.read(prompts)

    def generate(self, prompts: Sequence[Prompt]) -> list[Generation]:
        """One greedy answer per prompt, in the given order; raises UserError if a prompt and its answer exceed the model's positions."""
        asked = self.read(prompts)
        return self._answers([one.ids for one in asked], [self._parameters(temperature=0.0)] * len(asked))

    def sample(self, prompts: Sequence[Prompt], count: int, temperature: float, seeds: Sequence[int]) -> list[list[Generation]]:
        """For each prompt `count` answers sampled at `temperature` with the prompt's own seed, whatever else is asked."""
        repeated = [one.ids for one in self.read(prompts) for _ in range(count)]
        parameters = [
            self._parameters(temperature=temperature, seed=random.Random(f"{seed}-{number}").getrandbits(62))
            for seed in seeds
            for number in range(count)
        ]
        made = self._answers(repeated, parameters)
        return [made[start : start + count] for start in range(0, len(made), count)]

    def load_adapter(self, path: str | None) -> None:
        """Activate the PEFT adapter saved in this folder instead of the current one; None deactivates it.

        Raises UserError if the folder has no LoRA adapter, one of a higher rank than the engine was made for, or one that vLLM rejects.
        """
        from vllm.lora.request import LoRARequest

        if path is None:
            self._adapter = None
            return
        saved = read_adapter(Path(path))
        if saved.rank > (self._max_lora_rank or 0):
            raise UserError(f"adapter {path}: has rank {saved.rank}, the engine was made for ranks up to {self._max_lora_rank or 0}")
        number = self._adapter_numbers.setdefault(saved.digest, len(self._adapter_numbers) + 1)
        adapter = LoRARequest(lora_name=saved.digest, lora_int_id=number, lora_path=str(saved.folder.resolve()))
        try:
            self._llm.llm_engine.add_lora(adapter)  # now rather than at the first answer, so that the caller gets the error
        except ValueError as error:
            raise UserError(f"adapter {path}: vLLM cannot activate it: {error}") from error
        self._adapter = adapter

    def forget_prefixes(self) -> None:
        """Drop the cached keys and values of shared prompts; a benchmark needs this to measure their computation."""
        if not self._llm.reset_prefix_cache():
            raise RuntimeError("vLLM did not drop its prefix cache")

    def _parameters(self, temperature: float, seed: int | None = None) -> Any:
        from vllm import SamplingParams

        # Endings are passed as tokens, vLLM's own end of sequence is ignored, and text is decoded here: see kp.generation.endings.
        return SamplingParams(
            temperature=temperature,
            seed=seed,
            max_tokens=self._max_new_tokens,
            stop_token_ids=sorted(self._endings.tokens),
            ignore_eos=True,
            detokenize=False,
        )

    def _answers(self, token_ids: list[list[int]], parameters: list[Any]) -> list[Generation]:
        made: list[list[int]] = [[] for _ in token_ids]
        waiting = list(range(len(made)))
        while waiting:
            asked = [{"prompt_token_ids": token_ids[row] + made[row]} for row in waiting]
            limits = [self._with_tokens_left(parameters[row], len(made[row])) for row in waiting]
            for row, answer in zip(waiting, self._llm.generate(asked, limits, lora_request=self._adapter, use_tqdm=False), strict=True):
                made[row] += answer.outputs[0].token_ids
            # vLLM stops at any newline, also at one after a mere label, which does not end an answer.
            waiting = [
                row for row in waiting if len(made[row]) < self._max_new_tokens and not self._endings.ended(self.tokenizer, made[row])
            ]
        self.on_answered(len(made))  # vLLM reports nothing before all are generated
        return [self._endings.generation(self.tokenizer, tokens) for tokens in made]

    def _with_tokens_left(self, parameters: Any, made: int) -> Any:
        if not made:
            return parameters
        left = parameters.clone()
        left.max_tokens = self._max_new_tokens - made
        return left


def _engine(model_path: str, dtype: str, device: str, batch_size: int, max_lora_rank: int | None, memory_share: float) -> Any:
    for name, value in PROCESS_SETTINGS.items():
        os.environ.setdefault(name, value)
    from vllm import LLM
    from vllm.platforms import current_platform

    if current_platform.device_type != device:
        raise UserError(f"its vLLM computes on '{current_platform.device_type}', the study on '{device}'", field="resources.vllm_python")
    settings: dict[str, Any] = {
        "model": model_path,
        "load_format": "safetensors",
        "trust_remote_code": False,
        "dtype": dtype,
        "seed": 0,
        "max_model_len": -1,  # the model's positions, or as many as fit in the memory for keys and values
        "max_num_seqs": batch_size,
        "enable_prefix_caching": True,
        "generation_config": "vllm",  # greedy or as requested; ignores the model's own sampling settings
        **(_CPU_SETTINGS if device == "cpu" else {"gpu_memory_utilization": memory_share}),
        **_lora_settings(max_lora_rank),
    }
    return started(lambda: LLM(**settings), _clean)


def _clean() -> None:
    """Undo what an engine that did not start has set up in this process."""
    from vllm.distributed.parallel_state import cleanup_dist_env_and_memory

    cleanup_dist_env_and_memory()


def _lora_settings(max_lora_rank: int | None) -> dict[str, Any]:
    if max_lora_rank is None:
        return {}
    if max_lora_rank > LORA_RANKS[-1]:
        raise UserError(f"vLLM supports adapters up to rank {LORA_RANKS[-1]}, not {max_lora_rank}", field="search.rank")
    return {"enable_lora": True, "max_loras": 1, "max_lora_rank": next(rank for rank in LORA_RANKS if rank >= max_lora_rank)}


def _generation_config(model_path: str) -> "GenerationConfig":
    """The model's generation config as transformers loads it: from the file, otherwise made from the model's config."""
    from transformers import AutoConfig, GenerationConfig

    if (Path(model_path) / "generation_config.json").is_file():
        return GenerationConfig.from_pretrained(model_path)
    return GenerationConfig.from_model_config(AutoConfig.from_pretrained(model_path, local_files_only=True, trust_remote_code=False))
