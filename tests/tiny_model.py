"""A random model of a few thousand parameters and a tokenizer of one token a byte, in the folder of a model."""

from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import AutoModelForCausalLM, LlamaConfig, PreTrainedTokenizerFast

TEMPLATE = "{% for m in messages %}<{{ m['role'][0] }}>{{ m['content'] }}<e>{% endfor %}{% if add_generation_prompt %}<a>{% endif %}"
SPECIAL = ["<pad>", "<e>", "<s>", "<u>", "<a>"]


def tiny_tokenizer() -> PreTrainedTokenizerFast:
    """One token per byte, a chat template, padding on the left."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    backend = Tokenizer(models.BPE({token: number for number, token in enumerate([*SPECIAL, *alphabet])}, []))
    backend.add_special_tokens(SPECIAL)
    backend.pre_tokenizer, backend.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, eos_token="<e>", pad_token="<pad>", padding_side="left", chat_template=TEMPLATE
    )


def tiny_llama(layers: int = 2) -> torch.nn.Module:
    """Float32; its greedy answers differ from question to question, and some hold a newline."""
    config = LlamaConfig(
        hidden_size=32,
        num_hidden_layers=layers,
        num_attention_heads=4,
        num_key_value_heads=2,
        intermediate_size=48,
        vocab_size=261,
        max_position_embeddings=2048,
        initializer_range=0.4,
        tie_word_embeddings=False,
        bos_token_id=None,
        eos_token_id=1,
        pad_token_id=0,
    )
    torch.manual_seed(3)
    model: torch.nn.Module = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    return model.eval()


def save_tiny_model(folder: Path, layers: int = 2) -> Path:
    """Both in transformers' format."""
    tiny_llama(layers).save_pretrained(str(folder))  # type: ignore[operator]
    tiny_tokenizer().save_pretrained(str(folder))
    return folder
