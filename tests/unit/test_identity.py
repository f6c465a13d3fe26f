"""What a step is known by: fields that differ from defaults which are frozen in one file."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from kp.config.identity import DEFAULTS_FILE, Reads, frozen_defaults, stated
from kp.config.search import SearchArm, SearchConfig, TrialSettings
from kp.config.study import CategoriseConfig, StudyConfig
from kp.errors import UserError
from kp.study import freeze
from kp.study.building import build_graph
from kp.study.freeze import READERS, Frozen, check, live
from kp.study.graph import Graph
from kp.study.identities import Identities

FROZEN = freeze.frozen(Path(str(DEFAULTS_FILE)))


def study(**sections: Any) -> StudyConfig:
    return StudyConfig.model_validate({"name": "s", "training": {"lora_alpha": 16}, **sections})


def graph_of(**sections: Any) -> Graph:
    return build_graph(study(**sections), Identities("model", "facts", "shots"))


def test_frozen_defaults_are_those_of_the_code() -> None:
    now = live()
    check(FROZEN, now)
    assert now == FROZEN, "run python -m kp.study.freeze"
    assert Path(str(DEFAULTS_FILE)).read_text(encoding="utf-8") == now.text()


def test_stated_leaves_out_what_is_at_its_default_and_keeps_what_has_none() -> None:
    assert stated(CategoriseConfig()) == {}
    assert stated(CategoriseConfig(samples=4)) == {"samples": 4}
    assert stated(study()) == {"name": "s", "training.lora_alpha": 16.0}
    assert stated(SearchConfig(arms=(SearchArm(), SearchArm(highly_known=2)), rank=(4,))) == {
        "arms": [{}, {"highly_known": 2}],
        "rank": [4],
    }


def test_stated_says_a_field_that_is_not_frozen_and_one_whose_default_moved() -> None:
    defaults = {name: dict(fields) for name, fields in frozen_defaults().items()}
    del defaults["TrialSettings"]["eval_prompts"]
    defaults["TrialSettings"]["grace_epochs"] = 7
    assert stated(TrialSettings(), defaults) == {"eval_prompts": 1, "grace_epochs": 3}


def test_reads_cover_fields_and_sections_but_not_names_that_begin_alike() -> None:
    reads = Reads(("facts", "seed"), but=("facts.graph.aliases", "facts.paraphrase"))
    assert [reads.covers(field) for field in ("facts.count", "facts.graph.per_bucket", "seed")] == [True] * 3
    left_out = ("facts.graph.aliases", "facts.paraphrase.count", "seeds", "factsheet", "training.epochs")
    assert not any(map(reads.covers, left_out))
    assert reads.stated(study(facts={"count": 50, "paraphrase": {"count": 3}}, seed=2)) == {"facts.count": 50, "seed": 2}


def moved(section: str, field: str, value: object) -> Frozen:
    return replace(FROZEN, defaults={**FROZEN.defaults, section: {**FROZEN.defaults[section], field: value}})


@pytest.mark.parametrize(
    ("section", "field", "dotted", "readers"),
    [
        ("CategoriseConfig", "max_new_tokens", "categorise.max_new_tokens", ["categorise", "answers", "generality"]),
        ("TrainingConfig", "weight_decay", "training.weight_decay", ["search", "report"]),
        ("TrialSettings", "reduction_factor", "search.reduction_factor", ["search", "report"]),
        ("Arm", "maybe_known", "search.arms.maybe_known", ["search"]),
        ("FactsConfig", "max_rejected_fraction", "facts.max_rejected_fraction", ["facts", "replay_facts"]),
        ("EvaluateConfig", "mmlu_fewshot", "evaluate.mmlu_fewshot", ["benchmarks"]),
    ],
)
def test_changed_default_is_refused_until_every_version_that_it_decides_rises(
    section: str, field: str, dotted: str, readers: list[str]
) -> None:
    changed = moved(section, field, 3)
    with pytest.raises(UserError, match=rf"^{dotted}: no longer .* by default; raise the version of ") as refusal:
        check(FROZEN, changed)
    assert all(reader in str(refusal.value) for reader in readers)
    concerned = [reader.name for reader in READERS if reader.reads.covers(dotted)]
    for left in concerned:
        risen = {name: version + (name in concerned and name != left) for name, version in FROZEN.versions.items()}
        with pytest.raises(UserError, match=f"raise the version of {left},"):
            check(FROZEN, replace(changed, versions=risen))
    check(FROZEN, replace(changed, versions={name: version + (name in concerned) for name, version in FROZEN.versions.items()}))


def test_default_of_speed_and_place_may_change() -> None:
    check(FROZEN, moved("ResourcesConfig", "generation_batch", 64))


def test_removed_field_is_refused_and_a_new_one_is_not() -> None:
    fewer = {name: value for name, value in FROZEN.defaults["TrainingConfig"].items() if name != "weight_decay"}
    without = replace(FROZEN, defaults={**FROZEN.defaults, "TrainingConfig": fewer})
    with pytest.raises(UserError, match=r"training\.weight_decay"):
        check(FROZEN, without)
    check(without, FROZEN)


def trial_id(**search: Any) -> str:
    return graph_of(search={"unknown": (10,), **search}).trials[0].trial_id


def test_trial_stopped_under_another_factor_is_another_trial() -> None:
    asha = {"scheduler": "asha", "grace_epochs": 2}
    assert trial_id(**asha, reduction_factor=3) != trial_id(**asha)
    assert trial_id(reduction_factor=3) == trial_id()  # which nothing stops


def test_trial_that_anneals_is_another_trial_and_one_that_does_not_is_what_it_was() -> None:
    assert trial_id(stop_at_accuracy=0.9, anneal_epochs=2) != trial_id(stop_at_accuracy=0.9)
    assert trial_id(stop_at_accuracy=0.9, anneal_epochs=0) == trial_id(stop_at_accuracy=0.9)


def test_what_replayed_rows_teach_makes_only_trials_that_replay_anew() -> None:
    arms = [{}, {"paraphrases": 1}, {"highly_known": 1}, {"maybe_known": 1}]
    one, other = (graph_of(search={"unknown": (10,), "arms": arms, "replay_target": target}).trials for target in ("self", "gold"))
    assert [before.trial_id == after.trial_id for before, after in zip(one, other, strict=True)] == [True, True, False, False]


def test_facts_chosen_under_another_share_of_rejected_rows_are_another_step() -> None:
    one, other = (graph_of(facts={"max_rejected_fraction": share}).steps["facts"] for share in (0.05, 0.5))
    assert one.fingerprint != other.fingerprint


# One change of each field that is somebody's to make, and the names of the first steps that it makes anew.
CHANGES: tuple[tuple[dict[str, Any], set[str]], ...] = (
    ({"resources": {"generation_batch": 7, "workers_per_trial": 2}}, set()),
    ({"trackers": {"project": "other"}}, set()),
    ({"name": "other"}, set()),
    ({"facts": {"control_share": 0.4}}, {"parts"}),
    ({"facts": {"control_unknown_share": 0.2}}, {"parts"}),
    ({"evaluate": {"stopped": False}}, set()),
    ({"evaluate": {"shot_sets": ("S1",)}}, set()),
    ({"evaluate": {"placebo": True}}, {"placebo/S1", "placebo/S2"}),
    ({"report": {"margin": 0.05}}, set()),
    ({"categorise": {"repeat_measurements": 2}}, {"repeat/S3", "repeat/S4"}),
    ({"search": {"sampler": "random", "trials": 2, "optuna_batch": 9}}, set()),
    ({"evaluate": {"mmlu_dev": 20}}, {"benchmarks"}),
    ({"evaluate": {"drift_words": 500}}, {"drift"}),
    ({"evaluate": {"held_out_paraphrases": 3}}, {"generality"}),
    ({"categorise": {"max_new_tokens": 9}}, {"categorise", "answers/S1", "answers/S2", "generality", "reversal"}),
    ({"model": {"dtype": "float32"}}, {"categorise", "trial", "benchmarks", "surprisal"}),
    ({"training": {"lora_alpha": 16, "epochs": 3}}, {"trial"}),
    ({"categorise": {"matcher": "exact"}}, {"parts", "trial"}),
    ({"seed": 1}, {"facts", "parts", "trial", "benchmarks", "reversal"}),
)


@pytest.mark.parametrize(("change", "anew"), CHANGES, ids=[str(change) for change, _ in CHANGES])
def test_changed_field_makes_anew_what_it_decides_and_what_rests_on_that(change: dict[str, Any], anew: set[str]) -> None:
    before, after = _steps(graph_of()), _steps(graph_of(**change))
    first = {name for name, (own, _) in after.items() if name not in before or before[name][0] != own}
    assert first == anew


def _steps(graph: Graph) -> dict[str, tuple[object, str]]:
    """Every step's own literals and its fingerprint, by name."""
    trial = graph.trials[0]
    steps = {**graph.steps, **graph.base, "trial": trial.step, **trial.measurements}
    return {name: (step.literals, step.fingerprint) for name, step in steps.items()}
