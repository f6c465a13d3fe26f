"""What follows from a study's file and is nobody's to choose: settings that one section lends another, and what is asked on which
shot sets.
"""

from dataclasses import dataclass

from kp.config.study import FactsConfig, GraphConfig, ModelConfig, ParaphraseConfig, StudyConfig
from kp.vocabulary import ShotSet

FEWEST_SETS = 3  # S0, S1, S2
ADAPTER_SHOT_SET = ShotSet.S1
REPLAY_SHOT_SET = ShotSet.S0  # assigns the categories of facts that are replayed and never measured


@dataclass(frozen=True)
class BenchmarkPlan:
    """What is asked: `mmlu_dev` questions drawn by `seed`, with `mmlu_fewshot` shots; the first `misconceptions`. 0 leaves a task out."""

    mmlu_dev: int
    mmlu_fewshot: int
    misconceptions: int
    seed: int


def benchmark_plan(config: StudyConfig) -> BenchmarkPlan | None:
    """What lm-eval is to run, or None where the study asks for no questions."""
    evaluate = config.evaluate
    if not evaluate.mmlu_dev and not evaluate.misconceptions:
        return None
    return BenchmarkPlan(evaluate.mmlu_dev, evaluate.mmlu_fewshot, evaluate.misconceptions, config.seed)


def paraphraser(config: StudyConfig) -> ModelConfig | None:
    """The model that writes paraphrases, or None where the study names none; in the number format of the study's own model."""
    settings = config.facts.paraphrase
    return ModelConfig(name=settings.model, revision=settings.revision, dtype=config.model.dtype) if settings.model else None


def replay_settings(config: StudyConfig) -> FactsConfig | None:
    """How replayed facts are chosen, or None where they are studied ones: as the studied ones, but for what names those."""
    search = config.search
    if search.replay_source is None:
        return None
    unlike = {"source": search.replay_source, "count": search.replay_count, "relations": (), "graph": GraphConfig()}
    return config.facts.model_copy(update={**unlike, "paraphrase": ParaphraseConfig()})


def asked_shot_sets(repeat_measurements: int) -> tuple[ShotSet, ...]:
    """S0, S1, S2, and one further set for each draw of the noise."""
    return tuple(ShotSet)[: FEWEST_SETS + repeat_measurements]


def base_shot_sets(config: StudyConfig) -> tuple[ShotSet, ...]:
    """The shot sets that the base model is asked on: S0, S1, S2, and one further set for each draw of the noise."""
    return asked_shot_sets(config.categorise.repeat_measurements)
