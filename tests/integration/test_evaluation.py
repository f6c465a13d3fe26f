"""Adapters evaluated by the pipeline part by part have the numbers of each adapter alone and undivided; on a tiny model."""

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import torch
from peft import LoraConfig, get_peft_model

from kp import schema
from kp.benchmarks.registry import BenchmarkPlan
from kp.cluster.sizing import Node, plan_cluster
from kp.config.resources import ResourcesConfig
from kp.config.study import EvaluateConfig, ModelConfig
from kp.generation.adapters import adapter_digest, first_adapted_layer, save_scaled_adapter
from kp.generation.surprisal import surprisals
from kp.inference.answering import EngineSpec, answer_chunk, sorted_answers
from kp.inference.evaluation import Evaluation, Measured, MeasuredModel, Measuring, evaluate_all
from kp.metrics.matching import AnswerKeys
from kp.models.loading import load_model, resolve_model
from kp.progress import Display
from kp.prompts import builtin_prompts
from kp.store.filenames import ANSWERS_FILE, BENCHMARK_ITEMS_FILE, BENCHMARKS_FILE, SURPRISAL_FILE
from kp.study.measurements.answers import AnswersTask
from kp.study.measurements.benchmarks import BenchmarkTask
from kp.study.measurements.surprisal import SurprisalTask
from kp.vocabulary import ShotSet
from tests.benchmarked import run_benchmarks
from tests.made_up_study import facts
from tests.tiny_model import save_tiny_model

FACTS = facts().head(12).to_arrow().cast(schema.FACTS)
SHOT_SETS = {ShotSet.S1: builtin_prompts(ShotSet.S1)}
PLAN = BenchmarkPlan(EvaluateConfig(completions=0, mmlu_dev=4, mmlu_fewshot=1, misconceptions=3), seed=0)
LAYERS: dict[str, list[int] | None] = {"all": None, "upper": [1], "upper again": [1]}

pytestmark = pytest.mark.usefixtures("local_ray")


def made_models(folder: Path) -> list[MeasuredModel]:
    """The base and three adapters of a model in this folder, two of which change its upper layer alone."""
    models = [MeasuredModel("base", "rev", None)]
    base = load_model(resolve_model(ModelConfig(name=str(folder))), "float32", "cpu")
    for number, (name, layers) in enumerate(LAYERS.items()):
        torch.manual_seed(number)
        config = LoraConfig(r=4, target_modules=["up_proj", "down_proj"], layers_to_transform=layers, init_lora_weights=False)
        adapted = get_peft_model(base, config)
        adapter = folder / name
        adapted.save_pretrained(str(adapter))
        adapted.unload()
        models.append(MeasuredModel(name, adapter_digest(adapter), adapter, first_adapted_layer(adapter)))
    return [*models, *(replace(one, scale=0.5, model_id=f"{one.model_id}@0.5") for one in models[1:3])]


def undivided(engine: EngineSpec, model: MeasuredModel, work: Path) -> dict[str, pa.Table]:
    """What is measured of a model in this process, with nothing before it."""
    _, generator = engine.load()
    loaded: Any = generator
    folder = model.adapter
    if folder and model.scale != 1:
        save_scaled_adapter(folder, model.scale, folder := work.parent / f"scaled {model.name}")
    loaded.load_adapter(str(folder) if folder else None)
    chunk = {"shot_set": "S1", "fact_ids": FACTS["fact_id"].to_pylist()}
    answers = answer_chunk(loaded, FACTS, SHOT_SETS, chunk, model.model_id, AnswerKeys.of_table(FACTS))
    scored = run_benchmarks(loaded.model, loaded.tokenizer, PLAN, model.trial_id, engine.batch_size, work)
    asked = [(row["question"], row["answers"][0]) for row in FACTS.to_pylist()]
    found = [asdict(one) for one in surprisals(loaded.model, loaded.chat, asked, 1)]
    bits = pa.Table.from_pylist(
        [{"fact_id": fact_id, "model_id": model.model_id} | one for fact_id, one in zip(FACTS["fact_id"].to_pylist(), found, strict=True)],
        schema=schema.SURPRISAL,
    )
    return {SURPRISAL_FILE: bits, ANSWERS_FILE: sorted_answers(answers), BENCHMARKS_FILE: scored.means, BENCHMARK_ITEMS_FILE: scored.items}


def test_evaluated_models_have_the_numbers_of_each_alone_and_undivided(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kp.benchmarks.registry.SHARD_QUESTIONS", 2)
    (tmp_path / "model").mkdir()
    folder = save_tiny_model(tmp_path / "model")
    engine = EngineSpec(ModelConfig(name=str(folder), dtype="float32"), 6, stop_at_newline=True, batch_size=8, threads=1, use_gpu=False)
    models = made_models(folder)
    assert [model.first_layer for model in models] == [0, 0, 1, 1, 0, 1]
    tasks = {"answers/S1": AnswersTask(ShotSet.S1), "benchmarks": BenchmarkTask(PLAN), "surprisal": SurprisalTask()}
    measurings = [Measuring(f"{model.name}-{name}", model, name, task) for model in models for name, task in tasks.items()]
    evaluation = Evaluation(engine, FACTS, SHOT_SETS, tmp_path / "scratch", measurings)
    cluster = plan_cluster(ResourcesConfig(generators=2, threads=1), [Node(2, 0)])

    measured = list(evaluate_all([evaluation], tmp_path / "work", cluster, Display()))

    assert sorted(one.measuring.identity for one in measured) == sorted(one.identity for one in measurings)
    assert all(one.seconds > 0 and len(one.hardware) == 1 for one in measured)
    answers = set()
    for model in models:
        found = tables_of(measured, model)
        expected = undivided(engine, model, tmp_path / "alone")
        assert found[ANSWERS_FILE].equals(expected[ANSWERS_FILE])
        for name in (BENCHMARKS_FILE, BENCHMARK_ITEMS_FILE, SURPRISAL_FILE):
            assert_close(found[name], expected[name])
        answers.add(tuple(found[ANSWERS_FILE]["answer"].to_pylist()))
    assert len(answers) == len(models)  # the adapters are told apart


def tables_of(measured: list[Measured], model: MeasuredModel) -> dict[str, pa.Table]:
    """All tables of a model."""
    return {name: table for one in measured if one.measuring.model == model for name, table in one.tables.items()}


def assert_close(found: pa.Table, expected: pa.Table) -> None:
    """Equal but for rounding: other questions are in a batch."""
    floats = [field.name for field in expected.schema if pa.types.is_floating(field.type)]
    assert found.drop_columns(floats).equals(expected.drop_columns(floats))
    for name in floats:
        assert found[name].to_pylist() == pytest.approx(expected[name].to_pylist(), abs=1e-4)
