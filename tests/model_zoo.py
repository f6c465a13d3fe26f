"""Tiny random models of many architectures, and chat templates of many families, written anew after the behaviour of public ones."""

import copy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import (
    AutoModelForCausalLM,
    FalconConfig,
    Gemma2Config,
    Gemma3TextConfig,
    GPT2Config,
    GPTNeoXConfig,
    GptOssConfig,
    LlamaConfig,
    MistralConfig,
    MixtralConfig,
    Olmo2Config,
    Phi3Config,
    PretrainedConfig,
    PreTrainedTokenizerFast,
    Qwen3Config,
)

_SIZES: dict[str, Any] = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "max_position_embeddings": 2048}
_GATED = _SIZES | {"num_key_value_heads": 2, "intermediate_size": 48}
ARCHITECTURES: dict[str, PretrainedConfig] = {
    "llama": LlamaConfig(**_GATED),
    "qwen3": Qwen3Config(**_GATED, head_dim=8),
    "mistral": MistralConfig(**_GATED, sliding_window=None),
    "gemma2": Gemma2Config(**_GATED, head_dim=8),
    "gemma3": Gemma3TextConfig(**_GATED, head_dim=8),
    "phi3": Phi3Config(**_GATED, pad_token_id=0),
    "gpt2": GPT2Config(n_embd=32, n_layer=2, n_head=4, n_positions=2048),
    "gpt_neox": GPTNeoXConfig(**_SIZES, intermediate_size=48),
    "falcon": FalconConfig(**{**_SIZES, "alibi": False, "new_decoder_architecture": False}),
    "olmo2": Olmo2Config(**_GATED),
    "mixtral": MixtralConfig(**_GATED, num_local_experts=2, num_experts_per_tok=1),
    "gpt_oss": GptOssConfig(**_GATED, head_dim=8, num_local_experts=2, num_experts_per_tok=1),
}


@dataclass(frozen=True)
class Family:
    """A family of chat templates and what its tokenizers are like."""

    template: str | None
    special: tuple[str, ...]  # the tokens before the bytes; the first is the pad token
    eos: str
    bos: str | None = None
    sets_around: str | None = None  # what the tokenizer itself sets around a text, as tokenizers writes it
    turn_end: str = field(default="", kw_only=True)  # what ends an answer
    prompt_end: str = field(default="", kw_only=True)  # what a prompt ends with


_LOOP = "{% for m in messages %}"
_ASK = "{% if add_generation_prompt %}"
_ALTERNATE = "{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('user and assistant must take turns') }}{% endif %}"
_DAY = "{% if strftime_now is defined %}{% set today = strftime_now('%d %b %Y') %}{% else %}{% set today = '1 Jan 2000' %}{% endif %}"

FAMILIES = {
    "chatml": Family(
        _LOOP + "<|s|>{{ m.role }}\n{{ m.content }}<|e|>\n{% endfor %}" + _ASK + "<|s|>assistant\n{% endif %}",
        ("<pad>", "<|s|>", "<|e|>", "<|text|>"),
        "<|text|>",
        turn_end="<|e|>",
        prompt_end="<|s|>assistant\n",
    ),
    "dated": Family(
        "{{ bos_token }}" + _DAY + "<h>system<eh>\n\nToday: {{ today }}\n{% if messages[0].role == 'system' %}{{ messages[0].content }}"
        "{% set messages = messages[1:] %}{% endif %}<eot>" + _LOOP + "<h>{{ m.role }}<eh>\n\n{{ m.content | trim }}<eot>{% endfor %}"
        "" + _ASK + "<h>assistant<eh>\n\n{% endif %}",
        ("<pad>", "<begin>", "<h>", "<eh>", "<eot>", "<end>"),
        "<end>",
        "<begin>",
        "<begin> $A",
        turn_end="<eot>",
        prompt_end="<h>assistant<eh>\n\n",
    ),
    "no system turn": Family(
        "{{ bos_token }}{% if messages[0].role == 'system' %}{{ raise_exception('there is no system role') }}{% endif %}"
        "" + _LOOP + _ALTERNATE + "<sot>{{ 'model' if m.role == 'assistant' else m.role }}\n{{ m.content | trim }}<eot>\n{% endfor %}"
        "" + _ASK + "<sot>model\n{% endif %}",
        ("<pad>", "<eos>", "<bos>", "<sot>", "<eot>"),
        "<eos>",
        "<bos>",
        "<bos> $A",
        turn_end="<eot>",
        prompt_end="<sot>model\n",
    ),
    "bracketed": Family(
        "{{ bos_token }}{% if messages[0].role == 'system' %}{% set system = messages[0].content + '\n\n' %}"
        "{% set messages = messages[1:] %}{% else %}{% set system = '' %}{% endif %}"
        + _LOOP
        + _ALTERNATE
        + "{% if m.role == 'user' %}[INST] "
        "{{ (system if loop.last else '') + m.content }} [/INST]{% else %} {{ m.content }}</s>{% endif %}{% endfor %}",
        ("<unk>", "<s>", "</s>", "[INST]", "[/INST]"),
        "</s>",
        "<s>",
        "<s> $A",
        turn_end="</s>",
        prompt_end=" [/INST]",
    ),
    "two ends": Family(
        _LOOP + "<|{{ m.role }}|>\n{{ m.content }}<|done|>\n{% endfor %}" + _ASK + "<|assistant|>\n{% else %}{{ eos_token }}{% endif %}",
        ("<pad>", "<|text|>", "<|done|>", "<|system|>", "<|user|>", "<|assistant|>"),
        "<|text|>",
        turn_end="<|done|>",
        prompt_end="<|assistant|>\n",
    ),
    "thinking switch": Family(
        _LOOP + "<|s|>{{ m.role }}\n{{ m.content }}<|e|>\n{% endfor %}" + _ASK + "<|s|>assistant\n"
        "{% if enable_thinking is defined and not enable_thinking %}<think>\n\n</think>\n\n{% endif %}{% endif %}",
        ("<pad>", "<|s|>", "<|e|>", "<think>", "</think>"),
        "<|e|>",
        turn_end="<|e|>",
        prompt_end="<|s|>assistant\n<think>\n\n</think>\n\n",
    ),
    "open thought": Family(
        "{{ bos_token }}" + _LOOP + "{% if m.role == 'assistant' %}<A>{{ m.content.split('</think>')[-1] }}<eos>{% else %}"
        "<{{ m.role[0] | upper }}>{{ m.content }}{% endif %}{% endfor %}" + _ASK + "<A><think>\n{% endif %}",
        ("<pad>", "<eos>", "<bos>", "<S>", "<U>", "<A>"),
        "<eos>",
        "<bos>",
        "<bos> $A",
        turn_end="<eos>",
        prompt_end="<A><think>\n\n</think>\n\n",
    ),
    "channels": Family(
        _LOOP + "<|start|>{{ m.role }}{% if m.role == 'assistant' %}<|channel|>final{% endif %}<|message|>{{ m.content }}"
        "{% if loop.last and m.role == 'assistant' %}<|return|>{% else %}<|end|>{% endif %}{% endfor %}"
        + _ASK
        + "<|start|>assistant{% endif %}",
        ("<pad>", "<|return|>", "<|start|>", "<|channel|>", "<|message|>", "<|end|>"),
        "<|return|>",
        turn_end="<|return|>",
        prompt_end="<|start|>assistant<|channel|>final<|message|>",
    ),
    "parts": Family(
        _LOOP + "<{{ m.role[0] }}>{% for part in m.content %}{{ part.text }}{% endfor %}<e>{% endfor %}" + _ASK + "<a>{% endif %}",
        ("<pad>", "<e>", "<s>", "<u>", "<a>"),
        "<e>",
        turn_end="<e>",
        prompt_end="<a>",
    ),
    "none": Family(None, ("<pad>", "<bos>", "<eos>"), "<eos>", "<bos>", "<bos> $A <eos>", turn_end="<eos>", prompt_end="?\n"),
}


def zoo_tokenizer(family: Family) -> PreTrainedTokenizerFast:
    """One token per byte and one per special token."""
    names = [*family.special, *sorted(pre_tokenizers.ByteLevel.alphabet())]
    backend = Tokenizer(models.BPE({token: number for number, token in enumerate(names)}, []))
    backend.add_special_tokens(list(family.special))
    backend.pre_tokenizer, backend.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    if family.sets_around:
        used = [(token, names.index(token)) for token in (family.bos, family.eos) if token and token in family.sets_around]
        backend.post_processor = processors.TemplateProcessing(
            single=family.sets_around, pair=f"{family.sets_around} $B", special_tokens=used
        )
    tokens = {"eos_token": family.eos, "pad_token": family.special[0], "bos_token": family.bos, "chat_template": family.template}
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, padding_side="left", **{name: value for name, value in tokens.items() if value is not None}
    )


def zoo_model(architecture: str, tokenizer: PreTrainedTokenizerFast, layers: int | None = None) -> Any:
    """A random model of this architecture for the tokenizer, float32, with `layers` layers (default: those of its config)."""
    config = copy.deepcopy(ARCHITECTURES[architecture])
    if layers is not None:
        named = {name: value for name, value in config.to_dict().items() if name not in ("layer_types", "n_layer", "transformers_version")}
        config = type(config)(**named | {"num_hidden_layers": layers})
    ends = {"bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id}
    config.update({"vocab_size": len(tokenizer), "initializer_range": 0.4, "tie_word_embeddings": False, **ends})
    torch.manual_seed(3)
    return AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()


def save_zoo_model(folder: Path, architecture: str = "llama", family: str = "chatml") -> Path:
    """Both in transformers' format."""
    tokenizer = zoo_tokenizer(FAMILIES[family])
    zoo_model(architecture, tokenizer).save_pretrained(str(folder))
    tokenizer.save_pretrained(str(folder))
    return folder
