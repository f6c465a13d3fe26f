"""The files of the studies that `kp pack` runs, as nested values: the survey of what the base knows, the search, and the chosen adapter.

Budgets are spent on rates first, then on mixes, then on ranks (`search.sampler = "stepwise"`); measurements that do not decide the choice
are left out, and can be asked for again with overrides.
"""

import copy
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from kp.config.overrides import apply_override
from kp.config.search import SearchArm
from kp.config.study import StudyConfig, study_of
from kp.packing.request import PackRequest
from kp.search.stepwise import stepwise_size
from kp.training.spec import TrialSpec

Document = dict[str, Any]

TARGET = 0.95
"""Reliability from which facts count as packed; trials end soon after they have it in training."""
RATES = (3e-3, 1e-3, 3e-4, 1e-2)  # in the order in which a larger budget adds them; small models learn nothing below 1e-3
RANKS = (8, 16, 4)
SCALES = (0.5, 0.75, 1.0)
CONTROLS = 0.999  # the largest share of known facts that a study can keep out of training: with up to 500 of them, all
KL = 1.0
EPOCHS = 24
MANY = 6
"""Trials, from which on ASHA stops the weaker half of them after half of their epochs: before, there are too few to compare."""
SMALL = 40  # facts, from which on batches are larger
MOST_TOKENS = 64  # of an answer
SURVEYING = ("seed", "model", "categorise", "resources", "training", "evaluate")  # the sections of the search that the survey shares

_MEASURED: Document = {
    "shot_sets": ["S1"],  # by which the choice is made; the chosen trial is asked on S2 as well
    "held_out_paraphrases": 0,
    "reversed_questions": False,
    "completions": 0,
    "mmlu_dev": 0,
    "misconceptions": 0,
    "surprisal": False,
    "drift_words": 0,
    "stopped": False,
}
"""What the choice among trials does not need is not measured."""


def pack_document(request: PackRequest, taught: int, longest_answer: int, sources: Mapping[str, str | None]) -> Document:
    """The study that searches for the adapter, overrides included.

    `sources` has the paths of `facts` and `replay`; without facts to replay, no mix replays any. `longest_answer` is in characters.
    """
    search = _search_section(request, taught, sources["replay"])
    facts: Document = {"source": sources["facts"], "control_share": CONTROLS, "control_unknown_share": 0.0}
    if request.paraphrases:
        facts["paraphrase"] = {"model": request.model, "count": request.paraphrases}
    document: Document = {
        "name": request.name,
        "model": {"name": request.model, "dtype": "auto"},
        "facts": facts,
        "categorise": {"max_new_tokens": answer_tokens(longest_answer)},
        "search": search,
        "training": {
            "epochs": EPOCHS,
            "batch_size": 4 if taught < SMALL else 8,
            "lora_alpha_per_rank": 2.0,  # the same scale at every rank
            "lora_dropout": 0.0,
        },
        "evaluate": dict(_MEASURED),
        "report": {"margin": request.margin},
    }
    for override in request.overrides:
        apply_override(document, override, StudyConfig)
    if not any(arm.get("highly_known") or arm.get("maybe_known") for arm in document["search"]["arms"]):
        document["search"].pop("replay_source", None)  # the overrides took the mixes away that replay
    most = stepwise_size(
        *(len(document["search"][name]) for name in ("learning_rate", "arms", "rank", "seeds") if name in document["search"])
    )
    document["search"]["trials"] = min(request.trials, most)
    return document


def _search_section(request: PackRequest, taught: int, replay: str | None) -> Document:
    """The section `search`: the lists on which the budget is spent, and when a trial ends."""
    rates, arms, ranks = budgeted(request.trials, replays=replay is not None)
    arms = [arm | {"paraphrases": request.paraphrases} if request.paraphrases else arm for arm in arms]
    search: Document = {
        "unknown": [taught],
        "arms": arms,
        "rank": ranks,
        "learning_rate": rates,
        "sampler": "stepwise",
        "trials": request.trials,
        "stop_at_accuracy": TARGET,
        "stop_patience": 1,
        "anneal_epochs": 2,
        "eval_mode": "teacher_forced",
        "eval_prompts": 2,
        "replay_shortfall": "use_all",
    }
    if request.trials >= MANY:
        search |= {"scheduler": "asha", "grace_epochs": EPOCHS // 2, "reduction_factor": 2}
    if any(arm.get("highly_known") for arm in arms):
        search["replay_source"] = replay
    return search


def budgeted(trials: int, *, replays: bool) -> tuple[list[float], list[Document], list[int]]:
    """The rates (ascending), mixes (the most protective last) and ranks on which this number of trials is spent."""
    protective: list[Document] = (
        [{}, {"highly_known": 1}, {"highly_known": 1, "kl_coefficient": KL}] if replays else [{}, {"weight_decay": 0.1}]
    )
    if trials == 1:
        return [RATES[0]], protective[-1:], [RANKS[0]]
    rates = sorted(RATES[: min(len(RATES), (trials + 1) // 2)])
    left = trials - len(rates)
    mixes = min(len(protective) - 1, max(1, left // 2 + left % 2))
    arms = [protective[0], *protective[len(protective) - mixes :]]
    return rates, arms, list(RANKS[: 1 + max(0, left - mixes)])


def answer_tokens(characters: int) -> int:
    """Tokens for the longest answer: a third of its characters, and as many as a short sentence has around it."""
    return min(MOST_TOKENS, max(12, 8 + math.ceil(characters / 3)))


def survey_document(document: Document, facts: Path, surveyed: Path) -> Document:
    """The study that asks the base the user's facts and whether it knows the surveyed ones; it trains nothing."""
    survey: Document = {section: copy.deepcopy(document[section]) for section in SURVEYING if section in document}
    survey["name"] = f"{document['name']}-survey"
    survey["facts"] = {"source": str(facts), "control_share": 0.0}
    survey["search"] = {"unknown": [1], "arms": [{"highly_known": 1}], "replay_source": str(surveyed)}
    return survey


def scaled_document(document: Document, chosen: TrialSpec, seed: int, scales: Sequence[float] = SCALES) -> Document:
    """The study of the chosen trial alone, at several scales; the trial itself is the one of the search and is not trained again."""
    scaled = copy.deepcopy(document)
    scaled["name"] = f"{document['name']}-scaled"
    search = scaled["search"]
    for name in ("trials", "sampler"):
        search.pop(name, None)
    search |= {
        "arms": [plain_arm(chosen.arm)],
        "rank": [chosen.rank],
        "learning_rate": [chosen.learning_rate],
        "seeds": [chosen.seed - seed],
    }
    if not chosen.replayed:
        search.pop("replay_source", None)
    scaled["evaluate"] |= {"shot_sets": ["S1", "S2"], "scales": list(scales)}
    return scaled


def plain_arm(arm: SearchArm) -> Document:
    """A mix as a study file has it, without what it leaves at its default."""
    return {name: value for name, value in arm.model_dump(mode="json").items() if value != SearchArm.model_fields[name].default}


def config_of(document: Document, origin: Path) -> StudyConfig:
    """The validated study of a document."""
    return study_of(document, (), origin)
