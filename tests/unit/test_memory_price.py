"""What a study fits on, by hand, and that its plan says so."""

from pathlib import Path
from typing import Any

import pytest

from kp.config.study import StudyConfig
from kp.models.shapes import ModelShape
from kp.study.memory_price import BESIDES, MemoryPrice, memory_price, memory_text
from kp.study.pricing import planned_trials
from kp.training.spec import grid
from tests.unit.test_plan import prices, study

LLAMA_8B = ModelShape(4096, 14336, 32, 32, 8, 128, "config.json", 2 * 128256 * 4096)
LLAMA_70B = ModelShape(8192, 28672, 80, 64, 8, 128, "config.json", 2 * 128256 * 8192)
ADAPTER = 32 * 3 * 8 * (4096 + 14336)  # rank 8 on the three matrices of a feed-forward layer


def price(shape: ModelShape | None, workers: int = 1, per_gpu: int = 1, **training: Any) -> MemoryPrice | None:
    config = StudyConfig.model_validate(
        {
            "name": "s",
            "search": {"rank": (8,)},
            "training": {"lora_alpha": 1, **training},
            "resources": {"workers_per_trial": workers, "per_gpu": per_gpu},
        }
    )
    return memory_price(config, planned_trials(config, grid(config)), shape)


def test_memory_is_that_of_weights_and_the_largest_adapters_states() -> None:
    found = price(LLAMA_8B)
    assert found is not None
    assert found.weights == 2 * LLAMA_8B.parameters == pytest.approx(16.06e9, rel=1e-3)
    assert found.training == found.weights + ADAPTER * (2 + 4 + 12)
    assert found.least == found.training


def test_states_are_divided_among_workers_and_weights_at_stage_3_alone() -> None:
    two, split = price(LLAMA_8B, workers=2), price(LLAMA_8B, workers=2, zero_stage=3)
    assert two is not None
    assert split is not None
    assert two.training == two.weights + 2 * ADAPTER + 8 * ADAPTER
    assert split.training == (split.weights + 2 * ADAPTER) // 2 + 8 * ADAPTER
    assert split.least == split.weights  # which still has to be asked


def test_memory_of_an_unknown_model_or_adapter_is_not_known() -> None:
    assert price(None) is None
    assert price(LLAMA_8B, target_modules=["lm_head"]) is None


def test_plan_names_the_gpus_that_a_study_fits() -> None:
    small, large = price(LLAMA_8B), price(LLAMA_70B, workers=8, zero_stage=3)
    assert small is not None
    assert large is not None
    assert memory_text(small, "bfloat16").endswith("; fits A10, L4, A100-40GB, L40S, A100, H100, H200")
    assert "does not fit H200 (141 GB), the largest GPU known here, and only training splits a model" in memory_text(large, "bfloat16")
    assert not small.fits(small.least / 1e9)
    assert small.fits(small.least / 1e9 + BESIDES)


def test_plan_of_a_study_has_its_memory_unless_it_uses_no_gpu(tmp_path: Path) -> None:
    assert "of weights in bfloat16" in prices(study(), tmp_path)["GPU memory"]
    assert "GPU memory" not in prices(study(resources={"gpu": False}), tmp_path)
