"""The model that all implementations share.

If no weights are available, a model is made from its shape alone, directly on the device and in its dtype: as float32 in main memory, the
larger shapes would fit on few machines. Such a model is as fast as the real one, but it generates nonsense and hardly ever ends an answer,
so every answer has the maximum length.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

import torch
from transformers import AutoModelForCausalLM, LlamaConfig, PreTrainedModel, PreTrainedTokenizerBase

from kp.bench.options import DType, Shape
from kp.errors import UserError
from kp.models.chat import Chat
from kp.models.loading import load_model, load_tokenizer, resolve_model

MODEL_FIELD = "model"  # the option that names the model, in messages

SHAPES: dict[Shape, dict[str, Any]] = {
    Shape.LLAMA_3_1_8B: {  # config.json of meta-llama/Llama-3.1-8B
        "vocab_size": 128256,
        "hidden_size": 4096,
        "intermediate_size": 14336,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "max_position_embeddings": 131072,
        "rms_norm_eps": 1e-5,
        "tie_word_embeddings": False,
        "rope_parameters": {
            "rope_type": "llama3",
            "rope_theta": 500000.0,
            "factor": 8.0,
            "low_freq_factor": 1.0,
            "high_freq_factor": 4.0,
            "original_max_position_embeddings": 8192,
        },
    },
    Shape.TINY: {
        "vocab_size": 49152,  # of the embedded model's tokenizer
        "hidden_size": 64,
        "intermediate_size": 160,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 8192,
        "tie_word_embeddings": False,
        "initializer_range": 0.4,  # with which its answers differ from question to question
    },
}


class ModelOptions(Protocol):
    """The options of a benchmark that say which model it measures, and where."""

    @property
    def model(self) -> str:
        """Its name, folder or Hub id."""
        ...

    @property
    def shape(self) -> Shape | None:
        """The shape of random weights."""
        ...

    @property
    def device(self) -> str:
        """The device, or `auto`."""
        ...


@dataclass(frozen=True)
class Subject:
    """A loaded model and what it is; `path` is the folder of its weights, None if they are random."""

    name: str
    revision: str | None
    path: str | None
    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase

    @property
    def device(self) -> torch.device:
        """The model's device."""
        return self.model.device

    @cached_property
    def chat(self) -> Chat:
        """How the model reads chats."""
        return Chat(self.tokenizer, MODEL_FIELD)


@dataclass(frozen=True)
class _Named:
    name: str
    revision: str | None = None


def chosen_device(options: ModelOptions) -> str:
    """The device that `auto` stands for."""
    return options.device if options.device != "auto" else "cuda" if torch.cuda.is_available() else "cpu"


def load_subject(options: ModelOptions, dtype: DType) -> Subject:
    """The model of the options in `dtype`; raises UserError if it cannot be found, or if the tokenizer exceeds the shape."""
    resolved = resolve_model(_Named(options.model), MODEL_FIELD)
    tokenizer, device = load_tokenizer(resolved, MODEL_FIELD), chosen_device(options)
    if options.shape is None:
        return Subject(resolved.name, resolved.revision, resolved.path, load_model(resolved, dtype, device), tokenizer)
    model = shaped_model(options.shape, tokenizer, resolved.name, dtype, device)
    return Subject(shape_name(options.shape), None, None, model, tokenizer)


def shape_name(shape: Shape) -> str:
    """What a model of this shape is called in results."""
    return f"random weights of the shape {shape}"


def shaped_model(shape: Shape, tokenizer: PreTrainedTokenizerBase, name: str, dtype: DType, device: str) -> PreTrainedModel:
    """Random weights of this shape for the tokenizer of the model `name`; raises UserError if the tokenizer exceeds the shape."""
    ends = {end: getattr(tokenizer, end) for end in ("bos_token_id", "eos_token_id", "pad_token_id")}
    config = LlamaConfig(**SHAPES[shape], **ends)
    if len(tokenizer) > config.vocab_size:
        raise UserError(f"'{shape}' has {config.vocab_size} tokens, the tokenizer of '{name}' {len(tokenizer)}", field="shape")
    return random_model(config, dtype, device)


def random_model(config: LlamaConfig, dtype: DType, device: str) -> PreTrainedModel:
    """A model with the same random weights each time, made directly on its device; on device "meta" only its shape."""
    torch.manual_seed(0)
    with torch.device(device):
        model: PreTrainedModel = AutoModelForCausalLM.from_config(config, dtype=getattr(torch, dtype.value))
    return model.eval()
