"""Names of models become folders and revisions; nothing here reaches for a network."""

import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from kp.config.study import ModelConfig
from kp.errors import UserError
from kp.models.loading import describe_model, load_model, load_tokenizer, resolve_model
from kp.models.names import EMBEDDED, NOT_FETCHED, ResolvedModel
from kp.study.session import pinned


@pytest.fixture(autouse=True)
def _own_caches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KP_CACHE", str(tmp_path / "kp-cache"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "tiny"
    torch.manual_seed(0)
    sizes: dict[str, Any] = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "vocab_size": 4}
    LlamaForCausalLM(LlamaConfig(**sizes)).save_pretrained(path)
    words = Tokenizer(WordLevel({"<e>": 0, "a": 1, "b": 2, "c": 3}, unk_token="c"))
    PreTrainedTokenizerFast(tokenizer_object=words, eos_token="<e>").save_pretrained(path)
    return path


def _config(name: object, revision: str | None = None) -> ModelConfig:
    return ModelConfig(name=str(name), revision=revision)


def _touch_weights(folder: Path, flip: int) -> None:
    weights = folder / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= flip
    weights.write_bytes(bytes(content))
    os.utime(weights, ns=(1, 10**18 + flip))


def test_resolve_model_of_a_folder_names_its_content_and_not_its_place(folder: Path, tmp_path: Path) -> None:
    first = resolve_model(_config(folder))
    moved = folder.rename(tmp_path / "elsewhere")
    second = resolve_model(_config(moved))

    assert first.revision == second.revision
    assert len(first.revision) >= 16
    assert Path(second.path) == moved.resolve()


@pytest.mark.parametrize("name", ["model.safetensors", "tokenizer.json", "config.json"])
def test_resolve_model_of_a_folder_with_another_byte_gives_another_revision(folder: Path, name: str) -> None:
    before = resolve_model(_config(folder)).revision
    (folder / name).write_bytes((folder / name).read_bytes() + b" ")

    assert resolve_model(_config(folder)).revision != before


def test_resolve_model_hashes_weights_anew_only_when_they_changed(folder: Path) -> None:
    _touch_weights(folder, flip=0)
    before = resolve_model(_config(folder)).revision
    _touch_weights(folder, flip=1)
    changed = resolve_model(_config(folder)).revision
    note = next(path for path in (folder.parent / "kp-cache" / "digests").iterdir() if "model.safetensors" in path.read_text())
    remembered = json.loads(note.read_text()) | {"sha256": "0" * 64}
    note.write_text(json.dumps(remembered))

    assert changed != before
    assert resolve_model(_config(folder)).revision not in (before, changed)  # it trusted the note, same size and time


def test_resolve_model_with_a_torn_digest_note_hashes_again(folder: Path) -> None:
    before = resolve_model(_config(folder)).revision
    for note in (folder.parent / "kp-cache" / "digests").iterdir():
        note.write_text('{"path": "/x", "si')

    assert resolve_model(_config(folder)).revision == before


def test_describe_model_of_a_folder_tells_the_revision_only_once_it_is_known(folder: Path) -> None:
    unknown = describe_model(_config(folder))
    revision = resolve_model(_config(folder)).revision

    assert unknown == "local folder, not hashed yet"
    assert describe_model(_config(folder)) == revision


@pytest.mark.parametrize("name", ["nosuchmodel", "no-such/model", "bad--name/x"])
def test_resolve_model_of_an_unknown_name_says_what_was_tried(name: str) -> None:
    with pytest.raises(UserError, match=rf"model\.name: '{name}' was not found.*embedded model '{EMBEDDED}'.*folder.*Hub"):
        resolve_model(_config(name))


@pytest.mark.parametrize("ask", [resolve_model, describe_model])
def test_a_name_that_can_only_be_a_path_raises(ask, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(UserError, match=r"model\.name: .*gone' is neither"):
        ask(_config(tmp_path / "gone"))


def test_describe_model_of_a_hub_model_that_is_not_here_fetches_nothing() -> None:
    assert describe_model(_config("some-org/some-model")) == NOT_FETCHED


def test_resolve_model_of_a_hub_model_in_the_cache_works_without_a_network(folder: Path, tmp_path: Path) -> None:
    commit = "0123456789abcdef0123456789abcdef01234567"
    repository = tmp_path / "hub" / "models--some-org--some-model"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text(commit)
    (repository / "snapshots").mkdir()
    folder.rename(repository / "snapshots" / commit)

    resolved = resolve_model(_config("some-org/some-model"))

    assert (resolved.name, resolved.revision) == ("some-org/some-model", commit)
    assert describe_model(_config("some-org/some-model")) == commit
    assert resolve_model(_config("some-org/some-model", revision=commit)) == resolved
    assert load_model(resolved, "float32", "cpu").config.hidden_size == 8


def test_resolve_model_of_a_folder_without_weights_raises(folder: Path) -> None:
    (folder / "model.safetensors").unlink()

    with pytest.raises(UserError, match=r"model\.name: .* has no weights"):
        resolve_model(_config(folder))


def test_resolve_model_of_a_folder_that_lacks_one_shard_names_it(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "model-00001-of-00002.safetensors")
    index = {"weight_map": {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))

    with pytest.raises(UserError, match=r"model-00002-of-00002\.safetensors"):
        resolve_model(_config(folder))


def test_resolve_model_of_an_adapter_folder_asks_for_its_base(tmp_path: Path) -> None:
    (tmp_path / "adapter").mkdir()
    (tmp_path / "adapter" / "adapter_config.json").write_text("{}")

    with pytest.raises(UserError, match=r"holds an adapter.*name its base model"):
        resolve_model(_config(tmp_path / "adapter"))


def test_resolve_model_of_a_folder_with_a_revision_raises(folder: Path) -> None:
    with pytest.raises(UserError, match=r"model\.revision: 'main'"):
        resolve_model(_config(folder, revision="main"))


def test_load_tokenizer_pads_on_the_left_with_the_end_token_where_it_has_no_other(folder: Path) -> None:
    tokenizer = load_tokenizer(resolve_model(_config(folder)))

    assert (tokenizer.padding_side, tokenizer.pad_token) == ("left", "<e>")


def test_load_model_gives_the_dtype_asked_for_in_eval_mode(folder: Path) -> None:
    model = load_model(resolve_model(_config(folder)), "bfloat16", "cpu")

    assert {weight.dtype for weight in model.parameters()} == {torch.bfloat16}
    assert not model.training


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a GPU")
def test_load_model_on_a_gpu_that_is_not_there_raises(folder: Path) -> None:
    with pytest.raises(UserError, match=r"resources\.gpu"):
        load_model(resolve_model(_config(folder)), "float32", "cuda")


def test_pinned_hub_model_has_the_commit_that_was_found_and_others_are_as_asked(folder: Path) -> None:
    found = ResolvedModel("any", "/somewhere", "0123abcd")
    assert pinned(_config("org/model", "main"), found).revision == "0123abcd"
    assert pinned(_config(folder), found) == _config(folder)
    assert pinned(_config(EMBEDDED), found) == _config(EMBEDDED)
