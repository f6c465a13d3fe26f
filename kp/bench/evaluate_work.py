"""What `kp bench evaluate` has to do: adapters of three kinds, and the measurement of a study for each of them.

The adapters have small random weights, so they answer in words, as a trained adapter does, and some questions otherwise than the base.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

import pyarrow as pa
import torch

from kp import schema
from kp.bench.options import EvaluateOptions
from kp.bench.questions import Question
from kp.config.layers import layer_numbers
from kp.config.study import ModelConfig
from kp.generation.adapters import adapter_digest, first_adapted_layer
from kp.inference.answering import EngineSpec
from kp.inference.evaluation import Evaluation, MeasuredModel, Measuring
from kp.models.architecture import resolved_modules
from kp.prompts import builtin_prompts
from kp.study.measurements.answers import AnswersTask, answers_on
from kp.vocabulary import ModuleGroup, ShotSet

WEIGHT = 0.02  # standard deviation of the entries of B, by which an adapter changes a matrix by some hundredths of its size
SHOT_SET = ShotSet.S1


class Kind(StrEnum):
    """Which layers the adapters of a line change."""

    ALL = "all"
    UPPER_15 = "upper:15"
    UPPER_8 = "upper:8"


@dataclass(frozen=True)
class Line:
    """The adapters of one kind, and their evaluation."""

    kind: Kind
    first_layer: int
    evaluation: Evaluation

    def alone(self, measuring: Measuring) -> Evaluation:
        """The evaluation of one of the adapters."""
        whole = self.evaluation
        return Evaluation(whole.engine, whole.facts, whole.shot_sets, whole.work, [measuring])


def make_lines(options: EvaluateOptions, model: Any, questions: Sequence[Question], folder: Path) -> list[Line]:
    """One line per kind; the adapters are saved in `folder`. The weights of `model` are left as they are."""
    facts = _facts(questions)
    shot_sets = {SHOT_SET: builtin_prompts(SHOT_SET)}
    # The processes load the model by the options; of the engine the evaluation needs only the size of a batch.
    model_config = ModelConfig(name=options.model)
    engine = EngineSpec(model_config, options.max_new_tokens, True, options.batch_size, options.cpu_threads, use_gpu=False)
    lines = []
    for kind in Kind:
        measurings = [
            _measuring(kind, number, _save_adapter(options, model, kind, number, folder / f"{kind.name.lower()}-{number}"))
            for number in range(options.adapters)
        ]
        lines.append(Line(kind, measurings[0].model.first_layer, Evaluation(engine, facts, shot_sets, folder / "written", measurings)))
    return lines


def _facts(questions: Sequence[Question]) -> pa.Table:
    empty = dict.fromkeys(schema.FACTS.names) | {"subject": "", "relation": "", "object": "", "paraphrases": [], "source": ""}
    rows = [
        empty | {"fact_id": f"{number:06d}", "question": one.text, "answers": list(one.answers)} for number, one in enumerate(questions)
    ]
    return pa.Table.from_pylist(rows, schema=schema.FACTS)


def _measuring(kind: Kind, number: int, adapter: Path) -> Measuring:
    name = f"{kind} {number}"
    model = MeasuredModel(name, adapter_digest(adapter), adapter, first_adapted_layer(adapter))
    return Measuring(name, model, answers_on(SHOT_SET), AnswersTask(SHOT_SET))


def _save_adapter(options: EvaluateOptions, model: Any, kind: Kind, number: int, folder: Path) -> Path:
    from peft import LoraConfig, get_peft_model

    layers = None if kind is Kind.ALL else layer_numbers(kind.value, model.config.get_text_config().num_hidden_layers, "model")
    config = LoraConfig(
        task_type="CAUSAL_LM",
        r=options.rank,
        lora_alpha=2 * options.rank,
        target_modules=list(resolved_modules(model, [ModuleGroup.MLP])),
        layers_to_transform=layers,
    )
    torch.manual_seed(options.seed + 1000 * list(Kind).index(kind) + number)
    adapted = get_peft_model(model, config, autocast_adapter_dtype=False)
    for name, weight in adapted.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight.data, std=WEIGHT)
    adapted.save_pretrained(str(folder))
    adapted.unload()
    return folder
