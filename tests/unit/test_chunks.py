"""How much a chunk and a pass hold: chunks by what the study says, rows by the device."""

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain
from types import SimpleNamespace
from typing import Any
from unittest import mock

import peft
import polars as pl
import pytest
import torch

from kp.config.resources import ResourcesConfig
from kp.config.study import ModelConfig, StudyConfig
from kp.generation.hf import HFGenerator
from kp.generation.memory import default_rows
from kp.inference.answering import CHUNK_FACTS, LARGE_STUDY, MOST_CHUNK_FACTS, EngineSpec, make_chunks, most_chunk_facts
from kp.vocabulary import ShotSet
from tests.tiny_model import tiny_llama, tiny_tokenizer

GB = 10**9


def _chunks(facts: int, **resources: Any) -> dict[str, list[str]]:
    """The facts of each chunk by its id, in a study with these resources."""
    ids = [f"f{place:05d}" for place in range(facts)]
    table = pl.DataFrame({"fact_id": ids, "question": ["q"] * facts})
    made = make_chunks(table, [ShotSet.S0], chunk_facts=most_chunk_facts(ResourcesConfig(**resources)))
    return {chunk["chunk_id"]: chunk["fact_ids"] for chunk in made.to_pylist()}


@pytest.mark.parametrize("stated", [{"gpu": True}, {"max_gpus": 4}, {"min_gpus": 1}])
def test_chunk_of_a_study_that_says_it_uses_gpus_holds_more_facts(stated: dict[str, Any]) -> None:
    assert {len(ids) for ids in _chunks(4096, **stated).values()} == {MOST_CHUNK_FACTS}


def test_chunk_of_a_study_that_says_nothing_of_gpus_is_small_unless_the_study_is_large() -> None:
    assert {len(ids) for ids in _chunks(4096).values()} == {CHUNK_FACTS}
    assert {len(ids) for ids in _chunks(4096, gpu=False).values()} == {CHUNK_FACTS}
    assert {len(ids) for ids in _chunks(LARGE_STUDY).values()} == {MOST_CHUNK_FACTS}
    assert {len(ids) for ids in _chunks(40, gpu=True).values()} == {10}  # or actors would have nothing to share


def test_chunks_depend_on_nothing_but_the_study_and_other_sizes_have_other_ids() -> None:
    large, small = _chunks(4096, gpu=True), _chunks(4096)
    assert large == _chunks(4096, gpu=True, generation_batch=64, threads=2, cuda_graphs=True)
    assert not large.keys() & small.keys()
    assert sorted(chain(*large.values())) == sorted(chain(*small.values()))


@contextmanager
def _gpu_of(memory: int) -> Iterator[None]:
    with mock.patch.object(torch.cuda, "get_device_properties", return_value=SimpleNamespace(total_memory=memory)):
        yield


@pytest.mark.parametrize(
    ("memory", "rows"), [(16 * GB, 256), (24 * GB, 256), (40 * GB, 512), (48 * GB, 512), (80 * GB, 1024), (141 * GB, 1024)]
)
def test_rows_that_no_study_states_are_those_of_the_gpu(memory: int, rows: int) -> None:
    with _gpu_of(memory):
        assert default_rows(torch.device("cuda")) == rows
        assert default_rows(torch.device("cpu")) == 256


@pytest.mark.parametrize(("stated", "rows"), [(None, 256), (40, 40)])
def test_generator_on_a_cpu_has_the_stated_rows_or_the_default(stated: int | None, rows: int) -> None:
    assert HFGenerator(tiny_llama(), tiny_tokenizer(), batch_size=stated).batch_size == rows
    engine = EngineSpec(ModelConfig(), 4, stop_at_newline=True, batch_size=stated, threads=1, use_gpu=False)
    assert engine.generator(tiny_llama(), tiny_tokenizer()).batch_size == rows


def test_generator_of_a_model_in_training_has_the_rows_of_its_fellow_workers_on_whatever_gpu() -> None:
    adapted = peft.get_peft_model(tiny_llama(), peft.LoraConfig(target_modules=["q_proj"]))  # type: ignore[arg-type]
    with _gpu_of(80 * GB), mock.patch("kp.generation.hf.default_rows", side_effect=AssertionError):
        assert HFGenerator(adapted, tiny_tokenizer()).batch_size == 256


@pytest.mark.parametrize("field", ["min_gpus", "max_gpus", "cuda_graphs"])
def test_study_without_gpus_that_asks_for_what_only_they_have_is_refused(field: str) -> None:
    asked = {"resources": {"gpu": False, field: True if field == "cuda_graphs" else 1}}
    with pytest.raises(ValueError, match=rf"resources\.{field}"):
        StudyConfig.model_validate({"name": "s", "search": {"unknown": (4,)}, "training": {"lora_alpha": 1, "epochs": 1}} | asked)
