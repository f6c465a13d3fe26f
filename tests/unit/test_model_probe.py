"""What is found out about a model from its small files: refused with one line that names the remedy, or settled and said."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import transformers

from kp.config.study import ModelConfig, StudyConfig
from kp.errors import UserError
from kp.models.architecture import resolved_modules
from kp.models.loading import load_model, load_tokenizer, resolve_model, small_files
from kp.models.names import ResolvedModel
from kp.models.probe import ModelProbe, probe_model
from kp.study.probing import probed
from kp.vocabulary import ModuleGroup, Packing
from tests.model_zoo import ARCHITECTURES, FAMILIES, save_zoo_model, zoo_model, zoo_tokenizer

WEIGHTS = "model.safetensors"


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_zoo_model(tmp_path_factory.mktemp("models") / "whole")


@pytest.fixture(name="folder")
def _folder(whole: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(whole, tmp_path / "model"))


def probe(folder: Path, *modules: str) -> ModelProbe:
    config = ModelConfig(name=str(folder))
    found = small_files(config, fetch=True)
    assert found is not None
    return probe_model(config, found, modules)


def changed(name: str, **values: Any) -> Callable[[Path], None]:
    """Changes fields of a JSON file of the folder."""

    def change(folder: Path) -> None:
        file = folder / name
        file.write_text(json.dumps(json.loads(file.read_text()) | values))

    return change


def cut(name: str, to: int) -> Callable[[Path], None]:
    """Keeps the first bytes of a file, or all but the last if `to` is below 0."""
    return lambda folder: (folder / name).write_bytes((folder / name).read_bytes()[:to]) and None


def written(name: str, text: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).write_text(text) and None


def gone(*patterns: str) -> Callable[[Path], None]:
    def remove(folder: Path) -> None:
        for pattern in patterns:
            for file in folder.glob(pattern):
                file.unlink()

    return remove


def another_kind(folder: Path, config: transformers.PretrainedConfig) -> None:
    config.architectures = None
    config.save_pretrained(folder)


LFS = "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n"
REFUSED = {
    "an adapter beside the model": (written("adapter_config.json", "{}"), r"holds an adapter .* name its base model"),
    "an index that is none": (
        lambda folder: (gone(WEIGHTS)(folder), written("model.safetensors.index.json", "{}")(folder)),
        r"model\.safetensors\.index\.json is no index of weights",
    ),
    "weights cut short": (cut(WEIGHTS, -900), r"model\.safetensors is truncated, 900 bytes are missing"),
    "weights cut within the header": (cut(WEIGHTS, 100), r"model\.safetensors is truncated"),
    "empty weights": (cut(WEIGHTS, 0), r"model\.safetensors is truncated"),
    "another file under that name": (written(WEIGHTS, "<html>not found</html> and so on"), r"not a safetensors file"),
    "weights left in Git LFS": (written(WEIGHTS, LFS), r"Git LFS pointer.*git lfs pull"),
    "a tokenizer left in Git LFS": (written("tokenizer.json", LFS), r"tokenizer\.json is a Git LFS pointer"),
    "a config cut short": (cut("config.json", 40), r"config\.json is not valid JSON"),
    "no tokenizer": (gone("tokenizer*", "chat*", "special*"), r"no tokenizer in .* put one of tokenizer\.json"),
    "no config": (gone("config.json"), r"no config\.json"),
    "no weights": (gone("*.safetensors"), r"no weights"),
    "code of its own": (changed("config.json", model_type="newlm", auto_map={"AutoConfig": "c.C"}), r"needs code of its own \(auto_map"),
    "an unknown kind": (changed("config.json", model_type="newlm"), r"transformers cannot read a newlm"),
    "no kind": (written("config.json", "{}"), r"names no model_type"),
    "quantised": (changed("config.json", quantization_config={"quant_method": "gptq", "bits": 4}), r"is quantised \(gptq\).*dense"),
    "a classifier": (changed("config.json", architectures=["LlamaForSequenceClassification"]), r"LlamaForSequenceClassification"),
    "an encoder": (lambda folder: another_kind(folder, transformers.ViTConfig()), r"is a vit, which is no causal language model"),
    "an encoder with a decoder": (
        lambda folder: another_kind(folder, transformers.BartConfig(d_model=16, encoder_layers=1, decoder_layers=1)),
        r"an encoder with a decoder",
    ),
    "a recurrent state": (
        lambda folder: another_kind(folder, transformers.MambaConfig(hidden_size=16, num_hidden_layers=1, vocab_size=270)),
        r"is a mamba, which keeps a recurrent state",
    ),
    "sizes that do not fit": (changed("config.json", num_attention_heads=0), r"transformers cannot"),
    "the tokenizer of a larger model": (changed("config.json", vocab_size=200), r"its embedding has 200 rows"),
}


@pytest.mark.parametrize(("damage", "told"), REFUSED.values(), ids=REFUSED)
def test_probe_refuses_in_one_line(damage: Callable[[Path], None], told: str, folder: Path) -> None:
    damage(folder)
    with pytest.raises(UserError, match=told) as refused:
        probe(folder)
    assert refused.value.field == "model.name"
    assert len(str(refused.value).splitlines()) == 1


def test_probe_of_an_adapter_asks_for_its_base(tmp_path: Path) -> None:
    (tmp_path / "adapter_config.json").write_text("{}")
    with pytest.raises(UserError, match="name its base model"):
        probe(tmp_path)


def test_load_model_refuses_files_that_lack_a_weight(folder: Path) -> None:
    from safetensors.torch import load_file, save_file

    tensors = load_file(folder / WEIGHTS)
    lost = next(name for name in tensors if "up_proj" in name)
    del tensors[lost]
    save_file(tensors, folder / WEIGHTS, metadata={"format": "pt"})
    with pytest.raises(UserError, match=rf"lack 1 weights .* such as {lost}"):
        load_model(resolve_model(ModelConfig(name=str(folder))), "float32", "cpu")


@pytest.mark.parametrize("name", ["model.layers.0.self_attn.q_proj.bias", "model.layers.7.mlp.up_proj.weight"])
def test_load_model_refuses_weights_that_its_config_knows_nothing_of(name: str, folder: Path) -> None:
    import torch
    from safetensors.torch import load_file, save_file

    save_file(load_file(folder / WEIGHTS) | {name: torch.ones(32)}, folder / WEIGHTS, metadata={"format": "pt"})
    with pytest.raises(UserError, match=rf"hold 1 weights that its config\.json does not provide for, such as {name}"):
        load_model(resolve_model(ModelConfig(name=str(folder))), "float32", "cpu")


def test_load_tokenizer_pads_with_a_token_that_the_model_has(folder: Path) -> None:
    tokenizer = zoo_tokenizer(FAMILIES["chatml"])
    tokenizer.add_special_tokens({"pad_token": "[PAD]"})
    assert tokenizer.pad_token_id == len(tokenizer) - 1
    tokenizer.save_pretrained(str(folder))
    assert load_tokenizer(ResolvedModel("m", str(folder), "")).pad_token == tokenizer.eos_token


GROUPS = {
    "llama": ({"q_proj", "k_proj", "v_proj", "o_proj"}, {"gate_proj", "up_proj", "down_proj"}),
    "phi3": ({"qkv_proj", "o_proj"}, {"gate_up_proj", "down_proj"}),
    "gpt2": ({"c_attn", "attn.c_proj"}, {"c_fc", "mlp.c_proj"}),
    "gpt_neox": ({"query_key_value", "dense"}, {"dense_h_to_4h", "dense_4h_to_h"}),
    "falcon": ({"query_key_value", "dense"}, {"dense_h_to_4h", "dense_4h_to_h"}),
}


@pytest.mark.parametrize(("name", "expected"), GROUPS.items(), ids=GROUPS)
def test_resolved_modules_of_a_group_are_its_matrices_and_no_others(name: str, expected: tuple[set[str], set[str]]) -> None:
    import peft

    model = zoo_model(name, zoo_tokenizer(FAMILIES["chatml"]))
    attention, mlp = (resolved_modules(model, [group]) for group in (ModuleGroup.ATTENTION, ModuleGroup.MLP))
    assert (set(attention), set(mlp)) == expected
    adapted = peft.get_peft_model(model, peft.LoraConfig(r=2, target_modules=list(attention), fan_in_fan_out=name == "gpt2"))
    targeted = {path.partition(".lora_A")[0] for path, _ in adapted.named_parameters() if ".lora_A" in path}
    assert len(targeted) == 2 * len(attention)
    assert all("attn" in path or "attention" in path for path in targeted)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_resolved_modules_of_all_linear_leave_out_the_head_and_routers(name: str) -> None:
    model = zoo_model(name, zoo_tokenizer(FAMILIES["chatml"]))
    found = resolved_modules(model, [ModuleGroup.ALL_LINEAR])
    assert not {"lm_head", "embed_out", "router", "gate"} & set(found)
    assert set(found) >= set(resolved_modules(model, [ModuleGroup.ATTENTION])) - {"attn.c_proj"}


UNMATCHED = {
    "fused matrices": ("phi3", ("down_proj", "gate_proj", "up_proj"), r"'gate_proj', 'up_proj' are no modules.*gate_up_proj"),
    "other names": (
        "gpt2",
        ("down_proj",),
        r"'down_proj' is no module of a gpt2; there are: c_attn, c_proj, c_fc, lm_head; or 'attention'",
    ),
    "experts that are no matrices": ("mixtral", ("mlp",), r"'mlp': a mixtral has no such modules of one matrix; there are: q_proj"),
    "a module of several": ("llama", ("self_attn",), r"'self_attn' is a LlamaAttention, not one matrix"),
    "a misspelt name": ("llama", ("q_proj", "qproj"), r"'qproj' is no module"),
}


@pytest.mark.parametrize(("architecture", "names", "told"), UNMATCHED.values(), ids=UNMATCHED)
def test_resolved_modules_unmatched_are_refused_with_those_that_exist(architecture: str, names: tuple[str, ...], told: str) -> None:
    with pytest.raises(UserError, match=told) as refused:
        resolved_modules(zoo_model(architecture, zoo_tokenizer(FAMILIES["chatml"])), names)
    assert refused.value.field == "training.target_modules"


def study(model: Path, **training: Any) -> StudyConfig:
    settings = {"lora_alpha": 16, **training}
    return StudyConfig.model_validate(
        {"name": "s", "model": {"name": str(model)}, "search": {"unknown": [2], "rank": [1]}, "training": settings}
    )


def test_probed_writes_groups_out_and_keeps_names(whole: Path, tmp_path: Path) -> None:
    found = probed(study(whole, target_modules=["attention", "down_proj"]), tmp_path, print, fetch=True, trains=True)
    assert found.config.training.target_modules == ("down_proj", "k_proj", "o_proj", "q_proj", "v_proj")
    assert found.identity("revision", "model.name").startswith("revision-")


def test_probed_without_training_tells_that_no_adapter_can_be_trained(tmp_path: Path) -> None:
    config, notes = study(save_zoo_model(tmp_path, "gpt2")), list[str]()
    probed(config, tmp_path, notes.append, fetch=True, trains=False)
    assert any("no adapter can be trained: training.target_modules" in note for note in notes)
    with pytest.raises(UserError, match="c_attn"):
        probed(config, tmp_path, notes.append, fetch=True, trains=True)


def test_probed_pads_rows_of_a_model_that_counts_columns(tmp_path: Path) -> None:
    folder, notes = save_zoo_model(tmp_path, "falcon"), list[str]()
    changed("config.json", alibi=True)(folder)
    found = probed(study(folder, target_modules=["mlp"]), tmp_path, notes.append, fetch=True, trains=True)
    assert found.config.training.packing is Packing.PADDED
    assert any("training.packing" in note and "ALiBi" in note for note in notes)
