"""A model left and entered between two layers computes what it computes in one piece, for many architectures."""

from typing import Any

import peft
import pytest
import torch
from transformers import AutoModelForCausalLM, GPT2Config, LlamaConfig, MambaConfig, MixtralConfig

from kp.errors import UserError
from kp.models.layers import decoder_layers, entered_at, has_own_dropout, left_at, validate_entering
from tests.model_zoo import ARCHITECTURES, FAMILIES, zoo_model, zoo_tokenizer

LAYERS = 4
IDS = torch.tensor([[7, 30, 42, 99, 12], [8, 9, 77, 50, 51]])


def _model(architecture: str) -> Any:
    return zoo_model(architecture, zoo_tokenizer(FAMILIES["chatml"]), LAYERS)


def _hidden(base: Any, layer: int, model: Any = None) -> torch.Tensor:
    with left_at(base, layer) as reached, torch.no_grad():
        (base if model is None else model)(input_ids=IDS, use_cache=False)
    assert reached.hidden is not None
    return reached.hidden


@pytest.mark.parametrize("layer", [1, 2, 3])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_logits_from_a_middle_layer_are_the_models_own(architecture: str, layer: int) -> None:
    base = _model(architecture)
    with torch.no_grad():
        own = base(input_ids=IDS, use_cache=False).logits
        with entered_at(base, layer, _hidden(base, layer)):
            entered = base(input_ids=IDS, use_cache=False).logits
        after = base(input_ids=IDS, use_cache=False).logits
    torch.testing.assert_close(entered, own, rtol=0, atol=0)
    torch.testing.assert_close(after, own, rtol=0, atol=0)
    validate_entering(base, layer, [5, 6, 7])


@pytest.mark.parametrize("architecture", ["llama", "gpt2", "falcon"])
def test_skipped_layers_are_not_computed(architecture: str) -> None:
    base = _model(architecture)
    hidden = _hidden(base, 2)
    called: list[int] = []
    for number, layer in enumerate(decoder_layers(base)):
        attention = next(module for path, module in layer.named_modules() if "attn" in path or "attention" in path)
        attention.register_forward_hook(lambda *_, number=number: called.append(number))
    with entered_at(base, 2, hidden):
        base(input_ids=IDS, use_cache=False)
    assert set(called) == {2, 3}
    called.clear()
    with left_at(base, 2):
        base(input_ids=IDS, use_cache=False)
    assert set(called) == {0, 1}


def test_other_hidden_states_give_other_logits() -> None:
    base = _model("llama")
    hidden = _hidden(base, 2)
    with torch.no_grad(), entered_at(base, 2, hidden + 1):
        moved = base(input_ids=IDS, use_cache=False).logits
    assert not torch.allclose(moved, base(input_ids=IDS, use_cache=False).logits, atol=1e-2)


@pytest.mark.parametrize("architecture", ["llama", "gpt2", "gemma2", "falcon"])
def test_an_adapter_of_upper_layers_gets_the_gradients_of_the_whole_model(architecture: str) -> None:
    base = _model(architecture)
    targets = {"gpt2": ["c_fc"], "falcon": ["dense_h_to_4h"]}.get(architecture, ["up_proj"])
    torch.manual_seed(0)
    model = peft.get_peft_model(base, peft.LoraConfig(r=2, target_modules=targets, layers_to_transform=[2, 3], init_lora_weights=False))
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]

    def gradients() -> list[torch.Tensor]:
        loss = model(input_ids=IDS, labels=IDS, use_cache=False).loss
        return list(torch.autograd.grad(loss, trained))

    whole = gradients()
    with entered_at(base, 2, _hidden(base, 2, model)):
        upper = gradients()
    assert len(trained) == 4
    assert all(gradient.abs().max() > 0 for gradient in whole)
    torch.testing.assert_close(upper, whole)


@pytest.mark.parametrize("layer", [0, LAYERS, -1])
def test_a_layer_with_none_below_or_above_it_is_refused(layer: int) -> None:
    with pytest.raises(ValueError, match="1 to 3"), left_at(_model("llama"), layer):
        pass


def test_layers_are_restored_after_an_error() -> None:
    base = _model("llama")
    with pytest.raises(ZeroDivisionError), left_at(base, 2):
        raise ZeroDivisionError
    assert not any("forward" in layer.__dict__ for layer in decoder_layers(base))


def test_layers_are_found_among_as_many_experts() -> None:
    sizes: dict[str, Any] = {
        "hidden_size": 32,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "intermediate_size": 48,
        "vocab_size": 99,
    }
    base = AutoModelForCausalLM.from_config(MixtralConfig(**sizes, num_hidden_layers=3, num_local_experts=3, num_experts_per_tok=1))
    assert decoder_layers(base) is base.model.layers


def test_a_model_whose_upper_layers_read_more_than_hidden_states_is_refused() -> None:
    base = _model("llama")
    first, last = base.model.layers[0], base.model.layers[3]
    seen: list[torch.Tensor] = []
    base.get_input_embeddings().register_forward_hook(lambda *_: seen.clear())  # every pass begins there
    first.mlp.register_forward_hook(lambda module, inputs, output: seen.append(output))
    last.mlp.register_forward_hook(lambda module, inputs, output: output + seen.pop() if seen else output)
    with pytest.raises(UserError, match="cannot be run from layer 2") as error:
        validate_entering(base, 2, [5, 6, 7])
    assert error.value.field == "training.layers"


def test_dropout_of_the_model_itself_is_known() -> None:
    llama: dict[str, Any] = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48, "vocab_size": 99}
    assert not has_own_dropout(_model("llama"))
    assert has_own_dropout(AutoModelForCausalLM.from_config(LlamaConfig(**llama, attention_dropout=0.1)))
    assert has_own_dropout(_model("gpt2"))
    still: dict[str, Any] = {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0}
    base = AutoModelForCausalLM.from_config(GPT2Config(n_embd=32, n_layer=2, n_head=4, vocab_size=99, **still))
    assert not has_own_dropout(base)
    adapted = peft.get_peft_model(base, peft.LoraConfig(r=2, target_modules=["c_fc"], lora_dropout=0.5))
    assert not has_own_dropout(adapted.get_base_model())


def test_a_model_with_its_layers_elsewhere_is_refused() -> None:
    base = AutoModelForCausalLM.from_config(MambaConfig(hidden_size=16, num_hidden_layers=2, vocab_size=99, state_size=4))
    base.config.num_hidden_layers = 3
    with pytest.raises(UserError, match="no list of 3 layers"):
        decoder_layers(base)
