"""What a worker keeps of the layers below an adapter, from one trial to the next."""

import logging
from pathlib import Path
from typing import Any

import pytest

from kp.config.study import ModelConfig
from kp.inference.answering import EngineSpec
from kp.training.activations import INDEX_BYTES
from kp.training.base_model_cache import BaseModelCache
from kp.training.engine import with_lora
from kp.training.frozen_layers import FrozenLayers
from kp.vocabulary import Packing
from tests.model_zoo import FAMILIES, zoo_model, zoo_tokenizer
from tests.training_workers import tiny_spec
from tests.unit.test_frozen_layers import row

ROWS = [row(5, 6, 7, 8), row(5, 6, 9)]
TOKENS = 5
TOKEN_BYTES = 32 * 4 + INDEX_BYTES
MODULES = {"llama": ["down_proj"], "gpt2": ["c_proj"]}


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder, tokenizer = tmp_path_factory.mktemp("models"), zoo_tokenizer(FAMILIES["chatml"])
    for architecture in MODULES:
        zoo_model(architecture, tokenizer, layers=4).save_pretrained(str(folder / architecture))
        tokenizer.save_pretrained(str(folder / architecture))
    return folder


def model_cache(models: Path, architecture: str = "llama", tokens: int = 100) -> BaseModelCache:
    """With room for so many tokens."""
    model = ModelConfig(name=str(models / architecture), dtype="float32")
    return BaseModelCache(EngineSpec(model, 8, True, 4, 1, False, activation_cache_gib=tokens * TOKEN_BYTES / 2**30))


def trial(cache: BaseModelCache, layers: str, **training: Any) -> FrozenLayers | None:
    """What a trial of these layers gets, after its rows were read; the base is released as a trial does."""
    architecture = Path(cache.resolved.path).name
    model = with_lora(cache.acquire(), tiny_spec(layers=layers, target_modules=MODULES[architecture], **training))
    frozen = cache.frozen_layers(model, Packing.PREFIX_TREE, ROWS)
    if frozen:
        frozen.read(ROWS)
    cache.release(model.unload())
    return frozen


def test_trials_that_begin_at_the_same_layer_share_what_is_kept(models: Path) -> None:
    cache = model_cache(models)
    one, other, higher = trial(cache, "upper:2"), trial(cache, "2"), trial(cache, "upper:1")
    assert one is not None
    assert other is not None
    assert higher is not None
    assert one.store is other.store
    assert (one.first, higher.first) == (2, 3)
    assert higher.store is not one.store
    assert (one.store.tokens, higher.store.tokens) == (TOKENS, TOKENS)


@pytest.mark.parametrize("layers", ["all", "0,3"])
def test_nothing_is_kept_for_adapters_that_begin_at_the_first_layer(models: Path, layers: str) -> None:
    assert trial(model_cache(models), layers) is None


def test_nothing_is_kept_without_room(models: Path) -> None:
    assert trial(model_cache(models, tokens=0), "upper:1") is None


def test_what_was_unused_for_longest_makes_room(models: Path) -> None:
    cache = model_cache(models, tokens=2 * TOKENS)
    for layers in ("upper:1", "upper:2", "upper:1", "upper:3"):
        trial(cache, layers)
    assert list(cache._stores) == [3, 1]  # the first layers of upper:1 and upper:3
    assert sum(store.bytes for store in cache._stores.values()) == 2 * TOKENS * TOKEN_BYTES


def test_a_model_with_dropout_computes_all_layers_and_that_is_logged_once(models: Path, caplog: pytest.LogCaptureFixture) -> None:
    cache = model_cache(models, "gpt2")
    with caplog.at_level(logging.WARNING):
        assert [trial(cache, "upper:1"), trial(cache, "upper:1")] == [None, None]
    said = [record.getMessage() for record in caplog.records if record.name == "kp.training.base_model_cache"]
    assert said == ["a gpt2 has dropout of its own: all layers are computed in every step"]
