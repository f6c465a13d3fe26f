"""The number of operations of an engine, so that its speed can be reported as a share of the machine's matrix multiplication rate.

Only matrix products count, with two operations per multiply-add (Kaplan et al. 2020, arXiv 2001.08361, section 2.1, but attention is
included):

    per token read       2 x parameters of all matrices but the embedding and the head
    per logits position  2 x parameters of the head (hidden size x vocabulary)
    attention            4 x layers x heads x head width x keys seen, summed over the tokens read: queries by keys, weights by values

Norms, softmax, rotary embeddings, token sampling and memory transfers are not counted, so a share of 1 cannot be reached. This is for dense
models: in a mixture of experts a token uses only some of the experts, and this would count all.
"""

from dataclasses import dataclass

from torch import nn

from kp.generation.decoding import Work


@dataclass(frozen=True)
class ModelSize:
    """The sizes that determine the operations of a pass."""

    body: int  # parameters of the matrices that every token is multiplied by
    head: int  # parameters of the matrix that computes logits
    attention: int  # layers x heads x head width


def model_size(model: nn.Module) -> ModelSize:
    """The sizes of a causal model of transformers."""
    config = model.config.get_text_config()  # type: ignore[operator, union-attr]
    heads = config.num_attention_heads
    width = getattr(config, "head_dim", None) or config.hidden_size // heads
    head = model.get_output_embeddings().weight  # type: ignore[operator]
    body = sum(weight.numel() for weight in body_matrices(model))
    return ModelSize(body, head.numel(), config.num_hidden_layers * heads * width)


def body_matrices(model: nn.Module) -> list[nn.Parameter]:
    """The weights that tokens are multiplied by, without the embeddings and the head."""
    looked_up = {id(weight) for module in model.modules() if isinstance(module, nn.Embedding) for weight in module.parameters()}
    looked_up.add(id(model.get_output_embeddings().weight))  # type: ignore[operator]
    return [weight for weight in model.parameters() if weight.ndim == 2 and id(weight) not in looked_up]


def operations(size: ModelSize, work: Work, prompts: int, prefixes: int, prompt_tokens: float) -> float:
    """Operations of `work`, with `prompts` answers behind `prefixes` shared prefixes; `prompt_tokens` is the mean length of a whole prompt.

    Keys are counted by their mean: a token of a prefix sees half the prefix, a token of a question sees the prefix and half the question,
    and a token of an answer sees the prompt and half the answer.
    """
    question, answer = work.prompt_tokens / prompts, work.answer_tokens / prompts
    prefix = work.prefix_tokens / prefixes if prefixes else 0.0
    seen = (
        work.prefix_tokens * prefix / 2
        + work.prompt_tokens * (prompt_tokens - question / 2)
        + work.answer_tokens * (prompt_tokens + answer / 2)
    )
    return 2.0 * size.body * work.tokens + 2.0 * size.head * work.logits + 4.0 * size.attention * seen
