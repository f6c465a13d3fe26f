"""What follows from a study's file and is no separate choice: settings that one section takes from another, and what is asked on which shot
sets.
"""

import itertools
import math

from kp.config.study import FactsConfig, GraphConfig, ModelConfig, ParaphraseConfig, StudyConfig, control_count
from kp.errors import UserError
from kp.vocabulary import ReplayShortfall, ShotSet

BASE_SHOT_SETS = (ShotSet.S0, ShotSet.S1, ShotSet.S2)
"""The shot sets on which every study asks the base model: S0 assigns the category, S1 and S2 measure."""
ADAPTER_SHOT_SET = ShotSet.S1
PARAPHRASER_FIELD = "facts.paraphrase.model"  # names the model that writes paraphrases
REPLAY_SHOT_SET = ShotSet.S0  # assigns the categories of facts that are replayed and never measured


def paraphraser(config: StudyConfig) -> ModelConfig | None:
    """The model that writes paraphrases, in the dtype of the study's own model; None if the study names none."""
    settings = config.facts.paraphrase
    return ModelConfig(name=settings.model, revision=settings.revision, dtype=config.model.dtype) if settings.model else None


def replay_settings(config: StudyConfig) -> FactsConfig | None:
    """How facts of a separate replay source are chosen: like the studied ones, from that source; None if there is none."""
    search = config.search
    if search.replay_source is None:
        return None
    unlike = {"source": search.replay_source, "count": search.replay_count, "relations": (), "graph": GraphConfig()}
    return config.facts.model_copy(update={**unlike, "paraphrase": ParaphraseConfig()})


def asked_shot_sets(repeat_measurements: int) -> tuple[ShotSet, ...]:
    """S0, S1, S2, and one further set for each draw of the noise."""
    return tuple(ShotSet)[: len(BASE_SHOT_SETS) + repeat_measurements]


def base_shot_sets(config: StudyConfig) -> tuple[ShotSet, ...]:
    """The shot sets on which the base model is asked: S0, S1, S2, and one further set for each draw of the noise."""
    return asked_shot_sets(config.categorise.repeat_measurements)


def fact_entropy(config: StudyConfig) -> float | None:
    """The bits of each fact, if they are known, as those of synthetic facts are: log2 of the objects of a relation."""
    return math.log2(config.facts.synthetic.vocabulary) if config.facts.source == "synthetic" else None


def adapter_scales(config: StudyConfig, seed: int) -> tuple[float, ...]:
    """The scales, ascending to 1, at which the adapter of a trial with this seed (the study's added) is measured."""
    of = config.evaluate
    return of.scales if of.scaled_seeds is None or seed - config.seed in of.scaled_seeds else (1.0,)


def repeated_shot_sets(config: StudyConfig) -> tuple[ShotSet, ...]:
    """The shot sets beyond S2, on which the base is only measured again."""
    return base_shot_sets(config)[len(BASE_SHOT_SETS) :]


def validate_pools(config: StudyConfig) -> None:
    """Raise UserError unless the facts of every trial fit into what its pools could be at best; how many the base knows is not known yet.

    Every command but `kp facts` calls it: facts can be chosen and described without a thought of what trials may draw.
    """
    count, facts = config.facts.count, config.facts
    if count is None:
        return
    known_share, unknown_share = (facts.control_share, facts.control_unknown_share) if facts.control_share else (0.0, 0.0)
    for unknown, arm in itertools.product(config.search.unknown, config.search.arms):
        known = (
            []
            if config.search.replay_source or config.search.replay_shortfall is ReplayShortfall.USE_ALL
            else [unknown * each for each in (arm.highly_known, arm.maybe_known)]
        )
        if _least_total(unknown, unknown_share) + sum(_least_total(pool, known_share) for pool in known) <= count:
            continue
        apart = f", of which {facts.control_share:g} of the known ones are control facts" if facts.control_share else ""
        asked = f"{unknown} Unknown facts" + (f" and {sum(known)} known ones" if sum(known) else "")
        raise UserError(f"{asked} cannot be drawn from facts.count = {count}{apart}", field="search.unknown")


def _least_total(pool: int, control_share: float) -> int:
    """The fewest facts of one category of which `pool` are left beside its control facts."""
    total = max(pool, math.floor((pool - 0.5) / (1 - control_share)))
    while total - control_count(total, control_share) < pool:
        total += 1
    return total
