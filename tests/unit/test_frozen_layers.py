"""Training from what the layers below the first adapted one have computed once is training with all layers."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers.pytorch_utils import Conv1D

from kp.models.layers import decoder_layers
from kp.training.activations import ABSENT, INDEX_BYTES, ActivationStore
from kp.training.batches import make_batch
from kp.training.encoding import IGNORED, EncodedRow
from kp.training.frozen_layers import FrozenLayers, first_adapted_layer
from kp.training.loss import batch_loss
from kp.vocabulary import Packing
from tests.model_zoo import FAMILIES, zoo_model, zoo_tokenizer

PAD = 0
WIDTH = 3
FIRST = 1


def row(*ids: int, trained: int = 1, replayed: bool = False) -> EncodedRow:
    return EncodedRow(ids, (IGNORED,) * (len(ids) - trained) + ids[len(ids) - trained :], replayed)


ROWS = [row(5, 6, 7), row(5, 6, 8), row(5, 9), row(6, 6, 7, 8)]


def paths(rows: Sequence[EncodedRow], packing: Packing) -> tuple[Any, torch.Tensor]:
    """A batch, and vectors that follow from the path of each token."""
    batch = make_batch(rows, packing, PAD)
    hidden = torch.full((*batch.input_ids.shape, WIDTH), torch.nan)
    for line, column in zip(*(batch.parents != -2).nonzero(), strict=True):
        path, at = [], column
        while at >= 0:
            path.append(int(batch.input_ids[line, at]))
            at = batch.parents[line, at]
        hidden[line, column] = sum(token * 0.9**place for place, token in enumerate(path))
    return batch, hidden


@pytest.mark.parametrize("packing", list(Packing))
def test_store_has_one_vector_for_each_path_and_gives_it_in_every_layout(packing: Packing) -> None:
    store = ActivationStore()
    store.add(*paths(ROWS, packing))
    assert store.tokens == 9
    for other in Packing:
        batch, expected = paths(ROWS[::-1], other)
        assert torch.equal(store.vectors(store.places(batch)), expected.nan_to_num(0.0))
    assert all(store.has(one.ids) for one in ROWS)
    assert not store.has((6, 7))
    assert not store.has((7, 8))


def test_store_grows_and_keeps_what_it_had() -> None:
    store, rows = ActivationStore(), [row(*range(start, start + 40)) for start in range(1, 400)]
    for start in range(0, len(rows), 10):
        store.add(*paths(rows[start : start + 10], Packing.PREFIX_TREE))
    batch, expected = paths(rows, Packing.PADDED)
    assert torch.equal(store.vectors(store.places(batch)), expected)
    assert store.bytes == 399 * 40 * (WIDTH * 4 + INDEX_BYTES)


def test_store_keeps_the_first_paths_within_its_limit() -> None:
    store = ActivationStore(limit=4 * (WIDTH * 4 + INDEX_BYTES) + 1)
    assert not store.full
    batch, hidden = paths(ROWS, Packing.PREFIX_TREE)
    store.add(batch, hidden)
    assert (store.tokens, store.full) == (4, True)
    places = store.places(batch)[0]
    assert places[:4].min() > 0
    assert set(places[4:]) == {ABSENT}
    assert torch.equal(store.vectors(places[:4]), hidden[0, :4])


def test_a_path_whose_beginning_found_no_room_finds_none_either() -> None:
    store = ActivationStore(limit=2 * (WIDTH * 4 + INDEX_BYTES))
    store.add(*paths([row(5, 6, 7)], Packing.PREFIX_TREE))
    store.limit *= 2
    batch, hidden = paths([row(5, 6, 7, 8)], Packing.PREFIX_TREE)
    assert store.places(batch).tolist() == [[1, 2, ABSENT, ABSENT]]
    store.add(batch, hidden)
    assert torch.equal(store.vectors(store.places(batch)), hidden)


def adapted(architecture: str, dropout: float = 0.0) -> Any:
    """A random model of three layers with an adapter in the upper two, which changes what they compute."""
    base = zoo_model(architecture, zoo_tokenizer(FAMILIES["chatml"]), layers=3)
    kinds = (torch.nn.Linear, Conv1D)
    modules = {path.rpartition(".")[2] for path, module in decoder_layers(base).named_modules() if isinstance(module, kinds)}
    config = LoraConfig(task_type="CAUSAL_LM", r=2, lora_dropout=dropout, target_modules=modules, layers_to_transform=[FIRST, 2])
    model = get_peft_model(base, config)
    noise = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for weights in model.parameters():
            if weights.requires_grad:
                weights.add_(0.1 * torch.randn(weights.shape, generator=noise))
    return model


def text_rows(model: Any, count: int = 7) -> list[EncodedRow]:
    tokenizer = zoo_tokenizer(FAMILIES["chatml"])
    texts = [f"Who wrote book {number}{'!' * (number % 3)}? writer {7 * number % 10}" for number in range(count)]
    return [row(*tokenizer(text)["input_ids"], trained=8, replayed=number % 2 == 1) for number, text in enumerate(texts)]


def frozen_layers(model: Any, packing: Packing, limit: int = 2**30) -> FrozenLayers:
    return FrozenLayers(model.get_base_model(), FIRST, ActivationStore(limit), packing, PAD, "cpu")


def without_adapter(model: Any) -> Any:
    def forward(**inputs: Any) -> Any:
        with model.disable_adapter():
            return model(**inputs)

    return forward


def loss_and_gradient(model: Any, rows: list[EncodedRow], packing: Packing, frozen: FrozenLayers | None) -> list[torch.Tensor]:
    batch = make_batch(rows, packing, PAD)
    if frozen:
        with frozen.skipped(rows, batch):
            loss = batch_loss(model, without_adapter(model), batch, "cpu", torch.float32)
    else:
        loss = batch_loss(model, without_adapter(model), batch, "cpu", torch.float32)
    assert loss.kl is not None
    trained = [weights for weights in model.parameters() if weights.requires_grad]
    gradients = torch.autograd.grad(loss.of_step(20, 10, 0.3), trained)
    return [loss.cross_entropy.detach(), loss.kl.detach(), *gradients]


TREES = ["llama", "qwen3", "mistral", "gemma2", "gpt_neox", "falcon", "olmo2", "phi3", "mixtral", "gpt_oss"]
LIMITS = {"all": 2**30, "some": 40 * (32 * 4 + INDEX_BYTES), "none": 1}


@pytest.mark.parametrize("limit", LIMITS)
@pytest.mark.parametrize(
    ("architecture", "packing"), [*((name, packing) for name in TREES for packing in Packing), ("gemma3", Packing.PADDED)]
)
def test_loss_and_gradient_are_those_of_all_layers(architecture: str, packing: Packing, limit: str) -> None:
    model = adapted(architecture).train()
    rows = text_rows(model)
    frozen = frozen_layers(model, packing, LIMITS[limit])
    assert frozen.read(rows) == (limit == "all")
    assert frozen.store.bytes <= LIMITS[limit]
    for some in (rows[:3], rows[2:]):
        expected, found = (loss_and_gradient(model, some, packing, each) for each in (None, frozen))
        for one, other in zip(found, expected, strict=True):
            torch.testing.assert_close(one, other, rtol=0, atol=2e-5 * float(other.abs().max()))


@pytest.mark.parametrize("packing", list(Packing))
def test_lower_layers_compute_nothing_for_rows_that_are_kept(packing: Packing) -> None:
    model = adapted("llama").train()
    rows, passes = text_rows(model), []
    frozen = frozen_layers(model, packing)
    frozen.read(rows)
    model.get_base_model().model.layers[0].mlp.register_forward_hook(lambda *_: passes.append("lower"))
    model.get_base_model().model.layers[1].mlp.register_forward_hook(lambda *_: passes.append("upper"))
    loss_and_gradient(model, rows, packing, frozen)
    assert passes == ["upper", "upper"]
    passes.clear()
    loss_and_gradient(model, [*rows, row(9, 8, 7)], packing, frozen)
    assert sorted(passes) == ["lower", "upper", "upper"]


def test_rows_that_were_read_are_not_read_again() -> None:
    model = adapted("llama")
    frozen, passes = frozen_layers(model, Packing.PREFIX_TREE), []
    model.get_base_model().model.layers[0].register_forward_pre_hook(lambda module, inputs: passes.append(inputs[0].shape[1]))
    rows = text_rows(model, 40)
    assert frozen.read(rows)
    assert len(passes) > 1  # more rows than one pass takes
    assert frozen.store.tokens <= sum(passes) < sum(len(one.ids) for one in rows)
    before = len(passes)
    assert frozen.read([*rows, rows[0]])
    assert len(passes) == before


def test_what_is_kept_does_not_depend_on_the_order_of_rows() -> None:
    model = adapted("llama")
    rows = text_rows(model, 40)
    one, other = (frozen_layers(model, Packing.PREFIX_TREE) for _ in range(2))
    one.read(rows)
    other.read(rows[::-1])
    batch = make_batch(rows[:5], Packing.PREFIX_TREE, PAD)
    assert torch.equal(one.entering(rows[:5], batch), other.entering(rows[:5], batch))


def test_bfloat16_loss_is_that_of_all_layers_within_its_rounding() -> None:
    model = adapted("llama").to(torch.bfloat16).train()
    rows = text_rows(model)
    frozen = frozen_layers(model, Packing.PREFIX_TREE)
    frozen.read(rows[::-1])
    batch = make_batch(rows, Packing.PREFIX_TREE, PAD)
    whole = batch_loss(model, None, batch, "cpu", torch.bfloat16).cross_entropy
    with frozen.skipped(rows, batch):
        found = batch_loss(model, None, batch, "cpu", torch.bfloat16).cross_entropy
    assert frozen.store.token_bytes == 32 * 2 + INDEX_BYTES
    assert float(found) == pytest.approx(float(whole), rel=3e-2)


def test_first_adapted_layer_is_the_lowest_with_trained_weights() -> None:
    model = adapted("llama")
    base = model.get_base_model()
    assert first_adapted_layer(base) == 1
    base.model.layers[0].mlp.up_proj.weight.requires_grad_(True)
    assert first_adapted_layer(base) == 0


def test_first_adapted_layer_is_none_if_embeddings_are_trained() -> None:
    model = adapted("llama")
    model.get_base_model().model.embed_tokens.weight.requires_grad_(True)
    assert first_adapted_layer(model.get_base_model()) == 0


@pytest.mark.parametrize("packing", list(Packing))
def test_nothing_is_against_a_model_that_can_be_entered(packing: Packing) -> None:
    model = adapted("llama")
    assert frozen_layers(model, packing).reason_against(text_rows(model)[:2]) is None


def test_dropout_of_the_model_itself_is_against_it() -> None:
    model = adapted("gpt2")
    assert frozen_layers(model, Packing.PREFIX_TREE).reason_against(text_rows(model)[:2]) == "a gpt2 has dropout of its own"


def test_upper_layers_that_read_more_than_hidden_states_are_against_it() -> None:
    """A layer that adds what the one below has left behind, as models do that share keys between layers."""
    model = adapted("llama")
    lower, upper, _ = model.get_base_model().model.layers
    left: list[torch.Tensor] = []
    model.get_base_model().model.register_forward_pre_hook(lambda *_: left.clear())
    lower.mlp.register_forward_hook(lambda module, inputs, output: left.append(output))
    upper.mlp.register_forward_hook(lambda module, inputs, output: output + sum(one.mean() for one in left))
    reason = frozen_layers(model, Packing.PREFIX_TREE).reason_against(text_rows(model)[:2])
    assert reason is not None
    assert reason.startswith("a llama has another loss if it is entered at layer 1 (")


def test_lora_dropout_falls_on_upper_layers_as_without() -> None:
    """Masks are drawn by the adapter alone, in its layers: the same random numbers give the same loss."""
    model = adapted("llama", dropout=0.5).train()
    rows = text_rows(model)
    frozen = frozen_layers(model, Packing.PREFIX_TREE)
    frozen.read(rows)
    losses = []
    for each in (None, frozen, frozen):
        torch.manual_seed(len(losses) // 2)
        losses.append(float(loss_and_gradient(model, rows, Packing.PREFIX_TREE, each)[0]))
    assert losses[1] == pytest.approx(losses[0], rel=1e-6)
    assert losses[2] != pytest.approx(losses[0], rel=1e-3)


def test_forced_layout_may_differ_from_that_of_training() -> None:
    model = adapted("llama")
    rows = text_rows(model)
    frozen = frozen_layers(model, Packing.PREFIX_TREE)
    frozen.read(rows)
    padded = make_batch(rows, Packing.PADDED, PAD)
    expected = frozen_layers(model, Packing.PADDED).entering(rows, padded)
    found = replace(frozen, packing=Packing.PADDED).entering(rows, padded)
    torch.testing.assert_close(found, expected)
